// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package telemetry_test

import (
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// scrape fetches a page and has it read by Prometheus's own parser.
func scrape(t *testing.T, reg *telemetry.Registry, opts telemetry.Options) (map[string]*dto.MetricFamily, string) {
	t.Helper()
	w := httptest.NewRecorder()
	telemetry.NewHandler(reg, opts).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	text := w.Body.String()
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("not a valid exposition: %v\n%s", err, text)
	}
	return families, text
}

func labels(m *dto.Metric) string {
	var out []string
	for _, l := range m.GetLabel() {
		out = append(out, l.GetName()+"="+l.GetValue())
	}
	return strings.Join(out, ",")
}

func sampleRegistry() *telemetry.Registry {
	reg := telemetry.NewRegistry()
	reg.Counter("otelcol_exporter_sent_spans", "Items delivered.", "exporter", "otlp/primary").Add(7)
	reg.Counter("otelcol_exporter_sent_spans", "Items delivered.", "exporter", "otlp/secondary")
	reg.Counter("holdfast_door_refused_total", "Requests refused.", "receiver", "otlp", "reason", "depth").Add(2)
	reg.Gauge("otelcol_connector_failover_active_level", "Level.", "connector", "failover", "signal", "traces").Set(-1)
	reg.GaugeFunc("holdfast_ledger_imbalance_items", "Must be 0.", func() float64 { return 0.5 }, "pipeline", "traces")
	h := reg.Histogram("holdfast_door_request_seconds", "Seconds.", []float64{0.001, 0.1, 1}, "receiver", "otlp")
	for _, v := range []float64{0.0005, 0.001, 0.05, 0.5, 7} {
		h.Observe(v)
	}
	return reg
}

func TestSeriesAreShownUnderTheirBareNames(t *testing.T) {
	families, text := scrape(t, sampleRegistry(), telemetry.Options{})
	sent := families["otelcol_exporter_sent_spans"]
	if sent.GetType() != dto.MetricType_COUNTER || sent.GetHelp() != "Items delivered." || len(sent.Metric) != 2 {
		t.Fatalf("sent_spans is %v", sent)
	}
	// Exactly the label exporter: alerts join sent and send_failed on it.
	if labels(sent.Metric[0]) != "exporter=otlp/primary" || sent.Metric[0].Counter.GetValue() != 7 {
		t.Errorf("first series is %v", sent.Metric[0])
	}
	if labels(sent.Metric[1]) != "exporter=otlp/secondary" || sent.Metric[1].Counter.GetValue() != 0 {
		t.Errorf("a counter that has not counted is %v", sent.Metric[1])
	}
	if f := families["holdfast_door_refused_total"]; f == nil || labels(f.Metric[0]) != "reason=depth,receiver=otlp" {
		t.Errorf("refused_total is %v", f)
	}
	if f := families["otelcol_connector_failover_active_level"]; f.GetType() != dto.MetricType_GAUGE ||
		f.Metric[0].Gauge.GetValue() != -1 {
		t.Errorf("active_level is %v", f)
	}
	if f := families["holdfast_ledger_imbalance_items"]; f.GetMetric()[0].Gauge.GetValue() != 0.5 {
		t.Errorf("imbalance is %v", f)
	}
	if _, there := families["target_info"]; there {
		t.Error("target_info without a resource")
	}
	for name := range families {
		if !strings.Contains(text, "# HELP "+name+" ") || !strings.Contains(text, "# TYPE "+name+" ") {
			t.Errorf("%s has no HELP or TYPE", name)
		}
	}
}

func TestHistogramsCountAtOrBelowEachBound(t *testing.T) {
	families, _ := scrape(t, sampleRegistry(), telemetry.Options{})
	h := families["holdfast_door_request_seconds"].GetMetric()[0].Histogram
	if h.GetSampleCount() != 5 || h.GetSampleSum() < 7.5514 || h.GetSampleSum() > 7.5516 {
		t.Errorf("count %d, sum %v", h.GetSampleCount(), h.GetSampleSum())
	}
	var got []string
	for _, b := range h.Bucket {
		got = append(got, fmt.Sprintf("%g:%d", b.GetUpperBound(), b.GetCumulativeCount()))
	}
	if want := "0.001:2 0.1:3 1:4 +Inf:5"; strings.Join(got, " ") != want {
		t.Errorf("buckets are %v, want %s", got, want)
	}
}

