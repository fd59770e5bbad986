// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// comingSeries are what the specification names and nobody shows yet. Whoever shows one takes it off; a release
// (HOLDFAST_NO_SKIP) insists on it.
var comingSeries = map[string]string{}

// foreignSeries are other programs'.
var foreignSeries = map[string][]string{
	"up": nil, // Prometheus
	"kube_pod_container_status_restarts_total": {"container", "namespace", "pod"}, // kube-state-metrics
}

// targetLabels are Prometheus' own.
var targetLabels = []string{"job", "instance", "le"}

// lazyDirs hold series that are there from their first event on; their names stand in the sources in one piece.
var lazyDirs = []string{".", "emergency", "queuelog", "series", "../pipeline", "../pipeline/switchroom", "../reload", "../receiver/door", "../processor/memorylimiter"}

// everything has a component of every kind that has series of its own.
func everything(dir string) string {
	return strings.ReplaceAll(`
receivers: {otlp: {protocols: {grpc: {endpoint: "127.0.0.1:0"}, http: {endpoint: "127.0.0.1:0"}}}}
processors: {memory_limiter: {limit_mib: 512}, batch: {}}
exporters:
  otlp/a: {endpoint: "127.0.0.1:1", sending_queue: {storage: file_storage}}
  otlp/b: {endpoint: "127.0.0.1:1"}
  file: {path: "$DIR/emergency.jsonl"}
connectors: {failover: {priority_levels: [[otlp/a], [otlp/b], [file]]}}
extensions: {file_storage: {directory: "$DIR/queue", max_file_size_mib: 256}}
service:
  extensions: [file_storage]
  telemetry: {metrics: {level: none}}
  pipelines:
    traces: {receivers: [otlp], processors: [memory_limiter, batch], exporters: [failover]}
    metrics: {receivers: [otlp], processors: [memory_limiter, batch], exporters: [failover]}
    logs: {receivers: [otlp], processors: [memory_limiter, batch], exporters: [failover]}
    profiles: {receivers: [otlp], exporters: [otlp/b]}
`, "$DIR", dir)
}

// shownSeries are the series a process shows, by name as a reader spells it, with their labels; nil = not known.
func shownSeries(t *testing.T) map[string][]string {
	t.Helper()
	dir := t.TempDir()
	r := start(t, everything(dir))
	defer r.stop(t)
	shown := map[string][]string{}
	for _, opts := range []telemetry.Options{{Detailed: true}, {Detailed: true, WithTypeSuffix: true, WithUnits: true}} {
		w := httptest.NewRecorder()
		telemetry.NewHandler(r.tel.Metrics, opts).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		for line := range strings.Lines(w.Body.String()) {
			if m := sampleLine.FindStringSubmatch(line); m != nil {
				for _, l := range labelOf.FindAllStringSubmatch(m[2], -1) {
					if !slices.Contains(shown[m[1]], l[1]) {
						shown[m[1]] = append(shown[m[1]], l[1])
					}
				}
				if shown[m[1]] == nil {
					shown[m[1]] = []string{}
				}
			}
		}
	}
	for _, name := range regexp.MustCompile(`"(holdfast_[a-z_]+)"`).FindAllStringSubmatch(sourceText(t, lazyDirs...), -1) {
		if _, ok := shown[name[1]]; !ok {
			shown[name[1]] = nil
		}
	}
	if len(shown) < 100 {
		t.Fatalf("only %d series", len(shown))
	}
	return shown
}

var (
	sampleLine = regexp.MustCompile(`^([a-z_]+)(\{.*\})? `)
	labelOf    = regexp.MustCompile(`[{,]([a-z_]+)="`)
	// A selector in PromQL: a name of ours, the dashboard's suffix, and matchers.
	selector = regexp.MustCompile(`\b((?:holdfast|otelcol|kube)_[a-z_]+|up\b)(?:\$suffix)?(\{[^}]*\})?`)
	matcher  = regexp.MustCompile(`[{,]\s*([a-z_]+)\s*[=!]`)
	grouping = regexp.MustCompile(`\b(?:by|on|without|ignoring)\s*\(([^)]*)\)`)
)

func sourceText(t *testing.T, dirs ...string) string {
	t.Helper()
	var all strings.Builder
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v, %v", dir, files, err)
		}
		for _, f := range files {
			if strings.HasSuffix(f, "_test.go") {
				continue
			}
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(text)
		}
	}
	return all.String()
}

// A series or a label that is renamed must not make an alert silent or a panel empty.
func TestAlertsAndDashboardAskForSeriesThatAreShown(t *testing.T) {
	shown := shownSeries(t)
	asked := map[string]bool{}
	for place, expr := range queries(t) {
		used := map[string]bool{} // labels of all series in it
		known := true
		for _, m := range selector.FindAllStringSubmatch(expr, -1) {
			name := m[1]
			asked[name] = true
			labels, ok := shown[name]
			if foreign, is := foreignSeries[name]; is {
				labels, ok = foreign, true
			}
			if comingSeries[name] != "" {
				labels, ok = nil, true
			}
			if !ok {
				t.Errorf("%s asks for %s, which is not shown", place, name)
			}
			known = known && (labels != nil || name == "up")
			for _, l := range labels {
				used[l] = true
			}
			for _, l := range matcher.FindAllStringSubmatch(m[2], -1) {
				if labels != nil && !slices.Contains(append(labels, targetLabels...), l[1]) {
					t.Errorf("%s asks for %s with the label %s; it has %q", place, name, l[1], labels)
				}
			}
		}
		for _, g := range grouping.FindAllStringSubmatch(expr, -1) {
			for l := range strings.SplitSeq(g[1], ",") {
				if l = strings.TrimSpace(l); known && !used[l] && !slices.Contains(targetLabels, l) {
					t.Errorf("%s groups by %s, which none of its series has", place, l)
				}
			}
		}
	}
	for name := range comingSeries {
		if _, there := shown[name]; !there {
			continue
		}
		if os.Getenv("HOLDFAST_NO_SKIP") != "" {
			t.Errorf("%s is shown now: take it off the list", name)
		}
		t.Logf("%s is shown now: take it off the list", name)
	}
	if len(asked) < 60 {
		t.Errorf("only %d series are asked for: are the queries still found?", len(asked))
	}
}

// queries are the expressions of the rules and of the dashboard, by where they stand.
func queries(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	text, err := os.ReadFile("../../deploy/prometheus/holdfast.rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(text, &rules); err != nil {
		t.Fatal(err)
	}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			out["alert "+r.Alert+": "+r.Expr] = r.Expr
			for name, text := range r.Annotations {
				out["alert "+r.Alert+": its "+name] = strings.Join(seriesName.FindAllString(text, -1), " ")
			}
		}
	}
	if text, err = os.ReadFile("../../deploy/grafana/holdfast.json"); err != nil {
		t.Fatal(err)
	}
	var board any
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	walk(board, func(key, value string) {
		if key == "expr" || key == "definition" {
			out["dashboard: "+value] = value
		}
	})
	return out
}

func walk(node any, see func(key, value string)) {
	switch n := node.(type) {
	case map[string]any:
		for k, v := range n {
			if s, ok := v.(string); ok {
				see(k, s)
			}
			walk(v, see)
		}
	case []any:
		for _, v := range n {
			walk(v, see)
		}
	}
}
