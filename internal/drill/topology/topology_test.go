// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package topology_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/app/components"
	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/drill/topology"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
)

const mixed = `
receivers:
  otlp: {protocols: {grpc: {endpoint: 0.0.0.0:4317}, http: {endpoint: 0.0.0.0:4318, tls: {cert_file: /no.pem, key_file: /no.key}}}}
exporters:
  otlphttp/one:
    endpoint: https://one.example.com/otlp
    logs_endpoint: https://logs.example.com/v9/l
    headers: {x-token: abc}
    tls: {ca_file: /their/ca.pem, cert_file: /their/c.pem, key_file: /their/c.key, server_name_override: inside}
    sending_queue: {storage: file_storage/q}
  otlp/two: {endpoint: two.example.com:4317, tls: {insecure: true}}
  file/last: {path: /var/lib/last/telemetry.jsonl}
extensions:
  file_storage/q: {directory: /var/lib/q}
  health_check: {endpoint: 0.0.0.0:13133}
connectors:
  failover:
    priority_levels: [[otlphttp/one], [otlp/two], [file/last]]
    probe: {kind: http, url: "https://one.example.com/health"}
service:
  extensions: [file_storage/q, health_check]
  telemetry: {metrics: {readers: [{pull: {exporter: {prometheus: {host: 0.0.0.0, port: 8888}}}}]}}
  pipelines:
    traces: {receivers: [otlp], exporters: [failover]}
    logs: {receivers: [otlp], exporters: [otlp/two]}
`

func load(t *testing.T, text string, sets ...string) (*config.Config, *plan.Plan) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(t.Context(), config.Options{URIs: []string{file}, Sets: sets, Registry: components.Registry(), Portable: true})
	if err != nil {
		t.Fatal(err)
	}
	p, _ := plan.Build(cfg, components.ExporterQueue)
	return cfg, p
}

func read(t *testing.T, text string) *topology.Topology {
	t.Helper()
	top, err := topology.Read(load(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return top
}

func place(dir string) topology.Place {
	return topology.Place{Host: "127.9.8.7", Dir: dir, CA: dir + "/ca.pem", Hurry: true,
		Backends: map[string]string{"otlphttp/one": "127.9.8.7:1", "otlp/two": "127.9.8.7:2"},
		Cert:     func(string) (string, string) { return dir + "/c.pem", dir + "/c.key" },
		DoorCert: dir + "/door.pem", DoorKey: dir + "/door.key", DoorCA: dir + "/ca.pem"}
}

func TestARedirectedConfigurationTouchesNothingButItsPlace(t *testing.T) {
	const dir = "/nowhere/drill"
	r := read(t, mixed).Redirect(place(dir))
	if !slices.ContainsFunc(r.Doors, func(d string) bool { return strings.HasPrefix(d, "https://127.9.8.7:") }) {
		t.Errorf("the load is led to %s", r.Doors)
	}
	cfg, p := load(t, mixed, r.Sets...)
	for _, l := range p.Listeners {
		if !strings.HasPrefix(l.Address, "127.9.8.7:") || l.TLS != strings.Contains(l.Key, "receivers::otlp::protocols::http") {
			t.Errorf("%s listens on %s, TLS %v", l.Component, l.Address, l.TLS)
		}
	}
	if len(p.Storages) != 1 || !strings.HasPrefix(p.Storages[0].Directory, dir) {
		t.Errorf("storages %+v", p.Storages)
	}
	text, err := config.MarshalYAML(map[string]any{"exporters": cfg.Effective["exporters"], "connectors": cfg.Effective["connectors"]})
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"example.com", "/var/lib", "/their/"} {
		if strings.Contains(string(text), word) {
			t.Errorf("%s is still there:\n%s", word, text)
		}
	}
	for _, kept := range []string{"x-token", "https://127.9.8.7:1/v1/logs", "insecure: true", "file_storage/q"} {
		if !strings.Contains(string(text), kept) {
			t.Errorf("%s is gone:\n%s", kept, text)
		}
	}
	for _, said := range []string{"receivers/otlp: shows a certificate", "certificate of the drill's", "health address"} {
		if !slices.ContainsFunc(r.Replaced, func(s string) bool { return strings.Contains(s, said) }) {
			t.Errorf("it is not said that %q: %q", said, r.Replaced)
		}
	}
}

func TestTheTopologyIsThePlans(t *testing.T) {
	top := read(t, mixed)
	one, _ := top.Backend("otlphttp/one")
	two, _ := top.Backend("otlp/two")
	if !one.HTTP || !one.TLS || !one.ClientCert || two.HTTP || two.TLS || two.ClientCert {
		t.Errorf("%+v, %+v", one, two)
	}
	if got := top.Above("otlp/two"); len(got) != 1 || !slices.Equal(got["failover"], []string{"otlphttp/one"}) {
		t.Errorf("above otlp/two: %v", got)
	}
	if len(top.Above("otlphttp/one")) != 0 || !slices.Equal(top.Connectors(), []string{"failover"}) || len(top.Doors) != 2 {
		t.Errorf("above the first level %v, connectors %v, doors %v", top.Above("otlphttp/one"), top.Connectors(), top.Doors)
	}
	if got := top.SignalsOf("otlp"); !slices.Equal(got, []string{"traces", "logs"}) && !slices.Equal(got, []string{"logs", "traces"}) {
		t.Errorf("signals %v", got)
	}
	// logs have a queue in memory and one backend.
	weak := strings.Join(top.Weak, "\n")
	for _, words := range []string{"logs → otlp/two: the queue is in memory", "logs → otlp/two: one backend"} {
		if !strings.Contains(weak, words) {
			t.Errorf("%q is not said of\n%s", words, weak)
		}
	}
	if strings.Contains(weak, "traces → failover: no emergency level") {
		t.Errorf("there is one:\n%s", weak)
	}
}

func TestASmallDiskIsNamed(t *testing.T) {
	top := read(t, strings.Replace(mixed, "directory: /var/lib/q", "directory: /var/lib/q, max_file_size_mib: 900", 1))
	if weak := strings.Join(top.Weak, "\n"); !strings.Contains(weak, "900 MiB at most") {
		t.Error(weak)
	}
}

func TestWhatCannotBeLedAwayIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"exporters: {debug: {}}\nservice: {pipelines: {traces: {receivers: [otlp], exporters: [debug]}}}":                                                     "no backend",
		"receivers: {nop: {}}\nexporters: {otlp: {endpoint: a:1}}\nservice: {pipelines: {traces: {receivers: [nop], exporters: [otlp]}}}":                     "no door",
		"exporters: {otlphttp: {endpoint: 'http://a', logs_endpoint: 'https://b'}}\nservice: {pipelines: {logs: {receivers: [otlp], exporters: [otlphttp]}}}": "some endpoints use TLS",
	} {
		if _, err := topology.Read(load(t, text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not said: %v", want, err)
		}
	}
}
