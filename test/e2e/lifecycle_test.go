// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// oneBackend sends everything of one door to one place.
const oneBackend = `
receivers: {otlp: {protocols: {grpc: {endpoint: "$HOST:4317"}, http: {endpoint: "$HOST:4318"}}}}
exporters:
  otlp_grpc:
    endpoint: "$HOST:14317"
    tls: {insecure: true}
    retry_on_failure: {initial_interval: 100ms, max_interval: 200ms}
extensions: {health_check: {endpoint: "$HOST:13133"}}
service:
  extensions: [health_check]
  telemetry: {metrics: {readers: [{pull: {exporter: {prometheus: {host: "$HOST", port: 8888}}}}]}}
  pipelines: {traces: {receivers: [otlp], exporters: [otlp_grpc]}}
`

// books are the numbers of a run's last line.
type books struct {
	Accepted, Delivered, Queued, Parked, Rejected, Dropped, Imbalance int64
}

// lastLine reads the books and checks that they balance.
func lastLine(t *testing.T, p *process) books {
	t.Helper()
	found := p.await(`Shutdown complete\.\t(\{.*\})`)
	var b books
	if err := json.Unmarshal([]byte(found[1]), &b); err != nil {
		t.Fatal(err)
	}
	if b.Accepted != b.Delivered+b.Queued+b.Parked+b.Rejected+b.Dropped || b.Imbalance != 0 {
		t.Errorf("the books do not balance: %+v", b)
	}
	return b
}

func TestPIDFileNamesTheProcessAndGoesWithIt(t *testing.T) {
	host, path := ownHost(t), filepath.Join(t.TempDir(), "run", "pid")
	config := plainAt(t, host)
	p := start(t, "--config", config, "--pid-file", path)
	p.await("Everything is ready")
	if text, err := os.ReadFile(path); err != nil || string(text) != strconv.Itoa(p.cmd.Process.Pid)+"\n" {
		t.Fatalf("PID file %q (%v), want %d", text, err, p.cmd.Process.Pid)
	}

	other := runOnce(t, "", nil, "--config", plainAt(t, ownHost(t)), "--pid-file", path)
	refused(t, other, fmt.Sprintf(`^Error: pid file "\S+": process %d is running`, p.cmd.Process.Pid))
	if text, err := os.ReadFile(path); err != nil || strings.TrimSpace(string(text)) != strconv.Itoa(p.cmd.Process.Pid) {
		t.Fatalf("the refused process changed the PID file: %q (%v)", text, err)
	}

	p.signal(syscall.SIGKILL)
	p.exit()
	if _, err := os.Stat(path); err != nil {
		t.Fatal("kill -9 leaves the file behind, or this test shows nothing: ", err)
	}
	p = start(t, "--config", config, "--pid-file", path)
	p.await("Everything is ready")
	if text, err := os.ReadFile(path); err != nil || string(text) != strconv.Itoa(p.cmd.Process.Pid)+"\n" {
		t.Errorf("a stale PID file is not replaced: %q (%v)", text, err)
	}
	if code := p.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the PID file stays behind: %v", err)
	}
}

func TestSIGTERMWithAnEmptyQueueExits0AtOnce(t *testing.T) {
	for _, s := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		host := ownHost(t)
		p := collector(t, plain, map[string]string{"HOST": host})
		mustPost(t, "http://"+host+":4318/v1/traces", protobufType, wire(t, spans(numbered("s", 10))))
		began := time.Now()
		p.signal(s)
		if code := p.exit(); code != 0 {
			t.Errorf("%s: exit code %d, want 0", s, code)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("%s: took %s with nothing to do", s, took)
		}
		if b := lastLine(t, p); b.Accepted != 10 || b.Delivered != 10 {
			t.Errorf("%s: %+v, want 10 accepted and delivered", s, b)
		}
	}
}

// Fault: P4, of a queue in memory. What nobody takes is dropped with a record, within the bound, and said.
func TestSIGTERMWithADeadBackendExits3InTimeAndTheBooksBalance(t *testing.T) {
	host := ownHost(t)
	const bound = 10 * time.Second
	p := collector(t, oneBackend, map[string]string{"HOST": host}, "--shutdown-timeout", bound.String())
	for i := range 10 {
		mustPost(t, "http://"+host+":4318/v1/traces", protobufType, wire(t, spans(numbered(strconv.Itoa(i), 20))))
	}
	began := time.Now()
	code := p.stop()
	if took := time.Since(began); took > bound {
		t.Errorf("took %s, --shutdown-timeout is %s", took, bound)
	}
	if code != 3 {
		t.Errorf("exit code %d, want 3", code)
	}
	if b := lastLine(t, p); b.Accepted != 200 || b.Dropped != 200 || b.Queued != 0 {
		t.Errorf("%+v, want 200 accepted and dropped", b)
	}
	p.await(`error\t.*Queue: records dropped\t.*"destination": "otlp_grpc", "reason": "shutdown", "items": 200\b`)
	p.await(`Error: shutdown: 200 items queued in memory were dropped`)
}

