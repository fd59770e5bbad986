// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package reload_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/reload"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// confirmable offers a text and returns when it waits to be confirmed.
func confirmable(p *plant, text string, d time.Duration) reload.Result {
	p.t.Helper()
	p.offer(text)
	r := p.Request(context.Background(), reload.Ask{Source: "reload", Confirm: d, Begun: true})
	if r.Outcome != reload.OnTrial || !r.Until.Equal(time.Now().Add(d)) {
		p.t.Errorf("%s: %+v", text, r)
	}
	return r
}

func TestWhatIsToBeConfirmedStaysIfSomebodyDoesInTimeAndGoesIfNobodyDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlant(t, vfs.NewMem(0), "one")
		p.start()
		if r := p.Confirm(context.Background(), ""); r.Outcome != reload.Rejected || r.Reason != reload.ReasonUnasked {
			t.Errorf("there is nothing to confirm: %+v", r)
		}
		time.Sleep(time.Minute)
		r := confirmable(p, "two", 10*time.Minute)
		time.Sleep(9 * time.Minute) // the ordinary trial would be over
		if s := p.Snapshot(); s.State != "trial" || s.Good.Generation == r.Generation || !s.ConfirmUntil.Equal(r.Until) || p.runs() != "two" {
			t.Errorf("while it waits: %+v", s)
		}
		if n := p.value("holdfast_config_trial_remaining_seconds"); n < 58 || n > 61 {
			t.Errorf("%v seconds are left", n)
		}
		if r := p.Confirm(context.Background(), "0123456789"); r.Outcome != reload.Rejected || r.Reason != reload.ReasonExpected {
			t.Errorf("another one is confirmed: %+v", r)
		}
		if got := p.Confirm(context.Background(), r.Hash[:8]); got.Outcome != reload.Committed || got.Generation != r.Generation {
			t.Errorf("it is confirmed: %+v", got)
		}
		if s := p.Snapshot(); s.State != "idle" || s.Good.Generation != r.Generation || !s.ConfirmUntil.IsZero() || s.Attempts[0].Text != "it was confirmed" {
			t.Errorf("after it was confirmed: %+v", s)
		}
		again := p.Request(context.Background(), reload.Ask{Source: "reload", Confirm: time.Minute, Begun: true})
		if again.Outcome != reload.Unchanged || !strings.Contains(again.Text, "nothing waits to be confirmed") {
			t.Errorf("it is asked for once more: %+v", again)
		}
		r = confirmable(p, "three", time.Minute)
		time.Sleep(time.Minute + 2*time.Second)
		s := p.Snapshot()
		if p.runs() != "two" || !s.Drift || len(s.Held) != 1 || !s.Held[0].Unconfirmed || s.Attempts[0].Reason != reload.ReasonNotConfirmed {
			t.Errorf("nobody confirmed it: %+v", s)
		}
		if r := p.Confirm(context.Background(), r.Hash); r.Outcome != reload.Rejected {
			t.Errorf("it is confirmed too late: %+v", r)
		}
		time.Sleep(2 * time.Hour) // longer than any other hold
		if r := request(p); r.Reason != reload.ReasonHeld {
			t.Errorf("a script offers it again: %+v", r)
		}
		if n := p.says("Config waits for a confirmation"); n != 2 {
			t.Errorf("the log says %d times that something waits for a confirmation", n)
		}
		p.stop()
		if r := p.Confirm(context.Background(), ""); r.Outcome != reload.Rejected || r.Reason != reload.ReasonStopping {
			t.Errorf("after the stop: %+v", r)
		}
	})
}

// Whatever ends the process while nobody has confirmed it yet, the next one runs what was good before, and so do those after
// it, until somebody offers another text.
func TestWhatNobodyConfirmedIsNotStartedAgain(t *testing.T) {
	for _, crash := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			mem := vfs.NewMem(0)
			p := newPlant(t, mem, "one")
			p.start()
			time.Sleep(time.Minute)
			confirmable(p, "two", time.Hour)
			time.Sleep(30 * time.Minute)
			disk := vfs.FS(mem)
			if crash {
				disk = mem.CrashClone(1)
				p.stop()
			} else {
				p.stop()
			}
			for range 3 {
				p = newPlant(t, disk, "two")
				p.start()
				time.Sleep(2 * time.Minute)
				s := p.Snapshot()
				if p.runs() != "one" || !s.Drift || s.State != "idle" || s.Attempts[0].Reason != reload.ReasonNotConfirmed {
					t.Errorf("crash %v: %q runs: %+v", crash, p.runs(), s)
				}
				p.stop()
			}
			p = newPlant(t, disk, "two")
			p.start()
			r := confirmable(p, "two", time.Hour)
			if r := p.Confirm(context.Background(), ""); r.Outcome != reload.Committed {
				t.Errorf("it is confirmed after all: %+v", r)
			}
			p.stop()
			p = newPlant(t, disk, "two")
			p.start()
			if s := p.Snapshot(); s.Running.Generation != r.Generation || s.State != "idle" || s.Drift {
				t.Errorf("then it is good: %+v", s)
			}
			p.stop()
		})
	}
}
