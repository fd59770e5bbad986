// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package reload_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/reload"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// shelf is where watched files stand, for a works that reads them too.
type shelf struct {
	*works
	mu   sync.Mutex
	file string // "" = it is not there
}

func (s *shelf) put(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.file = text
}

func (s *shelf) Read(context.Context) ([]reload.Text, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == "" {
		return nil, errors.New("open config.yaml: no such file")
	}
	return []reload.Text{{URI: uris[0], Text: s.file}}, nil
}

// watching is a plant that watches a file with a text that wants it.
func watching(t *testing.T, text string) (*plant, *shelf) {
	p := newPlant(t, vfs.NewMem(0), text)
	s := &shelf{works: p.works, file: text}
	p.settings.Reader, p.settings.Watched = s, s
	p.Driver = reload.New(p.settings)
	p.start()
	return p, s
}

// asked counts the requests of the watch.
func (p *plant) asked() int {
	n := 0
	for _, e := range p.logs.FilterMessage("Config reload requested").All() {
		if e.ContextMap()["source"] == "watch" {
			n++
		}
	}
	return n
}

func TestWatchAsksForAReloadHalfASecondAfterTheLastChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := watching(t, "one, watched")
		defer p.stop()
		time.Sleep(time.Minute)
		if n := p.asked(); n != 0 {
			t.Errorf("%d requests, and nothing has changed", n)
		}
		s.put("two, watched")
		time.Sleep(lookLimit)
		if got := p.runs(); got != "two, watched" {
			t.Errorf("%q runs", got)
		}
		time.Sleep(10 * time.Minute)
		if s := p.Snapshot(); s.State != "idle" || s.Running.Source != "watch" || p.asked() != 1 {
			t.Errorf("%+v after %d requests", s, p.asked())
		}
	})
}

// lookLimit is how long it takes at most until a change is switched to: a look, half a second, two readings.
const lookLimit = time.Second + 500*time.Millisecond + 300*time.Millisecond

func TestWatchWaitsUntilAFileIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := watching(t, "one, watched")
		defer p.stop()
		for i := range 50 { // somebody writes it slowly, or replaces it again and again
			s.put("half of it, watched" + string(rune('a'+i%26)))
			time.Sleep(150 * time.Millisecond)
			s.put("")
			time.Sleep(50 * time.Millisecond)
		}
		if n := p.asked(); n != 0 {
			t.Errorf("%d requests while it is written", n)
		}
		s.put("all of it, watched")
		time.Sleep(lookLimit)
		if got := p.runs(); got != "all of it, watched" || p.asked() != 1 {
			t.Errorf("%q runs after %d requests", got, p.asked())
		}
	})
}

func TestWatchDoesNotTryWhatWasRefusedBeforeItChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := watching(t, "one, watched")
		defer p.stop()
		for _, bad := range []string{"invalid, watched", "taken, watched", "denied changed, watched"} {
			before := p.asked()
			s.put(bad)
			time.Sleep(2 * time.Hour)
			if got := p.runs(); got != "one, watched" || p.asked() != before+1 {
				t.Errorf("%s: %q runs after %d requests", bad, got, p.asked()-before)
			}
			s.put("")
			time.Sleep(time.Hour)
			if p.asked() != before+1 {
				t.Errorf("%s: a file that is gone was asked for", bad)
			}
		}
		s.put("mended, watched")
		time.Sleep(lookLimit)
		if got := p.runs(); got != "mended, watched" {
			t.Errorf("%q runs", got)
		}
	})
}

func TestWatchLeavesWhatSomebodyElseAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := watching(t, "one, watched")
		defer p.stop()
		time.Sleep(time.Minute)
		s.put("two, watched")
		if r := request(p); r.Outcome != reload.Committed {
			t.Errorf("%+v", r)
		}
		time.Sleep(time.Hour)
		if n := p.asked(); n != 0 {
			t.Errorf("%d requests of the watch", n)
		}
	})
}

func TestWhoAsksForWhatTheWatchHasPutOnTrialHearsHowItEnds(t *testing.T) {
	for text, want := range map[string]reload.Outcome{
		"two changed, watched": reload.Committed, "two denied changed late, watched": reload.RolledBack,
	} {

		synctest.Test(t, func(t *testing.T) {
			p, s := watching(t, "one, watched")
			defer p.stop()
			time.Sleep(time.Minute)
			s.put(text)
			for began := time.Now(); p.Snapshot().State != "trial"; time.Sleep(10 * time.Millisecond) {
				if time.Since(began) > lookLimit {
					t.Fatalf("%s: %+v", text, p.Snapshot())
				}
			}
			if r := request(p); r.Outcome != want || r.Generation != 2 {
				t.Errorf("%s: %+v, want %s", text, r, want)
			}
		})
	}
}

func TestNothingIsWatchedUnlessTheConfigurationThatIsGoodSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := watching(t, "one")
		s.put("two, watched")
		time.Sleep(time.Hour)
		if p.runs() != "one" || p.asked() != 0 {
			t.Errorf("%q runs after %d requests", p.runs(), p.asked())
		}
		if r := request(p); r.Outcome != reload.Committed {
			t.Errorf("%+v", r)
		}
		s.put("three denied changed") // switches itself off, and is undone: who was there before goes on watching
		time.Sleep(time.Minute)
		s.put("four, watched")
		time.Sleep(time.Minute)
		if p.runs() != "four, watched" || p.asked() != 2 {
			t.Errorf("%q runs after %d requests", p.runs(), p.asked())
		}
		p.stop()
	})
}
