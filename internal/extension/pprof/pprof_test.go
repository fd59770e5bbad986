// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pprof_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"go.opentelemetry.io/collector/confmap"
	"go.uber.org/goleak"

	"github.com/holdfast-telemetry/holdfast/internal/extension"
	"github.com/holdfast-telemetry/holdfast/internal/extension/pprof"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newProfiler(t *testing.T, change func(*pprof.Config)) *pprof.Profiler {
	t.Helper()
	cfg := pprof.Default().(*pprof.Config)
	cfg.Endpoint = "127.0.0.1:0"
	if change != nil {
		change(cfg)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	e, err := pprof.Factory().New(extension.Settings{ID: "pprof", Telemetry: telemetry.Nop()}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e.(*pprof.Profiler)
}

func get(t *testing.T, url string) (int, []byte) {
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
	return resp.StatusCode, body
}

func TestProfilesAreServedBesideNothingElse(t *testing.T) {
	p := newProfiler(t, nil)
	if err := p.Start(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	url := "http://" + p.Addr().String()
	for path, want := range map[string]string{
		"/debug/pprof/":                  "goroutine",
		"/debug/pprof/goroutine?debug=1": "goroutine profile: total",
		"/debug/pprof/cmdline":           filepath.Base(os.Args[0]),
	} {
		if code, body := get(t, url+path); code != 200 || !strings.Contains(string(body), want) {
			t.Errorf("%s: %d %.80q", path, code, body)
		}
	}
	if code, body := get(t, url+"/debug/pprof/heap"); code != 200 || len(body) < 2 || body[0] != 0x1f || body[1] != 0x8b {
		t.Errorf("heap: %d, %d bytes, not a gzip profile", code, len(body))
	}
	for _, path := range []string{"/", "/debug/vars"} {
		if code, _ := get(t, url+path); code != 404 {
			t.Errorf("%s: %d", path, code)
		}
	}
	for range 2 {
		if err := p.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestATakenPortIsNamedAndTouchesNoRates(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	before := runtime.SetMutexProfileFraction(-1)
	p := newProfiler(t, func(c *pprof.Config) { c.Endpoint, c.MutexProfileFraction = ln.Addr().String(), 17 })
	if err := p.Start(t.Context(), nil); !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "taken") {
		t.Errorf("error is %v", err)
	}
	if got := runtime.SetMutexProfileFraction(-1); got != before {
		t.Errorf("mutex fraction is %d, was %d", got, before)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestRatesHoldWhileItRuns(t *testing.T) {
	before := runtime.SetMutexProfileFraction(-1)
	p := newProfiler(t, func(c *pprof.Config) { c.MutexProfileFraction, c.BlockProfileFraction = 17, 1000 })
	if err := p.Start(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if got := runtime.SetMutexProfileFraction(-1); got != 17 {
		t.Errorf("mutex fraction is %d, want 17", got)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if got := runtime.SetMutexProfileFraction(-1); got != before {
		t.Errorf("mutex fraction is %d afterwards, was %d", got, before)
	}
}

func TestTheProfileOfTheRunIsWholeAfterStop(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cpu.pprof")
	p := newProfiler(t, func(c *pprof.Config) { c.SaveToFile = file })
	if err := p.Start(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	second := newProfiler(t, func(c *pprof.Config) { c.SaveToFile = filepath.Join(t.TempDir(), "b") })
	if err := second.Start(t.Context(), nil); err == nil {
		t.Error("a second CPU profile at once is no error")
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil || len(text) < 2 || text[0] != 0x1f || text[1] != 0x8b {
		t.Errorf("profile has %d bytes, %v", len(text), err)
	}
	bad := newProfiler(t, func(c *pprof.Config) { c.SaveToFile = filepath.Join(t.TempDir(), "no", "dir") })
	if err := bad.Start(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "save profile") {
		t.Errorf("error is %v", err)
	}
}

func TestConfigurationIsReadByTheCollectorsKeys(t *testing.T) {
	cfg := pprof.Default().(*pprof.Config)
	if cfg.Endpoint != "localhost:1777" || cfg.Transport != "tcp" {
		t.Errorf("defaults are %+v", cfg)
	}
	if err := confmap.NewFromStringMap(map[string]any{
		"endpoint": "127.0.0.1:1", "block_profile_fraction": 3, "mutex_profile_fraction": 4, "save_to_file": "f",
	}).Unmarshal(cfg); err != nil {
		t.Fatal(err)
	}
	if cfg.Endpoint != "127.0.0.1:1" || cfg.BlockProfileFraction != 3 || cfg.MutexProfileFraction != 4 || cfg.SaveToFile != "f" {
		t.Errorf("read %+v", cfg)
	}
	if err := confmap.NewFromStringMap(map[string]any{"endpont": "x"}).Unmarshal(cfg); err == nil {
		t.Error("an unknown key is no error")
	}
	cfg.Endpoint, cfg.BlockProfileFraction = "", -1
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "`endpoint`") ||
		!strings.Contains(err.Error(), "`block_profile_fraction`") {
		t.Errorf("error is %v", err)
	}
	if _, err := pprof.Factory().New(extension.Settings{}, 1); err == nil {
		t.Error("a foreign configuration is no error")
	}
}
