// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
	"github.com/holdfast-telemetry/holdfast/internal/loadgen"
	"github.com/holdfast-telemetry/holdfast/internal/status"
)

// newChanging is a judged shift under load whose first configuration is committed.
func newChanging(t *testing.T, queue string) (s *shift, stop func() (loadgen.Summary, []string)) {
	t.Helper()
	s = newJudged(t, alone, queue)
	s.values["TRIAL"] = "1s"
	s.start(judged)
	stop = s.send(loadgen.Options{Run: "changing", Signals: []item.Signal{item.Traces}, Producers: 2, Items: 10, ItemBytes: 50, Rate: 100})
	s.delivers()
	s.about("idle")
	return s, stop
}

// delivers waits until more has arrived than now.
func (s *shift) delivers() {
	s.t.Helper()
	was := s.stored()
	eventually(s.t, "data is delivered", func() bool { return s.stored() > was+50 })
}

// about is what the status says of configurations when the reload is about what.
func (s *shift) about(state string) (c status.Config) {
	s.t.Helper()
	eventually(s.t, "the reload is "+state, func() bool {
		var all status.Status
		must(s.t, json.Unmarshal([]byte(s.tell("status", "--json").stdout), &all))
		c = all.Config
		return c.State == state && c.Running.SHA256 != ""
	})
	return c
}

// next writes a text that says something else than the one before, and returns its hash.
func (s *shift) next(token string) (hash string) {
	s.t.Helper()
	s.with("TOKEN", token)
	s.write(judged)
	text, err := os.ReadFile(s.config)
	must(s.t, err)
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// said runs a command and checks its exit code and words of what it says.
func (s *shift) said(code int, words string, args ...string) {
	s.t.Helper()
	if o := s.tell(args...); o.code != code || !strings.Contains(o.stdout+o.stderr, words) {
		s.t.Errorf("%v: exit code %d, want %d with %q: %s%s", args, o.code, code, words, o.stdout, o.stderr)
	}
}

// A trial that is to be confirmed stays when somebody confirms it, however long its own length, and goes when nobody does;
// nothing is lost, nothing arrives twice, and nobody notices.
func TestATrialThatIsToBeConfirmedUnderLoad(t *testing.T) {
	t.Parallel()
	for name, queue := range map[string]string{"disk": onDisk, "memory": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, stop := newChanging(t, queue)
			confirmed := s.next("confirmed")
			s.said(0, "holdfast config confirm --state-dir "+s.state, "reload", "--confirm", "60s")
			eventually(t, "an ordinary trial would be over", func() bool {
				return s.value("holdfast_config_trial_remaining_seconds") < 57
			})
			if c := s.about("trial"); c.Running.SHA256 != confirmed || c.Good.SHA256 == confirmed || c.ConfirmUntil.IsZero() {
				t.Errorf("while it waits: %+v", c)
			}
			s.said(0, "to be confirmed within", "status")
			s.said(1, "another configuration waits", "config", "confirm", "--expect", "0123456789")
			s.said(0, "is confirmed", "config", "confirm", "--expect", confirmed)
			if c := s.about("idle"); c.Running.SHA256 != confirmed || c.Good.SHA256 != confirmed || c.Drift {
				t.Errorf("when it is confirmed: %+v", c)
			}
			s.said(1, "nothing waits", "config", "confirm")

			missed := s.next("missed")
			s.said(2, "rolled_back nobody confirmed it in time", "reload", "--wait", "--confirm", "3s")
			if c := s.about("idle"); c.Running.SHA256 != confirmed || c.Good.SHA256 != confirmed || !c.Drift || c.Offered.SHA256 != missed {
				t.Errorf("when nobody did: %+v", c)
			}
			s.p.await("Config rolled back.*not_confirmed")
			s.said(1, "held until another text", "reload", "--wait")
			s.said(1, "was taken back", "config", "confirm")
			s.said(0, "not_confirmed", "config", "history")
			s.delivers()
			if _, failed := stop(); len(failed) > 0 {
				t.Errorf("failed: %q", failed)
			}
			bound := int64(0)
			s.passes(ledger.Options{MaxDuplicates: &bound})
		})
	}
}

