// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/admin"
	"github.com/holdfast-telemetry/holdfast/internal/app/operator"
	"github.com/holdfast-telemetry/holdfast/internal/cli"
	"github.com/holdfast-telemetry/holdfast/internal/reload"
	"github.com/holdfast-telemetry/holdfast/internal/status"
)

// stranger plays a running instance: it says what it is told to.
type stranger struct {
	socket string
	status status.Status
	answer []operator.RouteAnswer
	asked  map[string]operator.LevelRequest // by path, the last one
	// What it says of configurations, and what it was asked for.
	trials  map[string]operator.ReloadAnswer // by path
	offered map[string]operator.RollbackRequest
	history []reload.Entry
}

func newStranger(t *testing.T) *stranger {
	t.Helper()
	s := &stranger{socket: filepath.Join(t.TempDir(), admin.SocketName), asked: map[string]operator.LevelRequest{},
		trials: map[string]operator.ReloadAnswer{}, offered: map[string]operator.RollbackRequest{}}
	s.status = status.Status{Phase: "running", Config: status.Config{Running: status.Generation{SHA256: strings.Repeat("ab", 32)}}}
	door := admin.NewServer(zap.NewNop())
	door.Handle(admin.Route{Method: http.MethodGet, Path: "/status", Handle: func(context.Context, *admin.Request) (any, error) {
		return s.status, nil
	}})
	for _, path := range []string{"/failover/probe", "/failover/hold", "/failover/release"} {
		door.Handle(admin.Route{Method: http.MethodPost, Path: path, Handle: func(_ context.Context, r *admin.Request) (any, error) {
			var req operator.LevelRequest
			if err := r.Decode(&req); err != nil {
				return nil, err
			}
			if req.Connector == "nobody" {
				return nil, admin.Refuse(http.StatusNotFound, "no connector or exporter %q has levels", req.Connector)
			}
			s.asked[path] = req
			return s.answer, nil
		}})
	}
	door.Handle(admin.Route{Method: http.MethodGet, Path: "/config/history", Handle: func(context.Context, *admin.Request) (any, error) {
		return s.history, nil
	}})
	for _, path := range []string{"/reload", "/config/confirm", "/config/rollback"} {
		door.Handle(admin.Route{Method: http.MethodPost, Path: path, Handle: func(_ context.Context, r *admin.Request) (any, error) {
			var req operator.RollbackRequest
			if err := r.Decode(&req); err != nil {
				return nil, err
			}
			s.offered[path] = req
			return s.trials[path], nil
		}})
	}
	if err := door.Start(s.socket); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := door.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// ask runs a command against the instance.
func (s *stranger) ask(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	args = append(append([]string{"holdfast"}, args...), "--admin-socket", s.socket)
	code = cli.Main(args, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

func TestTheExitCodeOfStatusIsTheVerdict(t *testing.T) {
	s := newStranger(t)
	hash := s.status.Config.Running.SHA256
	for _, tc := range []struct {
		verdict, expect string
		code            int
		said            string // on stderr
	}{
		{"ok", "", 0, ""}, {"degraded", "", 1, ""}, {"failing", "", 2, ""}, {"unhealthy", "", 2, ""},
		{"ok", hash, 0, ""}, {"ok", strings.ToUpper(hash[:8]), 0, ""}, {"degraded", hash, 1, ""},
		{"ok", strings.Repeat("0", 64), 1, "another configuration runs"},
		{"unhealthy", strings.Repeat("0", 64), 2, ""},
		{"ok", hash[:4], 1, "eight digits"},
		{"splendid", "", 2, ""}, // a word of another version
	} {
		s.status.Verdict = tc.verdict
		args := []string{"status"}
		if tc.expect != "" {
			args = append(args, "--expect", tc.expect)
		}
		for _, asJSON := range []bool{false, true} {
			if asJSON {
				args = append(args, "--json")
			}
			code, _, stderr := s.ask(args...)
			if code != tc.code || !strings.Contains(stderr, tc.said) {
				t.Errorf("%s, expecting %q: exit code %d, want %d; %q", tc.verdict, tc.expect, code, tc.code, stderr)
			}
		}
	}
}

func TestStatusAsJSONIsWhatTheInstanceSaid(t *testing.T) {
	s := newStranger(t)
	s.status.Verdict, s.status.Causes, s.status.PID = "degraded", []string{"a reason"}, 42
	_, stdout, _ := s.ask("status", "--json")
	var got status.Status
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || got.PID != 42 || got.Causes[0] != "a reason" {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestNobodyReachedIsExitCodeFour(t *testing.T) {
	s := &stranger{socket: filepath.Join(t.TempDir(), "none.sock")}
	for _, args := range [][]string{
		{"status"}, {"failover", "show"}, {"failover", "probe", "x"}, {"failover", "hold", "x", "0", "--for", "1m"},
		{"failover", "release", "x", "0"},
	} {
		if code, _, stderr := s.ask(args...); code != 4 || !strings.Contains(stderr, s.socket) {
			t.Errorf("%v: exit code %d, %q", args, code, stderr)
		}
	}
}

func TestFailoverCommandsSayWhatCameOfThem(t *testing.T) {
	s := newStranger(t)
	refused := []operator.RouteAnswer{{Connector: "failover", Signal: "traces", Error: "not available in this version"}}
	good := status.ProbeAnswer{Exporter: "otlp/a", Good: true, Kind: "empty", State: "healthy"}
	bad := status.ProbeAnswer{Level: 1, Exporter: "otlp/b", Kind: "empty", Result: "retry", Error: "refused\x1b[31m", State: "down",
		ReturnsWhen: "a good probe, then a live batch"}
	silent := status.ProbeAnswer{Level: 1, Exporter: "otlp/b", Error: "it asks for silence", State: "healthy"}
	probed := func(p ...status.ProbeAnswer) []operator.RouteAnswer {
		return []operator.RouteAnswer{{Connector: "failover", Signal: "traces", Probes: p}}
	}
	for _, tc := range []struct {
		name   string
		args   []string
		answer []operator.RouteAnswer
		code   int
		said   string // on stdout or stderr
	}{
		{"all good", []string{"probe", "failover"}, probed(good), 0, "good; now healthy"},
		{"one not good", []string{"probe", "failover"}, probed(good, bad), 1, `not good: refused\u001b[31m; now down, returns with a good`},
		{"one not asked, the other good", []string{"probe", "failover"}, probed(good, silent), 0, "not asked: it asks for silence"},
		{"nobody was asked", []string{"probe", "failover", "1"}, probed(silent), 1, "not asked"},
		{"a refused probe", []string{"probe", "failover", "9"}, refused, 1, "refused: not available"},
		{"a refused hold", []string{"hold", "failover", "0", "--for", "30m"}, refused, 1, "refused: not available"},
		{"a hold", []string{"hold", "failover", "0", "--for", "30m"}, probed(), 0, "held for 30m0s"},
		{"a hold for too long", []string{"hold", "failover", "0", "--for", "25h"}, nil, 1, "24h"},
		{"a hold without an end", []string{"hold", "failover", "0"}, nil, 1, "--for"},
		{"a release", []string{"release", "failover", "0"}, probed(), 0, "released"},
		{"no number", []string{"release", "failover", "first"}, nil, 1, "count from 0"},
		{"an unknown connector", []string{"probe", "nobody"}, nil, 1, `"nobody" has levels`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s.answer = tc.answer
			code, stdout, stderr := s.ask(append([]string{"failover"}, tc.args...)...)
			if code != tc.code || !strings.Contains(stdout+stderr, tc.said) {
				t.Errorf("exit code %d, want %d\n%s%s", code, tc.code, stdout, stderr)
			}
		})
	}
	if _, _, stderr := s.ask("failover", "hold", "failover", "2", "--for", "90s", "--signal", "logs", "--force"); stderr == "" {
		want := operator.LevelRequest{Connector: "failover", Signal: "logs", Level: 2, ForSeconds: 90, Force: true}
		if got := s.asked["/failover/hold"]; got != want {
			t.Errorf("asked for %+v, want %+v", got, want)
		}
	}
	if _, _, stderr := s.ask("failover", "probe", "failover"); stderr == "" && s.asked["/failover/probe"].Level != -1 {
		t.Errorf("without a level asked for %+v", s.asked["/failover/probe"])
	}
}

func TestShowNamesTheNearestConnector(t *testing.T) {
	s := newStranger(t)
	s.status.Failover = []status.Route{{Connector: "failover/traces", Signal: "traces"}, {Connector: "otlp", Signal: "logs", ActiveLevel: -1}}
	if code, stdout, _ := s.ask("failover", "show"); code != 0 || !strings.Contains(stdout, "data goes to level 0") ||
		!strings.Contains(stdout, "data is held") {
		t.Errorf("exit code %d\n%s", code, stdout)
	}
	if code, stdout, _ := s.ask("failover", "show", "otlp"); code != 0 || strings.Contains(stdout, "failover/traces") {
		t.Errorf("exit code %d\n%s", code, stdout)
	}
	if code, _, stderr := s.ask("failover", "show", "failover/trace"); code != 1 || !strings.Contains(stderr, `did you mean "failover/traces"?`) {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}
