// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/app/operator"
	"github.com/holdfast-telemetry/holdfast/internal/reload"
)

func TestReloadSaysWhatCameOfItWithItsExitCode(t *testing.T) {
	s := newStranger(t)
	waits := operator.ReloadAnswer{Outcome: "trial", Generation: 7, SHA256: "ab", Text: "generation 6 runs again",
		ConfirmUntil: time.Now().Add(5 * time.Minute)}
	ended := func(state reload.Outcome) []reload.Entry {
		return []reload.Entry{{Generation: 8, State: reload.Unchanged, Hash: "ab"},
			{Generation: 7, State: state, Hash: "ab", Reason: reload.ReasonNotConfirmed, Text: "why it ended"}}
	}
	for _, tc := range []struct {
		name    string
		args    []string
		answer  operator.ReloadAnswer
		history []reload.Entry
		code    int
		stdout  string
		stderr  string
		asked   operator.ReloadRequest
	}{
		{"nobody waits", nil, operator.ReloadAnswer{Text: "asked for"}, nil, 0, "asked for", "", operator.ReloadRequest{TimeoutSeconds: 180}},
		{"committed", []string{"--wait"}, operator.ReloadAnswer{Outcome: "committed"}, nil, 0, "committed", "",
			operator.ReloadRequest{Wait: true, TimeoutSeconds: 180}},
		{"rejected", []string{"--wait"}, operator.ReloadAnswer{Outcome: "rejected", Reason: "invalid", Text: "c.yaml:3"}, nil, 1, "c.yaml:3", "invalid",
			operator.ReloadRequest{Wait: true, TimeoutSeconds: 180}},
		{"the time ran out", []string{"--wait", "--timeout", "1s"}, operator.ReloadAnswer{}, nil, 3, "", "time ran out",
			operator.ReloadRequest{Wait: true, TimeoutSeconds: 1}},
		{"forced, and no wait for the end", []string{"--force"}, operator.ReloadAnswer{Outcome: "trial", Generation: 7}, nil, 0, "trial", "",
			operator.ReloadRequest{Force: true, TimeoutSeconds: 180}},
		{"it waits to be confirmed", []string{"--confirm", "5m"}, waits, nil, 0, "holdfast config confirm --admin-socket ", "",
			operator.ReloadRequest{ConfirmSeconds: 300, TimeoutSeconds: 180}},
		{"it was rejected, nobody has to confirm it", []string{"--confirm", "5m"}, operator.ReloadAnswer{Outcome: "rejected", Reason: "invalid"}, nil, 1,
			"rejected", "invalid", operator.ReloadRequest{ConfirmSeconds: 300, TimeoutSeconds: 180}},
		{"it was confirmed", []string{"--confirm", "5m", "--wait"}, waits, ended(reload.Committed), 0, "committed why it ended", "holdfast config confirm",
			operator.ReloadRequest{ConfirmSeconds: 300, TimeoutSeconds: 180}},
		{"nobody confirmed it", []string{"--confirm", "5m", "--wait"}, waits, ended(reload.RolledBack), 2, "rolled_back why it ended", "not_confirmed",
			operator.ReloadRequest{ConfirmSeconds: 300, TimeoutSeconds: 180}},
		{"too short", []string{"--confirm", "10ms"}, waits, nil, 1, "", "between 1s and 24h", operator.ReloadRequest{}},
		{"too long", []string{"--confirm", "25h"}, waits, nil, 1, "", "between 1s and 24h", operator.ReloadRequest{}},
		{"none", []string{"--confirm", "0s"}, waits, nil, 1, "", "between 1s and 24h", operator.ReloadRequest{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s.trials["/reload"], s.history = tc.answer, tc.history
			delete(s.offered, "/reload")
			code, stdout, stderr := s.ask(append([]string{"reload"}, tc.args...)...)
			if code != tc.code || !strings.Contains(stdout, tc.stdout) || !strings.Contains(stderr, tc.stderr) {
				t.Errorf("exit code %d, want %d\n%s\n%s", code, tc.code, stdout, stderr)
			}
			if got := s.offered["/reload"]; got != (operator.RollbackRequest{ReloadRequest: tc.asked}) {
				t.Errorf("asked for %+v, want %+v", got, tc.asked)
			}
		})
	}
	s.trials["/reload"] = waits
	_, stdout, _ := s.ask("reload", "--confirm", "5m", "--json")
	var got operator.ReloadAnswer
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || got.Outcome != "trial" || !got.ConfirmUntil.Equal(waits.ConfirmUntil) {
		t.Errorf("as JSON: %v in %s", err, stdout)
	}
}