// A process that is killed or stopped while nobody has confirmed it yet comes up with the good one, at once and for good.
func TestAProcessThatEndsBeforeAConfirmationComesUpWithTheGoodOne(t *testing.T) {
	t.Parallel()
	for _, end := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		t.Run(end.String(), func(t *testing.T) {
			t.Parallel()
			s, stop := newChanging(t, onDisk)
			good := s.about("idle").Running.SHA256
			s.next("unconfirmed")
			s.said(0, "holdfast config confirm", "reload", "--confirm", "10m")
			for range 2 {
				s.delivers()
				s.p.signal(end)
				s.p.exit()
				s.begin()
				s.p.await("Everything is ready")
				s.p.await("Config rolled back.*not_confirmed")
				if c := s.about("idle"); c.Running.SHA256 != good || c.Good.SHA256 != good || !c.Drift || c.Attempts[0].Reason != "not_confirmed" {
					t.Errorf("after %s: %+v", end, c)
				}
			}
			s.delivers()
			s.said(0, "holdfast config confirm", "reload", "--confirm", "10m")
			s.said(0, "is confirmed", "config", "confirm")
			s.delivers()
			stop() // who asked while it was away was refused
			bound := int64(0)
			if end == syscall.SIGKILL {
				bound = 2 * duplicatesPerCrash(100)
			}
			s.passes(ledger.Options{MaxDuplicates: &bound})
		})
	}
}

// Going back to a stored configuration is a reload as any other: nobody notices it, nothing is lost, nothing arrives twice.
// What the sources say is not changed, the answer and the status say that, and the next reload and start are about it.
func TestARollbackUnderLoad(t *testing.T) {
	t.Parallel()
	for name, queue := range map[string]string{"disk": onDisk, "memory": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, stop := newChanging(t, queue)
			first := s.about("idle").Running.SHA256
			s.said(1, "nothing was committed before", "config", "rollback")
			second := s.next("second")
			s.said(0, "committed", "reload", "--wait")

			s.said(0, "the sources still say "+second[:12], "config", "rollback", "--wait")
			if c := s.about("idle"); c.Running.SHA256 != first || c.Good.SHA256 != first || c.Offered.SHA256 != second || !c.Drift {
				t.Errorf("after a rollback: %+v", c)
			}
			s.said(1, "configuration that runs is not the one that is offered", "status")
			s.said(0, "rollback", "config", "history")
			s.delivers()
			s.said(0, "committed", "reload", "--wait")
			if c := s.about("idle"); c.Running.SHA256 != second || c.Drift {
				t.Errorf("after a reload: %+v", c)
			}
			s.said(1, "generation 99 is not stored; stored are ", "config", "rollback", "99")
			s.said(0, "generation 1;", "config", "rollback", "1")
			s.about("idle")

			third := s.next("third")
			s.said(0, "holdfast config rollback", "reload", "--confirm", "60s")
			s.delivers()
			s.said(0, "runs again; the sources still say "+third[:12]+", which is held", "config", "rollback")
			if c := s.about("idle"); c.Running.SHA256 != first || c.Good.SHA256 != first {
				t.Errorf("after a rollback of what was to be confirmed: %+v", c)
			}
			s.said(1, "held until another text", "reload", "--wait")
			s.next("second")
			s.said(0, "committed", "reload", "--wait")
			s.delivers()
			if _, failed := stop(); len(failed) > 0 {
				t.Errorf("failed: %q", failed)
			}
			bound := int64(0)
			s.passes(ledger.Options{MaxDuplicates: &bound})
		})
	}
}

// A process that is killed while a rollback is on trial, or after it, comes up with what the sources say.
func TestAProcessThatIsKilledAfterARollbackRunsWhatTheSourcesSay(t *testing.T) {
	t.Parallel()
	s, stop := newChanging(t, onDisk)
	second := s.next("second")
	s.said(0, "committed", "reload", "--wait")
	for _, args := range [][]string{{"--confirm", "10m"}, {"--wait"}} {
		s.said(0, "the sources still say "+second[:12], append([]string{"config", "rollback"}, args...)...)
		s.delivers()
		s.p.signal(syscall.SIGKILL)
		s.p.exit()
		s.begin()
		s.p.await("Everything is ready")
		if c := s.about("idle"); c.Running.SHA256 != second || c.Good.SHA256 != second || c.Drift {
			t.Errorf("after a rollback %v and a kill: %+v", args, c)
		}
	}
	s.delivers()
	stop() // who asked while it was away was refused
	bound := 2 * duplicatesPerCrash(100)
	s.passes(ledger.Options{MaxDuplicates: &bound})
}
