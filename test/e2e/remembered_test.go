// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// outageConfig has a level that is down and one that is well.
const outageConfig = `
receivers: {otlp: {protocols: {http: {endpoint: "$HOST:4318"}}}}
exporters:
  otlp_http/primary: {endpoint: "http://$HOST:14318", compression: none}
  otlp_http/secondary: {endpoint: "http://$HOST:24318"}
connectors:
  failover: {priority_levels: [[otlp_http/primary], [otlp_http/secondary]], retry_interval: 20s}
service:
  pipelines:
    traces: {receivers: [otlp], exporters: [failover]}
`

// deadBackend refuses everything and counts what is sent to it.
type deadBackend struct{ data, probes atomic.Int64 }

func (b *deadBackend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if len(body) > 0 {
		b.data.Add(1)
	} else {
		b.probes.Add(1)
	}
	w.WriteHeader(http.StatusServiceUnavailable)
}

func TestRestartInAnOutageSendsNothingToTheDeadPrimary(t *testing.T) {
	host, state := ownHost(t), t.TempDir()
	dead := &deadBackend{}
	ln, err := net.Listen("tcp", host+":14318")
	must(t, err)
	server := &http.Server{Handler: dead, ReadHeaderTimeout: patience, ErrorLog: quiet}
	go func() { _ = server.Serve(ln) }() // until Close
	t.Cleanup(func() { _ = server.Close() })
	secondary := startBackend(t, host+":24318", nil)
	config := writeConfig(t, outageConfig, map[string]string{"HOST": host})
	begin := func() *process {
		t.Helper()
		p := startWith(t, []string{"HOLDFAST_STATE_DIR=" + state}, "--config", config, "--implicit-health=off")
		p.await("Everything is ready")
		return p
	}
	deliver := func(name string) {
		t.Helper()
		for i := range 10 {
			names := numbered(name+string(rune('a'+i)), 5)
			mustPost(t, "http://"+host+":4318/v1/traces", protobufType, wire(t, spans(names)))
			secondary.await(t, names)
		}
	}
	memory := func() string {
		found, err := filepath.Glob(filepath.Join(state, "config", "*", "failover.json"))
		must(t, err)
		return strings.Join(found, "")
	}
	remembers := func() bool {
		text, _ := os.ReadFile(memory())
		return strings.Contains(string(text), "otlp_http/primary")
	}

	p := begin()
	deliver("first")
	eventually(t, "the primary is remembered as down", remembers)
	for name, end := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "stopped": syscall.SIGTERM} {
		p.signal(end)
		p.exit()
		if !remembers() {
			t.Fatalf("%s: the primary is forgotten", name)
		}
		sent, asked := dead.data.Load(), dead.probes.Load()
		p = begin()
		deliver(name)
		if n := dead.data.Load() - sent; n > 0 {
			t.Errorf("%s: %d requests with data to a primary that was down", name, n)
		}
		eventually(t, "it is asked at once", func() bool { return dead.probes.Load() > asked })
	}

	p.signal(syscall.SIGKILL)
	p.exit()
	must(t, os.WriteFile(memory(), []byte(`{"version":1,"down":[{"exp`), 0o600))
	sent := dead.data.Load()
	p = begin()
	deliver("damaged")
	p.await("What was down before the start is not known")
	if dead.data.Load() == sent {
		t.Error("a process without a memory sends nothing to a dead primary either: this test shows nothing")
	}
}
