// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// watched is what the seeds' alerts and probes look at.
const watched = `
receivers: {otlp: {protocols: {http: {endpoint: "$HOST:4318"}}}}
exporters:
  otlp_grpc/primary:
    endpoint: "$HOST:14317"
    tls: {insecure: true}
    retry_on_failure: {initial_interval: 100ms, max_interval: 300ms}
    sending_queue: {queue_size: 500}
extensions:
  health_check:
    endpoint: "$HOST:13133"
    path: /health
    check_collector_pipeline: {enabled: true, interval: 30s, exporter_failure_threshold: 5}
service:
  extensions: [health_check]
  telemetry: {metrics: {level: detailed, address: "$HOST:8888"}}
  pipelines: {traces: {receivers: [otlp], exporters: [otlp_grpc/primary]}}
`

// labelsOf lists the label sets a name has.
func labelsOf(m map[string]float64, name string) []string {
	var out []string
	for key := range m {
		if bare, labels, _ := strings.Cut(key, "{"); bare == name {
			out = append(out, labels)
		}
	}
	return out
}

// scrapeBalanced is a scrape whose books must balance.
func scrapeBalanced(t *testing.T, addr string) map[string]float64 {
	t.Helper()
	m := scrapeAt(t, addr)
	if v := value(t, m, "holdfast_ledger_imbalance_items"); v != 0 {
		t.Errorf("holdfast_ledger_imbalance_items is %v", v)
	}
	return m
}

// Fault: B1. The seeds' first alert divides send_failed by sent: it needs both from the first second, with equal labels.
func TestRefusedBackendIsSeenByTheAlertAndTheProbe(t *testing.T) {
	t.Parallel()
	host := ownHost(t)
	p := collector(t, watched, map[string]string{"HOST": host})
	metrics, health := host+":8888", "http://"+host+":13133"
	const exporter = "otlp_grpc/primary"

	m := scrapeBalanced(t, metrics)
	for _, name := range []string{"otelcol_exporter_sent_spans", "otelcol_exporter_send_failed_spans",
		"otelcol_exporter_enqueue_failed_spans"} {
		if v := value(t, m, name, "exporter", exporter); v != 0 {
			t.Errorf("%s is %v before the first request, want 0", name, v)
		}
	}
	for _, path := range []string{"/", "/health", "/livez", "/readyz", "/pipelines"} {
		if got := getStatus(t, health+path); got != http.StatusOK {
			t.Errorf("%s is %d before the first request, want 200", path, got)
		}
	}

	names := numbered("watched", 40)
	for i := range 4 {
		mustPost(t, "http://"+host+":4318/v1/traces", protobufType, wire(t, spans(names[i*10:i*10+10])))
	}
	began := time.Now()
	eventually(t, "send_failed rises", func() bool {
		m = scrapeBalanced(t, metrics)
		return value(t, m, "otelcol_exporter_send_failed_spans", "exporter", exporter) > 0
	})
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("send_failed took %s to rise", took)
	}
	sent, failed := labelsOf(m, "otelcol_exporter_sent_spans"), labelsOf(m, "otelcol_exporter_send_failed_spans")
	if len(sent) != 1 || len(failed) != 1 || sent[0] != failed[0] || sent[0] != `exporter="`+exporter+`"}` {
		t.Errorf("sent has the labels %q, send_failed %q; want exporter alone", sent, failed)
	}

	eventually(t, "/health is 503 after 5 failed attempts", func() bool {
		scrapeBalanced(t, metrics)
		return getStatus(t, health+"/health") == http.StatusServiceUnavailable
	})
	for path, want := range map[string]int{"/": 200, "/livez": 200, "/readyz": 200, "/pipelines": 503} {
		if got := getStatus(t, health+path); got != want {
			t.Errorf("%s is %d while the backend is down, want %d", path, got, want)
		}
	}
	m = scrapeBalanced(t, metrics)
	if v := value(t, m, "otelcol_exporter_sent_spans", "exporter", exporter); v != 0 {
		t.Errorf("sent is %v with a backend that refuses, want 0", v)
	}
	if v := value(t, m, "otelcol_exporter_queue_capacity", "exporter", exporter, "data_type", "traces"); v != 500 {
		t.Errorf("queue_capacity is %v, want 500", v)
	}
	if v := value(t, m, "otelcol_exporter_queue_size", "exporter", exporter, "data_type", "traces"); v != 4 {
		t.Errorf("queue_size is %v, want 4", v)
	}
	if v := value(t, m, "holdfast_ledger_queued_items", "destination", exporter); v != 40 {
		t.Errorf("holdfast_ledger_queued_items is %v, want 40", v)
	}
	for name, want := range map[string]float64{ // a queue in memory has the journal's series where they mean something
		"appended_items_total": 40, "appended_records_total": 4, "queued_items": 40, "queued_records": 4, "parked_items": 0,
		"imbalance_items": 0, "refused_items_total": 0, "resolved_items_total": 0,
	} {
		if v := value(t, m, "holdfast_journal_"+name, "pipeline", "traces"); v != want {
			t.Errorf("holdfast_journal_%s is %v, want %v", name, v, want)
		}
	}
	attempts := value(t, m, "holdfast_failover_probes_total", "connector", exporter, "result", "retry")
	for _, verdict := range []string{"retry", "ambiguous"} {
		attempts += value(t, m, "holdfast_failover_attempts_total", "connector", exporter, "verdict", verdict)
	}
	if attempts < 5 {
		t.Errorf("/health failed after %v attempts and probes, want 5 or more", attempts)
	}

	b := startBackend(t, host+":14317", nil)
	b.await(t, names)
	eventually(t, "/health is 200 with the first delivery", func() bool {
		scrapeBalanced(t, metrics)
		return getStatus(t, health+"/health") == http.StatusOK
	})
	eventually(t, "sent counts what was delivered, and the queue is empty", func() bool {
		m = scrapeBalanced(t, metrics)
		return value(t, m, "otelcol_exporter_sent_spans", "exporter", exporter) == 40 &&
			value(t, m, "otelcol_exporter_queue_size", "exporter", exporter) == 0
	})
	eventually(t, "the queue's series say the same", func() bool {
		m = scrapeBalanced(t, metrics)
		return value(t, m, "holdfast_journal_resolved_items_total", "outcome", "delivered", "destination", exporter) == 40 &&
			value(t, m, "holdfast_journal_resolved_records_total", "outcome", "delivered") == 4 &&
			value(t, m, "holdfast_journal_queued_records") == 0 && value(t, m, "holdfast_journal_state", "state", "ok") == 1
	})
	if code := p.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
