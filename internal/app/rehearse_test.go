// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-telemetry/holdfast/internal/app"
	"github.com/holdfast-telemetry/holdfast/internal/app/sources"
)

// rehearse rehearses a configuration in which $ADDRESS is an address that is taken and $DIR a directory.
func rehearse(t *testing.T, text, address, dir string) []error {
	t.Helper()
	text = strings.NewReplacer("$ADDRESS", address, "$DIR", dir).Replace(text)
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := (&sources.Set{URIs: []string{path}}).Load(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return app.Rehearse(t.Context(), o)
}

// Everything is built and started, and nobody notices: no address is bound, no backend is connected to, no file is made.
func TestARehearsalIsNoticedByNobody(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	called := make(chan struct{}, 1)
	go func() {
		if c, err := ln.Accept(); err == nil {
			_ = c.Close()
			called <- struct{}{}
		}
		close(called)
	}()
	dir := t.TempDir()
	errs := rehearse(t, `
receivers: {otlp: {protocols: {grpc: {endpoint: "$ADDRESS"}}}, otlp/unix: {protocols: {http: {endpoint: "$DIR/a/b.sock", transport: unix}}}}
processors: {memory_limiter: {limit_mib: 512}, batch: {}}
exporters:
  otlp/a: {endpoint: "$ADDRESS", tls: {insecure: true}, sending_queue: {storage: file_storage}}
  otlp_http: {endpoint: "http://$ADDRESS", sending_queue: {storage: file_storage}}
  file: {path: "$DIR/emergency/out.jsonl"}
  file/plain: {path: "$DIR/plain/out.jsonl"}
  debug: {use_internal_logger: false, output_paths: ["$DIR/debug"]}
connectors: {failover: {priority_levels: [[otlp/a], [otlp_http], [file]]}}
extensions: {file_storage: {directory: "$DIR/queue"}, health_check: {endpoint: "127.0.0.1:0"}, pprof: {endpoint: "127.0.0.1:0", save_to_file: "$DIR/profile"}, zpages: {endpoint: "127.0.0.1:0"}}
service:
  extensions: [file_storage, health_check, pprof, zpages]
  telemetry: {metrics: {level: none}}
  pipelines:
    traces: {receivers: [otlp, otlp/unix], processors: [memory_limiter, batch], exporters: [failover]}
    logs: {receivers: [otlp], exporters: [otlp/a, file/plain, debug]}
`, ln.Addr().String(), dir)
	for _, err := range errs {
		t.Error(err)
	}
	if err := ln.(*net.TCPListener).SetDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, ok := <-called; ok {
		t.Error("the backend was called")
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	made, err := os.ReadDir(dir)
	if err != nil || len(made) > 0 {
		t.Errorf("made: %v, %v", made, err)
	}
}

// All that fails is told at once, each with its component and its place.
func TestARehearsalTellsAllThatFails(t *testing.T) {
	errs := rehearse(t, `
receivers: {otlp: {protocols: {grpc: {endpoint: "127.0.0.1:0"}}}}
exporters:
  otlp: {endpoint: "%zz:1", tls: {insecure: true}}
  otlp_http: {endpoint: "http://b:1", proxy_url: nowhere}
service:
  telemetry: {metrics: {level: none}}
  pipelines: {traces: {receivers: [otlp], exporters: [otlp, otlp_http]}}
`, "", "")
	var got []string
	for _, err := range errs {
		var at *app.ComponentError
		if !errors.As(err, &at) || at.Position.Line == 0 {
			t.Errorf("no component or place: %v", err)
			continue
		}
		got = append(got, at.Component)
	}
	if strings.Join(got, " ") != "exporters/otlp exporters/otlp_http" {
		t.Errorf("told of %q: %v", got, errs)
	}
}
