// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/featuregate"

	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/otlpgrpc"
	"github.com/holdfast-telemetry/holdfast/internal/processor/batch"
)

const minimal = `receivers: {otlp: }
processors: {batch: }
exporters: {otlp: {endpoint: "b:1"}}
service: {pipelines: {traces: {receivers: [otlp], processors: [batch], exporters: [otlp]}}}
`

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t *testing.T, opts config.Options) *config.Config {
	t.Helper()
	opts.Registry = registry()
	c, err := config.Load(context.Background(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func sum(text string) string {
	s := sha256.Sum256([]byte(text))
	return hex.EncodeToString(s[:])
}

func TestHashIsThatOfTheTextForOneSource(t *testing.T) {
	path := write(t, "a.yaml", minimal)
	c := load(t, config.Options{URIs: []string{path}})
	if c.Hash != sum(minimal) {
		t.Errorf("hash %s, want what sha256sum prints: %s", c.Hash, sum(minimal))
	}
	if len(c.Sources) != 1 || c.Sources[0] != (config.Source{URI: path, SHA256: sum(minimal)}) {
		t.Errorf("sources %+v", c.Sources)
	}
}

func TestHashCoversNamesAndOrderOfSeveralSources(t *testing.T) {
	a, second := write(t, "a.yaml", minimal), "service: {telemetry: {logs: {level: warn}}}\n"
	b := write(t, "b.yaml", second)
	c := load(t, config.Options{URIs: []string{a, b}})
	want := sum(fmt.Sprintf("%s\x00%s\n%s\x00%s\n", a, sum(minimal), b, sum(second)))
	if c.Hash != want {
		t.Errorf("hash %s, want %s", c.Hash, want)
	}
	if again := load(t, config.Options{URIs: []string{b, a}}); again.Hash == c.Hash {
		t.Error("the order of sources does not change the hash")
	}
}

func TestComponentsAreTypedWithDefaultsAndPlaces(t *testing.T) {
	path := write(t, "a.yaml", minimal)
	c := load(t, config.Options{URIs: []string{path}})
	e := c.Components[config.Exporters]["otlp"]
	if e == nil || e.Type != "otlp_grpc" || e.ID != "otlp" || e.Canonical() != "otlp_grpc" {
		t.Fatalf("exporter %+v", e)
	}
	cfg := e.Config.(*otlpgrpc.Config)
	if cfg.Client.Endpoint != "b:1" || cfg.Timeout != 5*time.Second || cfg.Queue.NumConsumers != 10 {
		t.Errorf("exporter configuration %+v", cfg)
	}
	if e.Position != (config.Position{File: path, Line: 3, Column: 13}) {
		t.Errorf("position %+v", e.Position)
	}
	if b := c.Components[config.Processors]["batch"].Config.(*batch.Config); b.SendBatchSize != 8192 {
		t.Errorf("a block without keys has lost its defaults: %+v", b)
	}
	p := c.Service.Pipelines
	if len(p) != 1 || p[0].ID != "traces" || p[0].Exporters[0] != "otlp" || p[0].Position.Line != 4 {
		t.Errorf("pipelines %+v", p)
	}
	if at := c.Where("exporters::otlp::endpoint"); at.Line != 3 || at.Column != 20 {
		t.Errorf("place of a key: %+v", at)
	}
	if !c.Written("exporters::otlp::endpoint") || c.Written("exporters::otlp::timeout") {
		t.Error("what is written and what is a default are mixed up")
	}
}

func TestPipelinesAreSortedBySignalThenName(t *testing.T) {
	c := load(t, config.Options{URIs: []string{write(t, "a.yaml", `
receivers: {otlp: }
exporters: {otlp: {endpoint: "b:1"}}
service:
  pipelines:
    profiles: &p {receivers: [otlp], exporters: [otlp]}
    logs: *p
    traces/b: *p
    metrics: *p
    traces/a: *p
    traces: *p
`)}})
	var ids []string
	for _, p := range c.Service.Pipelines {
		ids = append(ids, p.ID)
	}
	if got := strings.Join(ids, " "); got != "traces traces/a traces/b metrics logs profiles" {
		t.Errorf("order: %s", got)
	}
}

func TestStandardInputEnvironmentAndYAMLAreSources(t *testing.T) {
	t.Setenv("HOLDFAST_TEST_DOCUMENT", minimal)
	for uri, stdin := range map[string]string{"-": minimal, "env:HOLDFAST_TEST_DOCUMENT": "", "yaml:" + minimal: ""} {
		c := load(t, config.Options{URIs: []string{uri}, Stdin: strings.NewReader(stdin)})
		if c.Hash != sum(minimal) {
			t.Errorf("%q: hash %s", uri, c.Hash)
		}
	}
	_, err := config.Load(context.Background(), config.Options{
		URIs: []string{"-"}, Stdin: strings.NewReader("exporter: {}\n"), Registry: registry(), Fragment: true,
	})
	if err == nil || !strings.HasPrefix(err.Error(), "stdin:1: error: ") {
		t.Errorf("a finding in standard input: %v", err)
	}
}

func TestHTTPIsASource(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/config" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		fmt.Fprint(w, minimal)
	}))
	defer server.Close()
	if c := load(t, config.Options{URIs: []string{server.URL + "/config"}}); c.Hash != sum(minimal) {
		t.Error("what was served is not what was loaded")
	}
	_, err := config.Load(context.Background(), config.Options{URIs: []string{server.URL + "/none"}, Registry: registry()})
	if err == nil || !strings.Contains(err.Error(), "status 404") {
		t.Errorf("got %v", err)
	}
}

