// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// watchedConfig is changed while it runs; $TO is the port of its backend.
const watchedConfig = `
receivers: {otlp: {protocols: {http: {endpoint: "$HOST:4318"}}}}
exporters:
  otlp_grpc: {endpoint: "$HOST:$TO", tls: {insecure: true}, retry_on_failure: {initial_interval: 100ms, max_interval: 200ms}}
service:
  reload: {watch: true, trial: 2s}
  telemetry: {metrics: {readers: [{pull: {exporter: {prometheus: {host: "$HOST", port: 8888}}}}]}}
  pipelines: {traces: {receivers: [otlp], exporters: [otlp_grpc]}}
`

// configMap is a directory as the kubelet keeps it for a mounted ConfigMap: the file is a link into ..data, which is a
// link to a directory of the present version, and is replaced by a rename.
type configMap struct {
	t       *testing.T
	dir     string
	version int
}

func mountConfigMap(t *testing.T, text string) *configMap {
	m := &configMap{t: t, dir: t.TempDir()}
	must(t, os.Symlink(filepath.Join("..data", "config.yaml"), m.file()))
	m.swap(text)
	return m
}

func (m *configMap) file() string { return filepath.Join(m.dir, "config.yaml") }

func (m *configMap) swap(text string) {
	m.t.Helper()
	m.version++
	version, data := fmt.Sprintf("..2026_01_%02d", m.version), filepath.Join(m.dir, "..data")
	before, _ := os.Readlink(data)
	must(m.t, os.Mkdir(filepath.Join(m.dir, version), 0o755))
	must(m.t, os.WriteFile(filepath.Join(m.dir, version, "config.yaml"), []byte(text), 0o644))
	must(m.t, os.Symlink(version, data+"_tmp"))
	must(m.t, os.Rename(data+"_tmp", data))
	if before != "" {
		must(m.t, os.RemoveAll(filepath.Join(m.dir, before)))
	}
}

func TestANewConfigMapIsTakenOverWithoutASignal(t *testing.T) {
	host := ownHost(t)
	text := func(port string) string {
		return strings.NewReplacer("$HOST", host, "$TO", port).Replace(watchedConfig)
	}
	first, second := startBackend(t, host+":14317", nil), startBackend(t, host+":24317", nil)
	post := func(name string) []string {
		t.Helper()
		names := numbered(name, 20)
		mustPost(t, "http://"+host+":4318/v1/traces", protobufType, wire(t, spans(names)))
		return names
	}

	m := mountConfigMap(t, text("14317"))
	p := start(t, "--config", m.file(), "--implicit-health=off")
	p.await("Everything is ready")
	first.await(t, post("before"))

	m.swap(text("24317"))
	p.await(`Config switched, trial begins.*"source": "watch"`)
	after := post("after")
	second.await(t, after)
	p.await(`Config committed.*"source": "watch"`)

	m.swap(text("24317") + "  nonsense: true\n")
	p.await(`Config rejected.*"source": "watch"`)
	second.await(t, append(post("still"), after...))
	if n := strings.Count(p.output(), "Config reload requested"); n != 2 {
		t.Errorf("%d reloads were asked for, want 2:\n%s", n, p.output())
	}
	m.swap(text("24317"))
	eventually(t, "what is offered runs", func() bool {
		return value(t, scrapeAt(t, host+":8888"), "holdfast_config_drift") == 0
	})
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// A sender that rejects everything is undone, and the one from before gets all of what it rejected.
func TestWhatANewSenderRejectsIsDeliveredAfterTheRollback(t *testing.T) {
	host := ownHost(t)
	good := startBackend(t, host+":14317", nil)
	bad, err := net.Listen("tcp", host+":24317")
	must(t, err)
	server := &http.Server{
		ReadHeaderTimeout: patience, ErrorLog: quiet, Protocols: new(http.Protocols),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Grpc-Status", "3") // invalid argument: the data is refused, not the sender
			w.Header().Set("Grpc-Message", "no such field")
		}),
	}
	server.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = server.Serve(bad) }() // until Close
	t.Cleanup(func() { _ = server.Close() })
	text := func(port string) string {
		return strings.NewReplacer("$HOST", host, "$TO", port, "trial: 2s", "trial: 5s").Replace(watchedConfig)
	}
	m := mountConfigMap(t, text("14317"))
	p := start(t, "--config", m.file(), "--implicit-health=off")
	p.await("Everything is ready")
	send := func(name string) []string {
		t.Helper()
		names := numbered(name, 5)
		mustPost(t, "http://"+host+":4318/v1/traces", protobufType, wire(t, spans(names)))
		return names
	}
	good.await(t, send("before"))
	p.await("Config committed")
	m.swap(text("24317"))
	p.await(`Config switched, trial begins.*"source": "watch"`)
	var all []string
	for i := range 20 {
		all = append(all, send(fmt.Sprint("trial ", i))...)
	}
	p.await(`Config rolled back.*"reason": "refused_data"`)
	good.await(t, all)
	if s := scrapeAt(t, host+":8888"); value(t, s, "holdfast_ledger_rejected_items_total") != 0 {
		t.Error("items were set aside")
	}
}