func TestSwitchesAddTypeUnitAndScopeWithoutTouchingOurOwnNames(t *testing.T) {
	reg := sampleRegistry()
	telemetry.RegisterProcess(reg)
	names := func(opts telemetry.Options) []string {
		families, _ := scrape(t, reg, opts)
		var out []string
		for name := range families {
			if !strings.HasPrefix(name, "otelcol_process_runtime") {
				out = append(out, name)
			}
		}
		slices.Sort(out)
		return out
	}
	check := func(opts telemetry.Options, want ...string) {
		t.Helper()
		if got := names(opts); !slices.Equal(got, want) {
			t.Errorf("%+v shows\n%s\nwant\n%s", opts, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	check(telemetry.Options{},
		"holdfast_door_refused_total", "holdfast_door_request_seconds", "holdfast_ledger_imbalance_items",
		"otelcol_connector_failover_active_level", "otelcol_exporter_sent_spans",
		"otelcol_process_cpu_seconds", "otelcol_process_memory_rss", "otelcol_process_uptime")
	check(telemetry.Options{WithTypeSuffix: true},
		"holdfast_door_refused_total", "holdfast_door_request_seconds", "holdfast_ledger_imbalance_items",
		"otelcol_connector_failover_active_level", "otelcol_exporter_sent_spans_total",
		"otelcol_process_cpu_seconds_total", "otelcol_process_memory_rss", "otelcol_process_uptime_total")
	check(telemetry.Options{WithTypeSuffix: true, WithUnits: true},
		"holdfast_door_refused_total", "holdfast_door_request_seconds", "holdfast_ledger_imbalance_items",
		"otelcol_connector_failover_active_level", "otelcol_exporter_sent_spans_total",
		"otelcol_process_cpu_seconds_total", "otelcol_process_memory_rss_bytes", "otelcol_process_uptime_seconds_total")

	families, _ := scrape(t, reg, telemetry.Options{WithScopeInfo: true, Version: "1.2.3",
		Constant: map[string]string{"service.name": "holdfast"}})
	got := labels(families["otelcol_exporter_sent_spans"].Metric[0])
	for _, want := range []string{"exporter=otlp/primary", "otel_scope_version=1.2.3", "service_name=holdfast",
		"otel_scope_name=github.com/holdfast-telemetry/holdfast"} {
		if !slices.Contains(strings.Split(got, ","), want) {
			t.Errorf("labels %s lack %s", got, want)
		}
	}
}

func TestTargetInfoCarriesTheResource(t *testing.T) {
	families, _ := scrape(t, telemetry.NewRegistry(), telemetry.Options{
		Resource: map[string]string{"service.name": "holdfast", "9lives": "cat", "a-b/c": "d"},
	})
	f := families["target_info"]
	if f == nil || f.Metric[0].Gauge.GetValue() != 1 {
		t.Fatalf("target_info is %v", f)
	}
	if got := labels(f.Metric[0]); got != "a_b_c=d,key_9lives=cat,service_name=holdfast" {
		t.Errorf("labels are %s", got)
	}
}

func TestDetailedFamiliesAreShownAtLevelDetailedOnly(t *testing.T) {
	reg := telemetry.NewRegistry()
	const name = "otelcol_exporter_queue_batch_send_size"
	reg.Histogram(name, "Items.", []float64{1}, "exporter", "otlp")
	if f, _ := scrape(t, reg, telemetry.Options{}); f[name] != nil {
		t.Error("shown below detailed")
	}
	if f, _ := scrape(t, reg, telemetry.Options{Detailed: true}); f[name] == nil {
		t.Error("not shown at detailed")
	}
}

func TestOneBadLabelDoesNotHideTheOtherSeries(t *testing.T) {
	reg := sampleRegistry()
	reg.Counter("holdfast_odd_total", "Odd.", "exporter", "otlp/\xff")
	reg.Counter("holdfast_quoted_total", "Back\\slash\nand line.", "exporter", "a\"b\\c\nd")
	families, _ := scrape(t, reg, telemetry.Options{})
	if families["otelcol_exporter_sent_spans"] == nil {
		t.Error("the page is empty")
	}
	if f := families["holdfast_quoted_total"]; f == nil || labels(f.Metric[0]) != "exporter=a\"b\\c\nd" {
		t.Errorf("quoted label is %v", f)
	}
}

func TestSeriesAreReadWithoutTheRegistrysLock(t *testing.T) {
	reg := telemetry.NewRegistry()
	reg.GaugeFunc("holdfast_a", "Asks for a series while it is read.", func() float64 {
		return float64(reg.Counter("holdfast_b_total", "B.").Value())
	})
	scrape(t, reg, telemetry.Options{}) // deadlocks if the lock is held
	if got := reg.Snapshot(); len(got) != 2 {
		t.Errorf("snapshot is %v", got)
	}
}

func TestOneSeriesWhateverTheOrderOfItsLabels(t *testing.T) {
	reg := telemetry.NewRegistry()
	a := reg.Counter("holdfast_x_total", "X.", "a", "1", "b", "2", "c", "3")
	b := reg.Counter("holdfast_x_total", "X.", "c", "3", "a", "1", "b", "2")
	if a != b {
		t.Error("two series of the same labels")
	}
	if got := reg.Snapshot(); len(got) != 1 || strings.Join(got[0].Labels, ",") != "a,1,b,2,c,3" {
		t.Errorf("snapshot is %v", got)
	}
}

func TestForgottenSeriesAreGoneAndCountFromZeroWhenTheyComeBack(t *testing.T) {
	reg := sampleRegistry()
	old := reg.Counter("otelcol_exporter_sent_spans", "Items delivered.", "exporter", "otlp/primary")
	n := reg.Forget(func(_ string, labels []string) bool { return slices.Contains(labels, "otlp/primary") })
	if n != 1 {
		t.Errorf("forgot %d series, want 1", n)
	}
	families, _ := scrape(t, reg, telemetry.Options{})
	if got := len(families["otelcol_exporter_sent_spans"].Metric); got != 1 {
		t.Errorf("%d series left, want the secondary's", got)
	}
	old.Inc() // unseen, harmless
	if v := reg.Counter("otelcol_exporter_sent_spans", "", "exporter", "otlp/primary").Value(); v != 0 {
		t.Errorf("came back with %d", v)
	}
	reg.Forget(func(name string, _ []string) bool { return name == "otelcol_exporter_sent_spans" })
	if families, _ := scrape(t, reg, telemetry.Options{}); families["otelcol_exporter_sent_spans"] != nil {
		t.Error("a family without series is shown")
	}
}

func TestCountersKeepCountingOverAReload(t *testing.T) {
	reg := telemetry.NewRegistry()
	reg.Counter("holdfast_x_total", "X.", "exporter", "otlp").Add(5)
	reg.Counter("holdfast_x_total", "X.", "exporter", "otlp").Add(1) // built again
	reg.CounterFunc("holdfast_y_total", "Y.", func() float64 { return 1 })
	reg.CounterFunc("holdfast_y_total", "Y.", func() float64 { return 2 })
	got := reg.Snapshot()
	if got[0].Value != 6 || got[1].Value != 2 {
		t.Errorf("snapshot is %v", got)
	}
}

func TestScrapesRunBesideCountingAndReloads(t *testing.T) {
	reg := sampleRegistry()
	handler := telemetry.NewHandler(reg, telemetry.Options{WithScopeInfo: true})
	var wg sync.WaitGroup
	const rounds = 200
	wg.Go(func() {
		c := reg.Counter("otelcol_exporter_sent_spans", "Items delivered.", "exporter", "otlp/primary")
		h := reg.Histogram("holdfast_door_request_seconds", "Seconds.", nil, "receiver", "otlp")
		for range rounds * 10 {
			c.Inc()
			h.Observe(0.01)
		}
	})
	wg.Go(func() {
		for i := range rounds {
			id := fmt.Sprint("otlp/", i)
			reg.GaugeFunc("holdfast_z", "Z.", func() float64 { return 1 }, "exporter", id)
			reg.Forget(func(_ string, labels []string) bool { return slices.Contains(labels, id) })
		}
	})
	for range 2 {
		wg.Go(func() {
			for range rounds / 10 {
				w := httptest.NewRecorder()
				handler.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
				if w.Code != 200 {
					t.Errorf("status %d", w.Code)
				}
			}
		})
	}
	wg.Wait()
	families, _ := scrape(t, reg, telemetry.Options{})
	if v := families["otelcol_exporter_sent_spans"].Metric[0].Counter.GetValue(); v != 7+rounds*10 {
		t.Errorf("counted %v", v)
	}
	if n := families["holdfast_door_request_seconds"].Metric[0].Histogram.GetSampleCount(); n != 5+rounds*10 {
		t.Errorf("observed %d", n)
	}
}