func TestSourcesThatCannotBeReadAreNoFindings(t *testing.T) {
	big := write(t, "big.yaml", strings.Repeat("# nothing\n", 900_000))
	for name, uris := range map[string][]string{
		"no such file": {filepath.Join(t.TempDir(), "none.yaml")}, "at least one URI": nil, "unknown scheme": {"fiel:x"},
		"larger than 8 MiB": {big}, "standard input": {"-"},
	} {
		_, err := config.Load(context.Background(), config.Options{URIs: uris, Registry: registry()})
		var invalid *config.InvalidError
		if err == nil || errors.As(err, &invalid) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	_, err := config.Load(context.Background(), config.Options{
		URIs: []string{write(t, "a.yaml", minimal)}, Sets: []string{"nothing"}, Registry: registry(),
	})
	if err == nil || !strings.Contains(err.Error(), "key=value") {
		t.Errorf("--set without a value: %v", err)
	}
}

func TestEndlessFilesAreNotRead(t *testing.T) {
	if _, err := os.Stat("/dev/zero"); err != nil {
		t.Skip("no /dev/zero")
	}
	_, err := config.Load(context.Background(), config.Options{URIs: []string{"/dev/zero"}, Registry: registry()})
	if err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("got %v", err)
	}
}

func TestTextThatIsNotUTF8IsRefused(t *testing.T) {
	_, err := config.Load(context.Background(), config.Options{
		URIs: []string{write(t, "a.yaml", "receivers: \xff\xfe\n")}, Registry: registry(),
	})
	if err == nil || !strings.Contains(err.Error(), "not UTF-8") {
		t.Errorf("got %v", err)
	}
}

func TestOriginalIsBeforeTranslationAndEffectiveAfter(t *testing.T) {
	c := load(t, config.Options{URIs: []string{write(t, "a.yaml", minimal+"  # \n")},
		Sets: []string{"service::telemetry::metrics::address=localhost:1"}})
	read := func(tree map[string]any) (address, readers bool) {
		m := tree["service"].(map[string]any)["telemetry"].(map[string]any)["metrics"].(map[string]any)
		_, address = m["address"]
		_, readers = m["readers"]
		return address, readers
	}
	if a, r := read(c.Original); !a || r {
		t.Errorf("original: address %v, readers %v", a, r)
	}
	if a, r := read(c.Effective); a || !r {
		t.Errorf("effective: address %v, readers %v", a, r)
	}
}

