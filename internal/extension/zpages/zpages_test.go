// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package zpages_test

import (
	"encoding/json"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/confmap"
	"go.uber.org/goleak"

	"github.com/holdfast-telemetry/holdfast/internal/extension"
	"github.com/holdfast-telemetry/holdfast/internal/extension/zpages"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, h extension.Health, keys map[string]any) string {
	t.Helper()
	cfg := zpages.Default().(*zpages.Config)
	if err := confmap.NewFromStringMap(keys).Unmarshal(cfg); err != nil {
		t.Fatal(err)
	}
	cfg.ServerConfig.NetAddr.Endpoint = "127.0.0.1:0"
	e, err := zpages.Factory().New(extension.Settings{
		ID: "zpages", Telemetry: telemetry.Nop(), Status: func() extension.Health { return h },
	}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 2 {
			_ = e.Stop(t.Context()) // the test's context is over by now; goleak sees what is left
		}
	})
	return "http://" + e.(*zpages.Pages).Addr().String()
}

func get(t *testing.T, url string, into any) int {
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
	if resp.StatusCode == 200 {
		if err := json.Unmarshal(body, into); err != nil {
			t.Errorf("%s: %v in %s", url, err, body)
		}
		if got := resp.Header.Get("Content-Type"); !strings.HasPrefix(got, "application/json") {
			t.Errorf("%s is %s", url, got)
		}
	}
	return resp.StatusCode
}

func TestPagesShowTheServiceAndItsPipelines(t *testing.T) {
	now := time.Now()
	url := start(t, extension.Health{
		Phase: extension.Running, UpSince: now.Add(-time.Minute), Extensions: []string{"zpages", "health_check/x"},
		Loops: []extension.LoopHealth{{Name: "deliver otlp", LastTick: now}},
		Pipelines: []extension.PipelineHealth{
			{ID: "traces", Accepting: true}, {ID: "logs", RefusingSince: now.Add(-time.Second)},
		},
		Destinations: []extension.DestinationHealth{
			{Pipeline: "traces", Name: "otlp/primary", Delivered: 5, Failed: 2, LastFailure: now, LastError: "refused\n",
				Oldest: 1500 * time.Millisecond},
			{Pipeline: "logs", Name: "debug"},
		},
	}, nil)

	var service map[string]any
	if code := get(t, url+"/debug/servicez", &service); code != 200 {
		t.Fatal(code)
	}
	if service["phase"] != "running" || service["go"] != runtime.Version() ||
		!strings.HasPrefix(service["uptime"].(string), "1m0") || len(service["loops"].([]any)) != 1 {
		t.Errorf("servicez is %v", service)
	}

	var page struct {
		Pipelines []struct {
			ID           string
			Accepting    bool
			Refusing     string           `json:"refusing_since"`
			Destinations []map[string]any `json:"destinations"`
		}
	}
	if code := get(t, url+"/debug/pipelinez", &page); code != 200 || len(page.Pipelines) != 2 {
		t.Fatalf("%d %+v", code, page)
	}
	traces, logs := page.Pipelines[0], page.Pipelines[1]
	if traces.ID != "traces" || !traces.Accepting || traces.Refusing != "" || len(traces.Destinations) != 1 {
		t.Errorf("traces is %+v", traces)
	}
	d := traces.Destinations[0]
	if d["name"] != "otlp/primary" || d["delivered_items"] != 5.0 || d["failed_attempts"] != 2.0 ||
		d["oldest_seconds"] != 1.5 || d["last_error"] != `refused\n` || d["last_delivery"] != nil {
		t.Errorf("destination is %v", d)
	}
	if logs.Accepting || logs.Refusing == "" || logs.Destinations[0]["name"] != "debug" {
		t.Errorf("logs is %+v", logs)
	}

	var extensions map[string][]string
	if code := get(t, url+"/debug/extensionz", &extensions); code != 200 || len(extensions["extensions"]) != 2 {
		t.Errorf("extensionz: %d %v", code, extensions)
	}
}

func TestPagesAreReadOnlyAndExpvarIsOffUnlessAskedFor(t *testing.T) {
	url := start(t, extension.Health{}, nil)
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Post(url+"/debug/servicez", "text/plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != 405 {
		t.Errorf("POST: %d", resp.StatusCode)
	}
	var vars map[string]any
	if code := get(t, url+"/debug/expvarz", &vars); code != 404 {
		t.Errorf("expvar without asking: %d", code)
	}
	if code := get(t, url+"/", &vars); code != 404 {
		t.Errorf("/: %d", code)
	}
	url = start(t, extension.Health{}, map[string]any{"expvar": map[string]any{"enabled": true}})
	if code := get(t, url+"/debug/expvarz", &vars); code != 200 || vars["memstats"] == nil {
		t.Errorf("expvar: %d %v", code, vars)
	}
}

func TestDefaultsAreLoopback(t *testing.T) {
	cfg := zpages.Default().(*zpages.Config)
	if cfg.ServerConfig.NetAddr.Endpoint != "localhost:55679" || cfg.Expvar.Enabled {
		t.Errorf("defaults are %+v", cfg)
	}
	cfg.ServerConfig.NetAddr.Endpoint = ""
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "`endpoint`") {
		t.Errorf("error is %v", err)
	}
	if _, err := zpages.Factory().New(extension.Settings{}, nil); err == nil {
		t.Error("a foreign configuration is no error")
	}
}
