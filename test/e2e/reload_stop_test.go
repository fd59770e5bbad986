// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
	"github.com/holdfast-telemetry/holdfast/internal/loadgen"
)

// A stop is bounded and loses nothing, whatever a reload is about, and says nothing about what was on trial.
func TestSIGTERMInEveryStateOfAReload(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		state func(s *shift) // brings it there
	}{
		{"loading", func(s *shift) {
			s.with("TOKEN", "new")
			s.write(judged)
			s.p.signal(syscall.SIGHUP)
			s.p.await(`Config reload requested.*"source": "SIGHUP"`)
		}},
		{"preflight", func(s *shift) {
			s.with("PORT", "1") // asked three times in 5 s
			s.write(judged)
			s.p.signal(syscall.SIGHUP)
			s.p.await(`Config reload requested.*"source": "SIGHUP"`)
			eventually(s.t, "it is being prepared", func() bool {
				return strings.Contains(s.tell("status", "--json").stdout, "preparing")
			})
		}},
		{"trial", func(s *shift) {
			s.with("TOKEN", "new")
			s.write(judged)
			s.p.signal(syscall.SIGHUP)
			s.p.await(`Config switched, trial begins.*"source": "SIGHUP"`)
		}},
		{"trial of one that delivers nothing", func(s *shift) {
			s.with("PREFLIGHT", "off")
			s.write(judged)
			s.becomes(judged, 0, `^committed`)
			s.with("PORT", "1")
			s.write(judged)
			s.p.signal(syscall.SIGHUP)
			s.p.await(`Config switched, trial begins.*"source": "SIGHUP"`)
			s.p.await(`level is down`)
		}},
		{"trial, and another one loading", func(s *shift) {
			s.with("TOKEN", "new")
			s.write(judged)
			s.p.signal(syscall.SIGHUP)
			s.p.await(`Config switched, trial begins.*"source": "SIGHUP"`)
			s.with("TOKEN", "newer")
			s.write(judged)
			s.p.signal(syscall.SIGHUP)
			s.p.await(`(?s)Config reload requested.*Config reload requested`)
		}},
		{"rolled back", func(s *shift) {
			s.with("TOKEN", "new")
			s.write(judged)
			s.p.signal(syscall.SIGHUP)
			s.p.await(`Config switched, trial begins.*"source": "SIGHUP"`)
			s.with("TOKEN", "right")
			s.write(judged)
			s.p.signal(syscall.SIGHUP)
			s.p.await(`Config superseded.*"reason": "way_back"`)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newJudged(t, alone, onDisk)
			s.with("TRIAL", "1s")
			s.start(judged)
			s.p.await("Config committed")
			s.with("TRIAL", "60s")
			s.becomes(judged, 0, `^committed`) // from now on
			stop := s.send(loadgen.Options{Run: "stop", Signals: []item.Signal{item.Traces}, Producers: 2, Items: 10,
				ItemBytes: 50, Rate: 500, To: []string{"grpc://" + s.host + ":4317"}})
			eventually(t, "it delivers", func() bool { return s.sinks[0].State().Stored["traces"] > 50 })
			c.state(s)
			began := time.Now()
			if code := s.p.stop(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("took %s", took)
			}
			if b := lastLine(t, s.p); b.Dropped != 0 {
				t.Errorf("%+v", b)
			}
			if found, err := filepath.Glob(filepath.Join(s.state, "config", "*", "attempt.json")); err != nil || len(found) != 0 {
				t.Errorf("a stop in order is taken for a crash: %q %v", found, err)
			}
			s.with("PORT", "14317")
			s.write(judged)
			s.restart()
			stop()
			s.passes(ledger.Options{})
		})
	}
}

func TestSIGHUPBeforeReadyIsServedAfterwards(t *testing.T) {
	t.Parallel()
	s := newJudged(t, alone, onDisk)
	s.with("TRIAL", "1s")
	s.write(judged)
	pid := filepath.Join(s.base, "pid")
	s.begin("--pid-file", pid)
	eventually(t, "the PID file is there", func() bool {
		found, err := filepath.Glob(pid)
		return err == nil && len(found) == 1
	})
	s.p.signal(syscall.SIGHUP)
	s.p.await(`Config reload requested.*"source": "SIGHUP"`)
	s.p.await(`Config unchanged`)
	out := s.p.output()
	if ready, asked := strings.Index(out, "Everything is ready"), strings.Index(out, "Config reload requested"); ready < 0 || asked < ready {
		t.Errorf("ready at %d, reload at %d of the output", ready, asked)
	}
	s.deliversSome("early")
	s.passes(ledger.Options{})
}