// What print-config prints loads again, and means the same.
func TestEffectiveDocumentLoadsAgain(t *testing.T) {
	for _, path := range cases(t, "testdata/*.good.yaml") {
		opts := options(t, path)
		first, err := config.Load(context.Background(), opts)
		if err != nil {
			t.Fatal(err)
		}
		text, err := config.MarshalYAML(first.Effective)
		if err != nil {
			t.Fatal(err)
		}
		opts.URIs, opts.Sets = []string{write(t, "again.yaml", string(text))}, nil
		opts.Strict = false
		second, err := config.Load(context.Background(), opts)
		if err != nil {
			t.Errorf("%s: %v\n%s", path, err, text)
			continue
		}
		again, err := config.MarshalYAML(second.Effective)
		if err != nil {
			t.Fatal(err)
		}
		if string(again) != string(text) {
			t.Errorf("%s: printed\n%s\nthen\n%s", path, text, again)
		}
	}
}

func TestSuppliedPartsAreMarked(t *testing.T) {
	c := load(t, config.Options{URIs: []string{"testdata/supply.good.yaml"}})
	check := func(kind config.Kind, id string, want bool) {
		t.Helper()
		comp := c.Components[kind][id]
		if comp == nil || comp.Supplied != want {
			t.Errorf("%s/%s: %+v", kind, id, comp)
		}
	}
	check(config.Receivers, "otlp", true)
	check(config.Processors, "batch", true)
	check(config.Extensions, "file_storage/own", false)
	check(config.Exporters, "otlp", false)
}

func TestFragmentsAssumeWhatTheyReferTo(t *testing.T) {
	c := load(t, config.Options{URIs: []string{"testdata/fragment.good.yaml"}, Fragment: true})
	if !c.Fragment {
		t.Error("a fragment must say that it is one")
	}
	if e := c.Components[config.Exporters]["otlp/b"]; e == nil || !e.Assumed {
		t.Errorf("otlp/b: %+v", e)
	}
	if e := c.Components[config.Exporters]["otlp/a"]; e == nil || e.Assumed {
		t.Errorf("otlp/a: %+v", e)
	}
}

func TestNearestFindsSlipsAndNothingElse(t *testing.T) {
	words := []string{"endpoint", "timeout", "sending_queue", "retry_on_failure", "max_file_size_mib", "otlp", "file"}
	for word, want := range map[string]string{
		"endpont": "endpoint", "endpiont": "endpoint", "timeot": "timeout", "sendingqueue": "sending_queue",
		"max_file_size_mb": "max_file_size_mib", "retry_on_fail": "retry_on_failure", "otpl": "otlp", "flie": "file",
		"compress": "", "x": "", "": "", "zzzzzzzz": "", "endpoints": "endpoint",
	} {
		if got := config.Nearest(word, words); got != want {
			t.Errorf("nearest to %q: %q, want %q", word, got, want)
		}
	}
	if got := config.Nearest("abc", nil); got != "" {
		t.Errorf("nearest of nothing: %q", got)
	}
}