func TestSIGTERMDeliversWhatABackendTakesInTime(t *testing.T) {
	host := ownHost(t)
	p := collector(t, oneBackend, map[string]string{"HOST": host}, "--shutdown-timeout", "25s")
	names := numbered("late", 100)
	mustPost(t, "http://"+host+":4318/v1/traces", protobufType, wire(t, spans(names)))
	p.await("Exporting failed. Will retry")
	p.signal(syscall.SIGTERM)
	p.await("Starting shutdown")
	b := startBackend(t, host+":14317", nil)
	b.await(t, names)
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if b := lastLine(t, p); b.Accepted != 100 || b.Delivered != 100 {
		t.Errorf("%+v, want 100 accepted and delivered", b)
	}
}

// Fault: P5.
func TestSecondSIGTERMCutsDeliveries(t *testing.T) {
	host := ownHost(t)
	p := collector(t, oneBackend, map[string]string{"HOST": host}, "--shutdown-timeout", "60s")
	mustPost(t, "http://"+host+":4318/v1/traces", protobufType, wire(t, spans(numbered("s", 50))))
	p.signal(syscall.SIGTERM)
	p.await(`Shutdown step done\t.*"step": "receiver"`)
	if get := getStatus(t, "http://"+host+":13133/readyz"); get != http.StatusServiceUnavailable {
		t.Errorf("/readyz is %d while stopping, want 503", get)
	}
	began := time.Now()
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != 3 {
		t.Errorf("exit code %d, want 3", code)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %s after the second signal", took)
	}
	if b := lastLine(t, p); b.Accepted != 50 || b.Dropped != 50 {
		t.Errorf("%+v, want 50 accepted and dropped", b)
	}
}

// Fault: L5, at the end. Whoever has connected and says nothing does not hold up a stop; whoever is in the middle of a
// request does so for 5 s at most.
func TestSIGTERMIsNotHeldUpByClientsThatSayNothing(t *testing.T) {
	t.Parallel()
	const head = "POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: " + protobufType + "\r\n"
	for _, c := range []struct {
		name, port, text string
		within           time.Duration
	}{
		{"silent gRPC connections", "4317", "", 3 * time.Second},
		{"half a preface", "4317", "PRI * HT", 3 * time.Second},
		{"silent HTTP connections", "4318", "", 3 * time.Second},
		{"half a header", "4318", head, 3 * time.Second},
		{"idle after a request", "4318", head + "Content-Length: 0\r\n\r\n", 3 * time.Second},
		{"half a body", "4318", head + "Content-Length: 100\r\n\r\nx", 8 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			host := ownHost(t)
			p := collector(t, plain, map[string]string{"HOST": host})
			for range 10 {
				conn, err := net.Dial("tcp", net.JoinHostPort(host, c.port))
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if _, err := conn.Write([]byte(c.text)); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "the connections are open", func() bool {
				return value(t, scrapeAt(t, host+":8888"), "holdfast_door_connections") == 10
			})
			began := time.Now()
			if code := p.stop(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			if took := time.Since(began); took > c.within {
				t.Errorf("took %s", took)
			}
		})
	}
}

func TestSIGHUPDoesNotEndTheProcess(t *testing.T) {
	host := ownHost(t)
	p := collector(t, plain, map[string]string{"HOST": host})
	p.signal(syscall.SIGHUP)
	p.await(`"signal": "hangup"`)
	mustPost(t, "http://"+host+":4318/v1/traces", protobufType, wire(t, spans(numbered("s", 1))))
	if code := p.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestSIGUSR1LogsHowEveryDestinationFares(t *testing.T) {
	host := ownHost(t)
	p := collector(t, oneBackend, map[string]string{"HOST": host})
	mustPost(t, "http://"+host+":4318/v1/traces", protobufType, wire(t, spans(numbered("s", 5))))
	p.await("Exporting failed. Will retry")
	p.signal(syscall.SIGUSR1)
	p.await(`\tStatus: (DEGRADED|UNHEALTHY)  holdfast .*, running for`)
	p.await(`\tStatus:   - otlp_grpc.*refused`)
	p.await(`\tStatus: Books in items  accepted 5 = delivered 0 \+ queued 5 \+ .* difference 0`)
}

// Whoever reads the log may go away; the data path does not care.
func TestClosedLogPipeDoesNotEndTheProcess(t *testing.T) {
	host := ownHost(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "--config", plainAt(t, host))
	cmd.Env = append(os.Environ(), "HOLDFAST_STATE_DIR="+t.TempDir())
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	_ = w.Close()
	_ = r.Close()
	eventually(t, "ready", func() bool {
		resp, err := http.Get("http://" + host + ":13133/readyz")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	if err := cmd.Process.Signal(syscall.SIGUSR1); err != nil { // writes to the pipe
		t.Fatal(err)
	}
	mustPost(t, "http://"+host+":4318/v1/traces", protobufType, wire(t, spans(numbered("s", 1))))
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("ended with %v, want exit code 0", err)
	}
}

func getStatus(t *testing.T, url string) int {
	t.Helper()
	return get(t, url).status
}