func TestConfirmSaysWhetherThereWasSomethingToConfirm(t *testing.T) {
	s := newStranger(t)
	for _, tc := range []struct {
		args   []string
		answer operator.ReloadAnswer
		code   int
		said   string
	}{
		{nil, operator.ReloadAnswer{Outcome: "committed", Text: "generation 7 is confirmed"}, 0, "committed generation 7 is confirmed"},
		{nil, operator.ReloadAnswer{Outcome: "rejected", Text: "nothing waits"}, 1, "nothing waits"},
		{[]string{"--json"}, operator.ReloadAnswer{Outcome: "rejected", Text: "nothing waits"}, 1, `"nothing waits"`},
		{[]string{"--expect", strings.Repeat("ab", 32)}, operator.ReloadAnswer{Outcome: "committed"}, 0, "committed"},
		{[]string{"--expect", "abcd"}, operator.ReloadAnswer{Outcome: "committed"}, 1, "eight digits"},
		{nil, operator.ReloadAnswer{}, 3, "time ran out"},
	} {
		s.trials["/config/confirm"] = tc.answer
		code, stdout, stderr := s.ask(append([]string{"config", "confirm"}, tc.args...)...)
		if code != tc.code || !strings.Contains(stdout+stderr, tc.said) {
			t.Errorf("%v: exit code %d, want %d\n%s%s", tc.args, code, tc.code, stdout, stderr)
		}
	}
	gone := &stranger{socket: filepath.Join(t.TempDir(), "none.sock")}
	for _, args := range [][]string{{"reload"}, {"reload", "--confirm", "5m"}, {"config", "confirm"}, {"config", "rollback"}} {
		if code, _, _ := gone.ask(args...); code != 4 {
			t.Errorf("%v: exit code %d, want 4", args, code)
		}
	}
}

func TestRollbackAsksForAGenerationAndSaysWhatCameOfIt(t *testing.T) {
	s := newStranger(t)
	still := "the sources still say 0123456789ab: the next reload or restart runs that again"
	for _, tc := range []struct {
		args   []string
		answer operator.ReloadAnswer
		code   int
		said   string
		asked  operator.RollbackRequest
	}{
		{nil, operator.ReloadAnswer{Outcome: "trial", Generation: 9, Text: still}, 0, "generation 9 runs, and stays if it does no harm; " + still,
			operator.RollbackRequest{ReloadRequest: operator.ReloadRequest{TimeoutSeconds: 180}}},
		{nil, operator.ReloadAnswer{Outcome: "committed", Text: still}, 0, "committed " + still,
			operator.RollbackRequest{ReloadRequest: operator.ReloadRequest{TimeoutSeconds: 180}}},
		{nil, operator.ReloadAnswer{}, 3, "time ran out", operator.RollbackRequest{ReloadRequest: operator.ReloadRequest{TimeoutSeconds: 180}}},
		{[]string{"7", "--wait", "--force"}, operator.ReloadAnswer{Outcome: "rolled_back", Reason: "undelivered", Text: "no delivery"}, 2, "rolled_back no delivery",
			operator.RollbackRequest{ReloadRequest: operator.ReloadRequest{TimeoutSeconds: 180, Wait: true, Force: true}, To: 7}},
		{[]string{"7"}, operator.ReloadAnswer{Outcome: "rejected", Reason: "not_stored", Text: "stored are 3 4"}, 1, "stored are 3 4",
			operator.RollbackRequest{ReloadRequest: operator.ReloadRequest{TimeoutSeconds: 180}, To: 7}},
		{[]string{"--confirm", "5m"}, operator.ReloadAnswer{Outcome: "trial", ConfirmUntil: time.Now()}, 0, "holdfast config confirm",
			operator.RollbackRequest{ReloadRequest: operator.ReloadRequest{TimeoutSeconds: 180, ConfirmSeconds: 300}}},
		{[]string{"0"}, operator.ReloadAnswer{}, 1, "is no generation", operator.RollbackRequest{}},
		{[]string{"last"}, operator.ReloadAnswer{}, 1, "is no generation", operator.RollbackRequest{}},
	} {
		s.trials["/config/rollback"] = tc.answer
		delete(s.offered, "/config/rollback")
		code, stdout, stderr := s.ask(append([]string{"config", "rollback"}, tc.args...)...)
		if code != tc.code || !strings.Contains(stdout+stderr, tc.said) || s.offered["/config/rollback"] != tc.asked {
			t.Errorf("%v: exit code %d, want %d; asked for %+v\n%s%s", tc.args, code, tc.code, s.offered["/config/rollback"], stdout, stderr)
		}
	}
	s.history = []reload.Entry{{Generation: 3, State: reload.Committed, Stored: true}, {Generation: 2, State: reload.Rejected}}
	if _, stdout, _ := s.ask("config", "history"); !strings.Contains(stdout, "committed  yes") || !strings.Contains(stdout, "rejected   -") {
		t.Errorf("history: %s", stdout)
	}
}