func TestFindingsReadAsOneLine(t *testing.T) {
	f := config.Finding{
		Severity: config.Error, Position: config.Position{File: "gateway.yaml", Line: 9},
		Component: "extensions/file_storage/queue", Text: `unknown key "max_file_size_mb"`,
		Hint: `did you mean "max_file_size_mib"?`,
	}
	want := `gateway.yaml:9: error: extensions/file_storage/queue: unknown key "max_file_size_mb" (did you mean "max_file_size_mib"?)`
	if got := f.String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestValuesThatGrowWithoutEndAreRefused(t *testing.T) {
	const doc = "exporters: {otlp: {endpoint: \"${env:HOLDFAST_TEST_GROWS_0}\"}}\n"
	refused := func(name, want string) {
		t.Helper()
		began := time.Now()
		_, err := config.Load(context.Background(), config.Options{
			URIs: []string{"-"}, Stdin: strings.NewReader(doc), Registry: registry(), Fragment: true,
		})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("%s took %s", name, took)
		}
	}
	t.Setenv("HOLDFAST_TEST_GROWS_0", "${env:HOLDFAST_TEST_GROWS_0}${env:HOLDFAST_TEST_GROWS_0}")
	refused("a value that holds itself", "refers to itself")
	t.Setenv("HOLDFAST_TEST_GROWS_0", "${env:HOLDFAST_TEST_GROWS_1}")
	t.Setenv("HOLDFAST_TEST_GROWS_1", "${HOLDFAST_TEST_GROWS_0}")
	refused("a circle", "refers to itself")
	for i := range 40 {
		t.Setenv(fmt.Sprintf("HOLDFAST_TEST_GROWS_%d", i), strings.Repeat(fmt.Sprintf("${env:HOLDFAST_TEST_GROWS_%d}", i+1), 2))
	}
	t.Setenv("HOLDFAST_TEST_GROWS_40", "lol")
	refused("a value that doubles forty times", "larger than 32 MiB when it is expanded")
}

func TestReferencesInsideValuesAreExpanded(t *testing.T) {
	path := write(t, "part.yaml", "endpoint: ${env:HOLDFAST_TEST_HOST}:${HOLDFAST_TEST_PORT}\ntimeout: 9s\n")
	t.Setenv("HOLDFAST_TEST_HOST", "backend.test")
	t.Setenv("HOLDFAST_TEST_PORT", "4317")
	t.Setenv("HOLDFAST_TEST_PART", path)
	c := load(t, config.Options{URIs: []string{write(t, "a.yaml",
		strings.Replace(minimal, `{endpoint: "b:1"}`, `"${file:${env:HOLDFAST_TEST_PART}}"`, 1))}})
	cfg := c.Components[config.Exporters]["otlp"].Config.(*otlpgrpc.Config)
	if cfg.Client.Endpoint != "backend.test:4317" || cfg.Timeout != 9*time.Second {
		t.Errorf("endpoint %q, timeout %s", cfg.Client.Endpoint, cfg.Timeout)
	}
}

func TestDocumentsThatTakeLongAreRefused(t *testing.T) {
	deep := ""
	for i := range 90 {
		deep += strings.Repeat(" ", i) + "k:\n"
	}
	var wide strings.Builder
	for i := range 4_000 {
		fmt.Fprintf(&wide, "%sk%d: x\n", strings.Repeat(" ", 90), i)
	}
	began := time.Now()
	_, err := config.Load(context.Background(), config.Options{
		URIs: []string{"-"}, Stdin: strings.NewReader(deep + wide.String()), Registry: registry(), Fragment: true,
	})
	if err == nil || !strings.Contains(err.Error(), "too large") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestTheGateAllowsNoPipelines(t *testing.T) {
	gates := featuregate.GlobalRegistry()
	if err := gates.Set("service.AllowNoPipelines", true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := gates.Set("service.AllowNoPipelines", false); err != nil {
			t.Error(err)
		}
	})
	load(t, config.Options{URIs: []string{"testdata/no-pipelines.bad.yaml"}})
}

func TestSecretsWithoutATypeAreKnownByTheirNames(t *testing.T) {
	_, err := config.Load(context.Background(), config.Options{
		URIs: []string{"testdata/telemetry.bad.yaml"}, Registry: registry(),
	})
	var invalid *config.InvalidError
	if !errors.As(err, &invalid) {
		t.Fatal(err)
	}
	text, err := config.MarshalYAML(invalid.Partial.Redact(invalid.Partial.Effective))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "s3cret") || !strings.Contains(string(text), "authorization: '[REDACTED]'") {
		t.Errorf("printed:\n%s", text)
	}
	plain, err := config.MarshalYAML(invalid.Partial.Effective)
	if err != nil || !strings.Contains(string(plain), "s3cret") {
		t.Errorf("masking changed the document itself: %v", err)
	}
}
