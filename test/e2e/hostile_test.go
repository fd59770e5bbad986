// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
)

// The process under attack may use so much memory at any time: its admission budget, and what a process needs besides
// (binary, windows and buffers of connections, garbage not yet collected). It runs as in a container of that size: the
// program takes 80 percent of a container's limit for GOMEMLIMIT.
const (
	budgetMiB   = 64
	boundMiB    = budgetMiB + 150
	goMemoryMiB = boundMiB * 8 / 10
)

// besieged has a door without and one with TLS; attacks aim at logs, which go nowhere, and honest clients send traces,
// which must arrive.
const besieged = `
receivers:
  otlp: {protocols: {grpc: {endpoint: "$HOST:4317"}, http: {endpoint: "$HOST:4318"}}}
  otlp/tls: {protocols: {http: {endpoint: "$HOST:5318", tls: {cert_file: "$CERT", key_file: "$KEY"}}}}
exporters: {otlp_http: {endpoint: "http://$HOST:14318"}, nop: {}}
service:
  admission: {limit_mib: 64}
  telemetry: {metrics: {readers: [{pull: {exporter: {prometheus: {host: "$HOST", port: 8888}}}}]}}
  pipelines:
    traces: {receivers: [otlp, otlp/tls], exporters: [otlp_http]}
    metrics: {receivers: [otlp, otlp/tls], exporters: [nop]}
    logs: {receivers: [otlp, otlp/tls], exporters: [nop]}
`

// fortress is the process under attack, with an honest client that never stops.
type fortress struct {
	*process
	host    string
	trust   *tls.Config // for the door with TLS
	backend *backend
	honest  *honest
	grpc    *http.Transport // HTTP/2 without TLS, for messages made by hand
}

func startFortress(t *testing.T) *fortress {
	t.Helper()
	f := &fortress{host: ownHost(t)}
	ca := newAuthority(t, "test")
	files := ca.issue(t, identity{names: []string{f.host}}).write(t, t.TempDir(), "server")
	f.trust = &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS12}
	f.backend = startBackend(t, f.host+":14318", nil)
	config := writeConfig(t, besieged, map[string]string{"HOST": f.host, "CERT": files.cert, "KEY": files.key})
	env := []string{fmt.Sprintf("GOMEMLIMIT=%dMiB", goMemoryMiB)}
	f.process = startWith(t, env, "--config", config, "--implicit-health=off")
	f.await("Everything is ready")
	f.grpc = &http.Transport{Protocols: new(http.Protocols), DisableCompression: true}
	f.grpc.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(f.grpc.CloseIdleConnections)
	f.honest = startHonest(t, f.host)
	return f
}

// memory reads a figure of /proc/PID/status in MiB.
func (f *fortress) memory(t *testing.T, key string) float64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", f.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, key+":"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib / 1024
		}
	}
	t.Fatalf("no %s", key)
	return 0
}

// refusals are the requests refused so far, by reason.
func (f *fortress) refusals(t *testing.T) map[string]float64 {
	t.Helper()
	out := map[string]float64{}
	for key, v := range scrapeAt(t, f.host+":8888") {
		if strings.HasPrefix(key, "holdfast_door_refused_total{") {
			_, rest, _ := strings.Cut(key, `reason="`)
			reason, _, _ := strings.Cut(rest, `"`)
			out[reason] += v
		}
	}
	return out
}

