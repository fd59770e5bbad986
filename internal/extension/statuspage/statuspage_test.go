// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package statuspage_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/confmap"
	"go.uber.org/goleak"

	"github.com/holdfast-telemetry/holdfast/internal/extension"
	"github.com/holdfast-telemetry/holdfast/internal/extension/statuspage"
	"github.com/holdfast-telemetry/holdfast/internal/status"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func configured(t *testing.T, keys map[string]any) (*statuspage.Config, error) {
	t.Helper()
	cfg := statuspage.Default().(*statuspage.Config)
	if err := confmap.NewFromStringMap(keys).Unmarshal(cfg); err != nil {
		return nil, err
	}
	return cfg, cfg.Validate()
}

func TestTheDefaultsAreForThisMachineAlone(t *testing.T) {
	cfg, err := configured(t, nil)
	if err != nil || cfg.ServerConfig.NetAddr.Endpoint != "localhost:13134" || cfg.History != 500 || len(cfg.Hosts) != 0 {
		t.Errorf("%+v: %v", cfg, err)
	}
}

func TestWhatIsConfiguredWrongIsRefused(t *testing.T) {
	for _, tc := range []struct {
		keys map[string]any
		want string // empty = it is fine
	}{
		{map[string]any{"endpoint": "127.0.0.1:1", "hosts": []any{"a.example"}, "history": 10}, ""},
		{map[string]any{"endpoint": ""}, "`endpoint` must not be empty"},
		{map[string]any{"history": 9}, "`history` must be between 10 and 10000"},
		{map[string]any{"history": 10001}, "`history` must be between"},
		{map[string]any{"cors": map[string]any{"allowed_origins": []any{"*"}}}, "`cors`: no other page may read this one"},
	} {
		_, err := configured(t, tc.keys)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v: %v, want %q", tc.keys, err, tc.want)
		}
	}
}

// start serves a page of a process that is well.
func start(t *testing.T, keys map[string]any) *statuspage.Page {
	t.Helper()
	cfg, err := configured(t, keys)
	if err != nil {
		t.Fatal(err)
	}
	cfg.ServerConfig.NetAddr.Endpoint = "127.0.0.1:0"
	history := status.NewHistory(10)
	e, err := statuspage.Factory().New(extension.Settings{
		ID: "status", Telemetry: telemetry.Nop(), Events: history.Newest, Hosts: []string{"flag.example"},
		Show: func(context.Context) status.Status {
			s := status.Status{Phase: "running"}
			status.Judge(&s)
			return s
		},
	}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 2 {
			_ = e.Stop(context.Background()) // it was stopped by the test, or ends here
		}
	})
	return e.(*statuspage.Page)
}

var client = http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

func TestNamesOfTheConfigurationAndOfTheCommandLineAreKnown(t *testing.T) {
	p := start(t, map[string]any{"hosts": []any{"key.example"}})
	for host, want := range map[string]int{"": 200, "key.example": 200, "flag.example:80": 200, "evil.example": 421} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.Addr().String()+"/status.json", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		r, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var s status.Status
		if err := json.NewDecoder(r.Body).Decode(&s); r.StatusCode != want || want == 200 && (err != nil || s.Verdict != "ok") {
			t.Errorf("asked for as %q: %s, %+v", host, r.Status, s)
		}
		_ = r.Body.Close()
	}
}

// The server is the Collector's, with its own timeouts and wrappers: a stream must come through them, and end with it.
func TestAStreamComesThroughAtOnceOutlivesTheServersTimeoutsAndDoesNotHoldUpAStop(t *testing.T) {
	p := start(t, map[string]any{"read_timeout": "300ms", "write_timeout": "300ms"})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.Addr().String()+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	lines, seen := bufio.NewScanner(r.Body), 0
	for began := time.Now(); seen < 3 && lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "data: {") {
			seen++
		}
		if time.Since(began) > 30*time.Second {
			break
		}
	}
	if seen < 3 {
		t.Fatalf("the stream ended after %d statuses", seen)
	}
	began := time.Now()
	if err := p.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("a reader held up the stop for %s", took)
	}
	if p.Addr() != nil {
		t.Error("it still listens")
	}
}
