// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package healthcheck_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/collector/confmap"
	"go.uber.org/goleak"

	"github.com/holdfast-telemetry/holdfast/internal/extension"
	"github.com/holdfast-telemetry/holdfast/internal/extension/healthcheck"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// process is a status that tests change.
type process struct {
	mu sync.Mutex
	h  extension.Health
}

func (p *process) status() extension.Health {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.h
}

func (p *process) set(change func(*extension.Health)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.h)
}

func (p *process) settings() extension.Settings {
	return extension.Settings{ID: "health_check", Telemetry: telemetry.Nop(), Status: p.status}
}

// healthy is a process that has run for an hour.
func healthy() *process {
	return &process{h: extension.Health{
		Phase: extension.Running, UpSince: time.Now().Add(-time.Hour),
		Pipelines: []extension.PipelineHealth{{ID: "traces", Accepting: true}},
		Destinations: []extension.DestinationHealth{
			{Pipeline: "traces", Name: "otlp", Delivered: 10, LastDelivery: time.Now()},
		},
	}}
}

func start(t *testing.T, c *healthcheck.Check) string {
	t.Helper()
	if err := c.Start(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	url := "http://" + c.Addr().String()
	t.Cleanup(func() {
		for range 2 {
			_ = c.Stop(t.Context()) // the test's context is over by now; goleak sees what is left
		}
	})
	return url
}

// serve starts a configured check of p.
func serve(t *testing.T, p *process, keys map[string]any) string {
	t.Helper()
	cfg := healthcheck.Default().(*healthcheck.Config)
	if err := confmap.NewFromStringMap(keys).Unmarshal(cfg); err != nil {
		t.Fatal(err)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	cfg.ServerConfig.NetAddr.Endpoint = "127.0.0.1:0"
	e, err := healthcheck.Factory().New(p.settings(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return start(t, e.(*healthcheck.Check))
}

func ask(t *testing.T, method, url string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func expect(t *testing.T, url string, code int, pattern string) {
	t.Helper()
	resp, body := ask(t, "GET", url)
	if resp.StatusCode != code {
		t.Errorf("%s: %d, want %d (%s)", url, resp.StatusCode, code, body)
	}
	if !regexp.MustCompile("^" + pattern + "$").MatchString(body) {
		t.Errorf("%s says\n%s\nwant\n%s", url, body, pattern)
	}
}

const (
	available    = `\{"status":"Server available","upSince":"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z","uptime":"1h0m[\d.]+s"\}`
	notAvailable = `\{"status":"Server not available","upSince":"0001-01-01T00:00:00Z","uptime":""\}`
	since        = `"since":"20[^"]+Z"`
)

func TestTheCollectorsBodyIsServedAtThePath(t *testing.T) {
	p := healthy()
	url := serve(t, p, nil)
	expect(t, url+"/", 200, available)
	expect(t, url+"/anything/else", 200, available) // as the Collector's, whose path is a prefix there
	for _, phase := range []extension.Phase{extension.Starting, extension.Stopping} {
		p.set(func(h *extension.Health) { h.Phase = phase })
		expect(t, url+"/", 503, notAvailable)
	}
}

func TestAnswersAreJSONAndNotStored(t *testing.T) {
	url := serve(t, healthy(), nil)
	for _, path := range []string{"/", "/livez", "/readyz", "/pipelines"} {
		resp, body := ask(t, "GET", url+path)
		if got := resp.Header.Get("Content-Type"); got != "application/json" {
			t.Errorf("%s is %s", path, got)
		}
		if got := resp.Header.Get("Cache-Control"); got != "no-store" {
			t.Errorf("%s: Cache-Control %q", path, got)
		}
		if !json.Valid([]byte(body)) {
			t.Errorf("%s says %s", path, body)
		}
		head, body := ask(t, "HEAD", url+path)
		if head.StatusCode != 200 || body != "" {
			t.Errorf("HEAD %s: %d %q", path, head.StatusCode, body)
		}
		post, _ := ask(t, "POST", url+path)
		if post.StatusCode != 405 || post.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("POST %s: %d, Allow %q", path, post.StatusCode, post.Header.Get("Allow"))
		}
	}
}

func TestABackendThatIsDownNeverEndsLivenessOrReadiness(t *testing.T) {
	p := healthy()
	url := serve(t, p, map[string]any{"path": "/health", "check_collector_pipeline": map[string]any{
		"enabled": true, "interval": "30s", "exporter_failure_threshold": 5,
	}})
	expect(t, url+"/health", 200, available)
	p.set(func(h *extension.Health) {
		h.Destinations[0].Failed, h.Destinations[0].LastFailure = 41, time.Now()
		h.Destinations[0].LastDelivery = time.Now().Add(-30 * time.Second)
		h.Destinations[0].LastError = "connection refused\n\x1b[31m"
	})
	expect(t, url+"/health", 503, notAvailable)
	expect(t, url+"/", 200, available)
	expect(t, url+"/livez", 200, `\{"status":"ok",`+since+`\}`)
	expect(t, url+"/readyz", 200, `\{"status":"ok",`+since+`\}`)
	expect(t, url+"/pipelines", 503, `\{"status":"failing",`+since+
		`,"reasons":\["otlp: 41 failed attempts, 0 delivered in 30s"\],"destinations":\[\{"pipeline":"traces",`+
		`"name":"otlp","state":"failing","failed":41,"delivered":10,"oldest_seconds":0,`+
		`"last_error":"connection refused\\\\n\\\\x1b\[31m"\}\]\}`)
	resp, _ := ask(t, "GET", url+"/elsewhere")
	if resp.StatusCode != 404 {
		t.Errorf("/elsewhere: %d", resp.StatusCode)
	}

	// 200 again with the first delivery …
	p.set(func(h *extension.Health) { h.Destinations[0].Failed = 0 })
	expect(t, url+"/health", 200, available)
	// … or 30 s after the last failure.
	p.set(func(h *extension.Health) {
		h.Destinations[0].Failed, h.Destinations[0].LastFailure = 41, time.Now().Add(-31*time.Second)
	})
	expect(t, url+"/health", 200, available)
}

func TestTheCheckIsOffUnlessEnabledButPipelinesTells(t *testing.T) {
	p := healthy()
	p.h.Destinations[0].Failed, p.h.Destinations[0].LastFailure = 5, time.Now()
	url := serve(t, p, nil)
	expect(t, url+"/", 200, available)
	expect(t, url+"/pipelines", 503, `\{"status":"failing",.*`)
	p.set(func(h *extension.Health) { h.Destinations[0].Failed = 4 })
	expect(t, url+"/pipelines", 200, `\{"status":"degraded",`+since+`,"reasons":\["otlp: 4 failed attempts"\],.*`)
}

func TestDegradedIsNotFailing(t *testing.T) {
	p := healthy()
	p.h.Destinations[0].Degraded = "level otlp/primary is down"
	p.h.Destinations[0].Oldest = 1500 * time.Millisecond
	p.h.Degraded = []string{"an offered configuration does not run"}
	url := serve(t, p, map[string]any{"check_collector_pipeline": map[string]any{"enabled": true}})
	expect(t, url+"/", 200, available)
	expect(t, url+"/pipelines", 200, `\{"status":"degraded",`+since+
		`,"reasons":\["an offered configuration does not run","otlp: level otlp/primary is down"\],`+
		`"destinations":\[\{"pipeline":"traces","name":"otlp","state":"degraded","failed":0,"delivered":10,`+
		`"oldest_seconds":1.5,"last_error":""\}\]\}`)
}

func TestReadinessEndsWhenAllPipelinesRefuse(t *testing.T) {
	p := healthy()
	p.h.Pipelines = []extension.PipelineHealth{
		{ID: "traces", RefusingSince: time.Now().Add(-12 * time.Second)}, {ID: "logs", Accepting: true},
	}
	url := serve(t, p, nil)
	expect(t, url+"/readyz", 200, `\{"status":"ok",.*`)
	p.set(func(h *extension.Health) {
		h.Pipelines[1] = extension.PipelineHealth{ID: "logs", RefusingSince: time.Now().Add(-11 * time.Second)}
	})
	expect(t, url+"/readyz", 503, `\{"status":"failing",`+since+
		`,"reasons":\["traces: refusing for 12s","logs: refusing for 11s"\]\}`)
	expect(t, url+"/livez", 200, `\{"status":"ok",.*`)
	expect(t, url+"/", 200, available)
	p.set(func(h *extension.Health) {
		h.Pipelines[1] = extension.PipelineHealth{ID: "logs", Accepting: true}
	})
	expect(t, url+"/readyz", 503, `\{"status":"failing",.*"accepting again since less than 2s"\]\}`)
	p.set(func(h *extension.Health) { h.Pipelines[1].AcceptingSince = time.Now().Add(-2 * time.Second) })
	expect(t, url+"/readyz", 200, `\{"status":"ok",.*`)
}

func TestStartingAndStoppingAreAliveButNotReady(t *testing.T) {
	p := &process{}
	url := serve(t, p, nil)
	expect(t, url+"/readyz", 503, `\{"status":"starting"\}`)
	expect(t, url+"/livez", 200, `\{"status":"ok"\}`)
	expect(t, url+"/pipelines", 200, `\{"status":"starting"\}`)
	p.set(func(h *extension.Health) { h.Phase = extension.Stopping })
	expect(t, url+"/readyz", 503, `\{"status":"stopping"\}`)
	expect(t, url+"/livez", 200, `\{"status":"ok"\}`)
}

func TestAStuckLoopEndsLivenessAlone(t *testing.T) {
	p := healthy()
	p.h.Loops = []extension.LoopHealth{{Name: "deliver otlp", LastTick: time.Now().Add(-45 * time.Second)}}
	url := serve(t, p, nil)
	expect(t, url+"/livez", 503, `\{"status":"failing",`+since+`,"reasons":\["deliver otlp: no sign of life for 45s"\]\}`)
	expect(t, url+"/readyz", 200, `.*`)
	expect(t, url+"/", 200, available)
}

func TestResponseBodyReplacesTheCollectorsBodiesOnly(t *testing.T) {
	p := healthy()
	url := serve(t, p, map[string]any{"path": "/up", "response_body": map[string]any{"healthy": "fine\n", "unhealthy": "ill"}})
	expect(t, url+"/up", 200, "fine\n")
	expect(t, url+"/", 200, "fine\n")
	expect(t, url+"/livez", 200, `\{"status":"ok",.*`)
	p.set(func(h *extension.Health) { h.Phase = extension.Stopping })
	expect(t, url+"/up", 503, "ill")
}

func TestAConfiguredPathGoesBeforeOurs(t *testing.T) {
	url := serve(t, healthy(), map[string]any{"path": "/readyz"})
	expect(t, url+"/readyz", 200, available)
	expect(t, url+"/livez", 200, `\{"status":"ok",.*`)
}

func TestTheImplicitEndpointNamesNothing(t *testing.T) {
	p := healthy()
	p.h.Destinations[0].Failed, p.h.Destinations[0].LastFailure = 41, time.Now()
	p.h.Destinations[0].LastError = "secret.example.com refused"
	p.h.Pipelines = []extension.PipelineHealth{{ID: "traces/secret", RefusingSince: time.Now().Add(-time.Minute)}}
	p.h.Loops = []extension.LoopHealth{{Name: "secret", LastTick: time.Now().Add(-time.Minute)}}
	url := start(t, healthcheck.NewImplicit("127.0.0.1:0", p.settings()))
	expect(t, url+"/", 200, available)
	for _, path := range []string{"/livez", "/readyz", "/pipelines"} {
		expect(t, url+path, 503, `\{"status":"failing",`+since+`\}`)
	}
}

func TestTheImplicitEndpointReportsATakenPort(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	c := healthcheck.NewImplicit(ln.Addr().String(), healthy().settings())
	if err := c.Start(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "taken") {
		t.Errorf("error is %v", err)
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAnAnswerComesWithinASecondThoughTheStatusDoesNot(t *testing.T) {
	p := healthy()
	url := serve(t, p, nil)
	expect(t, url+"/readyz", 200, `.*`) // there is a last snapshot now
	p.mu.Lock()
	began := time.Now()
	expect(t, url+"/", 200, available)
	took := time.Since(began)
	p.mu.Unlock()
	if took >= time.Second {
		t.Errorf("took %s", took)
	}
}

func TestConfigurationIsReadByTheCollectorsKeys(t *testing.T) {
	cfg := healthcheck.Default().(*healthcheck.Config)
	if cfg.ServerConfig.NetAddr.Endpoint != "localhost:13133" || cfg.Path != "/" || cfg.CheckCollectorPipeline.Enabled ||
		cfg.CheckCollectorPipeline.Interval != 5*time.Minute || cfg.CheckCollectorPipeline.ExporterFailureThreshold != 5 {
		t.Errorf("defaults are %+v", cfg)
	}
	err := confmap.NewFromStringMap(map[string]any{
		"endpoint": "0.0.0.0:13133", "path": "/health", "read_timeout": "3s",
		"tls":                      map[string]any{"cert_file": "c.pem"},
		"response_body":            map[string]any{"healthy": "a", "unhealthy": "b"},
		"check_collector_pipeline": map[string]any{"enabled": true, "interval": "30s", "exporter_failure_threshold": 7},
	}).Unmarshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.ServerConfig.NetAddr.Endpoint != "0.0.0.0:13133" || cfg.Path != "/health" || cfg.ServerConfig.ReadTimeout != 3*time.Second ||
		cfg.ServerConfig.TLS.Get().CertFile != "c.pem" || cfg.ResponseBody.Unhealthy != "b" ||
		cfg.CheckCollectorPipeline != (healthcheck.PipelineCheck{Enabled: true, Interval: 30 * time.Second, ExporterFailureThreshold: 7}) {
		t.Errorf("read %+v", cfg)
	}
	for key, change := range map[string]func(*healthcheck.Config){
		"`endpoint`":                  func(c *healthcheck.Config) { c.ServerConfig.NetAddr.Endpoint = "" },
		"`path`":                      func(c *healthcheck.Config) { c.Path = "health" },
		"interval`":                   func(c *healthcheck.Config) { c.CheckCollectorPipeline.Interval = 0 },
		"exporter_failure_threshold`": func(c *healthcheck.Config) { c.CheckCollectorPipeline.ExporterFailureThreshold = 0 },
	} {
		bad := healthcheck.Default().(*healthcheck.Config)
		change(bad)
		if err := bad.Validate(); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("want an error about %s, got %v", key, err)
		}
	}
	if _, err := healthcheck.Factory().New(extension.Settings{}, "x"); err == nil {
		t.Error("a foreign configuration is no error")
	}
}