// attack runs fn and sees that memory stays bounded, that the honest client is served while it lasts and afterwards,
// and that refusals were counted for at least the given reasons.
func (f *fortress) attack(t *testing.T, name string, fn func(t *testing.T), reasons ...string) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		// 5 takes the peak back (proc(5), clear_refs), so that each attack has its own.
		_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", f.cmd.Process.Pid), []byte("5"), 0)
		before, refusedBefore, _, _ := f.honest.counts()
		counted := f.refusals(t)
		began := time.Now()
		fn(t)
		took := time.Since(began)
		during, refused, wrongs, _ := f.honest.counts()
		if during == before && took > time.Second {
			t.Errorf("the honest client was not served once in %s", took)
		}
		limit := time.After(patience)
		for after := during; after < during+4; { // two over each protocol
			var changed <-chan struct{}
			if after, _, wrongs, changed = f.honest.counts(); after >= during+4 {
				break
			}
			select {
			case <-changed:
			case <-limit:
				t.Fatalf("the honest client is not served after the attack: %v", wrongs)
			}
		}
		for _, err := range wrongs {
			t.Errorf("the honest client: %v", err)
		}
		f.honest.mu.Lock()
		f.honest.mu.wrongs = nil
		f.honest.mu.Unlock()
		now := f.refusals(t)
		for _, reason := range reasons {
			if now[reason] <= counted[reason] {
				t.Errorf("holdfast_door_refused_total{reason=%q} did not move", reason)
			}
		}
		rss, peak := f.memory(t, "VmRSS"), f.memory(t, "VmHWM")
		t.Logf("VmRSS %.0f MiB, peak %.0f MiB of %d; %s; honest client: %d served, %d refused meanwhile",
			rss, peak, boundMiB, took.Round(time.Millisecond), during-before, refused-refusedBefore)
		if peak > boundMiB {
			t.Errorf("peak %.0f MiB, bound %d MiB", peak, boundMiB)
		}
	})
}

// grpcAnswer is how a call ended.
type grpcAnswer struct {
	code  codes.Code
	text  string
	retry bool // with RetryInfo
}

// call sends the bytes of a request's body as they are to the Export method of a signal (trace, logs, metrics).
func (f *fortress) call(ctx context.Context, signal, encoding string, body io.Reader) (grpcAnswer, error) {
	service := "opentelemetry.proto.collector." + signal + ".v1." +
		map[string]string{"trace": "Trace", "logs": "Logs", "metrics": "Metrics"}[signal] + "Service"
	return f.callMethod(ctx, "/"+service+"/Export", encoding, body)
}

func (f *fortress) callMethod(ctx context.Context, path, encoding string, body io.Reader) (grpcAnswer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+f.host+":4317"+path, body)
	if err != nil {
		return grpcAnswer{}, err
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	if encoding != "" {
		req.Header.Set("Grpc-Encoding", encoding)
	}
	resp, err := f.grpc.RoundTrip(req)
	if err != nil {
		return grpcAnswer{}, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return grpcAnswer{}, err
	}
	trailer := resp.Trailer
	if resp.Header.Get("Grpc-Status") != "" {
		trailer = resp.Header
	}
	code, err := strconv.Atoi(trailer.Get("Grpc-Status"))
	if err != nil {
		return grpcAnswer{}, fmt.Errorf("HTTP status %s without grpc-status", resp.Status)
	}
	text, _ := url.PathUnescape(trailer.Get("Grpc-Message"))
	details, _ := base64.RawStdEncoding.DecodeString(strings.TrimRight(trailer.Get("Grpc-Status-Details-Bin"), "="))
	return grpcAnswer{codes.Code(code), text, bytes.Contains(details, []byte("google.rpc.RetryInfo"))}, nil
}

// postLogs sends a body to the HTTP door.
func (f *fortress) postLogs(ctx context.Context, contentType string, body io.Reader, headers ...string) (answer, error) {
	return post(ctx, nil, "http://"+f.host+":4318/v1/logs", contentType, body, headers...)
}

// raw opens a connection to a port.
func (f *fortress) raw(t *testing.T, port string) net.Conn {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", net.JoinHostPort(f.host, port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Faults: L1–L6.
func TestHostileClientsAreRefusedInBoundedMemoryAndHonestOnesServed(t *testing.T) {
	t.Parallel()
	f := startFortress(t)
	slow := f.startSlow(t) // runs beside everything else; its timers need a minute
	f.attackWithSingleRequests(t)
	f.attackWithBombs(t)
	f.attackWithCrowds(t)
	f.attackWithGarbage(t)
	f.attackWithFrames(t)
	slow.finish(t)

	f.honest.stop()
	<-f.honest.done
	acked, refused, _, _ := f.honest.counts()
	f.backend.await(t, f.honest.mu.acked)
	if code := f.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	lastLine(t, f.process)
	if strings.Contains(f.output(), "goroutine ") || strings.Contains(f.output(), "panic") {
		t.Error("something panicked")
	}
	t.Logf("honest client: %d requests acknowledged and delivered, %d refused for a while", acked, refused)
}
