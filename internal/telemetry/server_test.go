// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package telemetry_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

func newTelemetry() *telemetry.Telemetry {
	tel := &telemetry.Telemetry{
		Logger: zap.NewNop(), Metrics: telemetry.NewRegistry(),
		Resource: map[string]string{"service.name": "holdfast", "service.version": "1.2.3", "site": "b"},
	}
	tel.Metrics.Counter("otelcol_exporter_sent_spans", "Items delivered.", "exporter", "otlp").Add(3)
	return tel
}

func pull(host string, port int) config.MetricReader {
	var p config.PullReader
	p.Exporter.Prometheus = &config.PrometheusReader{Host: host, Port: port}
	return config.MetricReader{Pull: &p}
}

func serve(t *testing.T, cfg config.TelemetryMetrics) *telemetry.Server {
	t.Helper()
	s, err := telemetry.NewServer(cfg, newTelemetry())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 2 {
			if err := s.Stop(t.Context()); err != nil && t.Context().Err() == nil {
				t.Error(err)
			}
		}
	})
	return s
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestWrittenReadersAreServedWithSuffixesUnlessTheySayWithout(t *testing.T) {
	yes := true
	bare, full := pull("127.0.0.1", 0), pull("[127.0.0.1]", 0)
	bare.Pull.Exporter.Prometheus.WithoutTypeSuffix = &yes
	bare.Pull.Exporter.Prometheus.WithoutUnits = &yes
	bare.Pull.Exporter.Prometheus.WithoutScopeInfo = &yes
	full.Pull.Exporter.Prometheus.WithResource = map[string]any{"included": []any{"s*"}, "excluded": []any{"service.v*"}}
	s := serve(t, config.TelemetryMetrics{Level: "normal", Readers: []config.MetricReader{bare, full}})

	code, body := get(t, "http://"+s.Addrs()[0]+"/metrics")
	if code != 200 || !strings.Contains(body, "\notelcol_exporter_sent_spans{exporter=\"otlp\"} 3\n") {
		t.Errorf("bare reader: %d\n%s", code, body)
	}
	if !strings.Contains(body, `target_info{service_name="holdfast",service_version="1.2.3",site="b"} 1`) {
		t.Errorf("no target_info:\n%s", body)
	}
	code, body = get(t, "http://"+s.Addrs()[1]+"/metrics")
	if code != 200 || !strings.Contains(body, "\notelcol_exporter_sent_spans_total{") ||
		!strings.Contains(body, `otel_scope_version="1.2.3"`) || !strings.Contains(body, `service_name="holdfast",site="b"`) ||
		strings.Contains(body, `sent_spans_total{exporter="otlp",service_version`) {
		t.Errorf("full reader: %d\n%s", code, body)
	}
	if code, _ := get(t, "http://"+s.Addrs()[0]+"/"); code != 404 {
		t.Errorf("/ answers %d", code)
	}
}

func TestTheOldAddressKeyIsServedWithBareNames(t *testing.T) {
	s := serve(t, config.TelemetryMetrics{Level: "detailed", Address: "127.0.0.1:0"})
	code, body := get(t, "http://"+s.Addrs()[0]+"/metrics")
	if code != 200 || !strings.Contains(body, "\notelcol_exporter_sent_spans{exporter=\"otlp\"} 3\n") {
		t.Errorf("%d\n%s", code, body)
	}
}

func TestLevelNoneListensOnNothing(t *testing.T) {
	s := serve(t, config.TelemetryMetrics{Level: "none", Address: "127.0.0.1:0"})
	if got := s.Addrs(); len(got) != 0 {
		t.Errorf("listens on %v", got)
	}
}

func TestTheDefaultReaderIsLoopback8888(t *testing.T) {
	// Whether the port is free here does not matter: either way the message or the address tells which it is.
	s, err := telemetry.NewServer(config.DefaultTelemetry().Metrics, newTelemetry())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		if !strings.Contains(err.Error(), `"localhost:8888"`) {
			t.Error(err)
		}
		return
	}
	host, port, err := net.SplitHostPort(s.Addrs()[0])
	if err != nil || !net.ParseIP(host).IsLoopback() || port != "8888" {
		t.Errorf("listens on %v", s.Addrs())
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestATakenPortIsNamedAndLeavesNothingListening(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	freePort := free.Addr().(*net.TCPAddr).Port
	_ = free.Close()
	cfg := config.TelemetryMetrics{Readers: []config.MetricReader{
		pull("127.0.0.1", freePort), pull("127.0.0.1", taken.Addr().(*net.TCPAddr).Port),
	}}
	s, err := telemetry.NewServer(cfg, newTelemetry())
	if err != nil {
		t.Fatal(err)
	}
	err = s.Start(t.Context())
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("want address in use, got %v", err)
	}
	for _, want := range []string{"readers[1]", taken.Addr().String(), "taken by another process"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	if len(s.Addrs()) != 0 {
		t.Errorf("listens on %v", s.Addrs())
	}
	again, err := net.Listen("tcp", cfg.Readers[0].Pull.Exporter.Prometheus.Host+":"+strconv.Itoa(freePort))
	if err != nil {
		t.Errorf("the first reader still listens: %v", err)
	} else {
		_ = again.Close()
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestReadersOfOtherKindsAreAnError(t *testing.T) {
	check := func(want string, cfg config.TelemetryMetrics) {
		t.Helper()
		_, err := telemetry.NewServer(cfg, newTelemetry())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
		}
	}
	readers := func(r ...config.MetricReader) config.TelemetryMetrics { return config.TelemetryMetrics{Readers: r} }
	check("readers[0]: periodic readers are not supported", readers(config.MetricReader{Periodic: map[string]any{}}))
	check("readers[1]: only pull", readers(pull("127.0.0.1", 0), config.MetricReader{}))
	check("only pull", readers(config.MetricReader{Pull: &config.PullReader{}}))
	check("host and a port", readers(pull("", 1)))
	check("host and a port", readers(pull("localhost", 70000)))
	check("level", config.TelemetryMetrics{Level: "loud"})
	check("address", config.TelemetryMetrics{Address: "8888"})
	check("address", config.TelemetryMetrics{Address: "localhost:http"})
	odd := pull("localhost", 0)
	odd.Pull.Exporter.Prometheus.WithResource = map[string]any{"included": []any{"["}}
	check("with_resource_constant_labels", readers(odd))
	odd.Pull.Exporter.Prometheus.WithResource = []any{"x"}
	check("with_resource_constant_labels", readers(odd))
}
