// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package reload_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/reload"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

func back(p *plant, to reload.Generation) reload.Result {
	return p.Request(context.Background(), reload.Ask{Source: "rollback", Back: true, To: to})
}

func TestARollbackRunsAStoredTextAndSaysWhatTheSourcesStillSay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem(0)
		p := newPlant(t, disk, "one")
		p.start()
		time.Sleep(time.Minute)
		if r := back(p, 0); r.Outcome != reload.Rejected || r.Reason != reload.ReasonNotStored {
			t.Errorf("there is none to go back to: %+v", r)
		}
		for _, text := range []string{"two", "three"} {
			p.offer(text)
			if r := request(p); r.Outcome != reload.Committed {
				t.Fatalf("%s: %+v", text, r)
			}
		}
		three := p.Snapshot().Running
		r := back(p, 0)
		if r.Outcome != reload.Committed || p.runs() != "two" || !strings.Contains(r.Text, "the sources still say "+three.Hash[:12]) {
			t.Errorf("what ran before: %q runs: %+v", p.runs(), r)
		}
		s := p.Snapshot()
		if !s.Drift || s.Offered.Hash != three.Hash || s.Good.Hash != s.Running.Hash || s.Running.Source != "rollback" ||
			s.Attempts[0].From == 0 || !s.Attempts[0].Stored || s.Attempts[1].State != reload.Committed || !s.Attempts[1].Stored {
			t.Errorf("after it: %+v", s)
		}
		if r := back(p, 1); r.Outcome != reload.Committed || p.runs() != "one" {
			t.Errorf("by its number: %q runs: %+v", p.runs(), r)
		}
		if r := back(p, 3); r.Outcome != reload.Committed || p.runs() != "two" || !strings.HasPrefix(r.Text, "it has the text of generation 3") {
			t.Errorf("by its number, and it is stored under another: %q runs: %+v", p.runs(), r)
		}
		if r := back(p, 99); r.Reason != reload.ReasonNotStored || !strings.Contains(r.Text, "stored are 4 (") {
			t.Errorf("one that is not stored: %+v", r)
		}
		// What the sources say is read anew: they may have been mended since.
		p.offer("one")
		if r := back(p, 1); r.Outcome != reload.Committed || strings.Contains(r.Text, "sources") || p.runs() != "one" || p.Snapshot().Drift {
			t.Errorf("what the sources say by now: %q runs: %+v", p.runs(), r)
		}
		p.stop()

		// The next start is about what the sources say.
		p = newPlant(t, disk, "three")
		p.start()
		if p.runs() != "three" || p.Snapshot().State != "trial" {
			t.Errorf("after a restart %q runs: %+v", p.runs(), p.Snapshot())
		}
		// On trial, and not warm what ran before: it is built, and is on trial too.
		if r := back(p, 0); r.Outcome != reload.Committed || p.runs() != "one" {
			t.Errorf("in a trial after a restart: %q runs: %+v", p.runs(), r)
		}
		// Warm: at once.
		p.offer("two")
		p.Request(context.Background(), reload.Ask{Source: "reload", Begun: true})
		began, was := time.Now(), p.readings()
		if r := back(p, 0); r.Outcome != reload.Committed || p.runs() != "one" || time.Since(began) > time.Second || p.readings() != was {
			t.Errorf("in a trial, after %s and %d readings: %q runs: %+v", time.Since(began), p.readings()-was, p.runs(), r)
		}
		p.stop()
	})
}

func TestARollbackThatDoesHarmIsTakenBackItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlant(t, vfs.NewMem(0), "one changed denied") // nothing to be judged by: it is committed
		p.start()
		time.Sleep(time.Minute)
		p.offer("two")
		if r := request(p); r.Outcome != reload.Committed {
			t.Fatalf("%+v", r)
		}
		time.Sleep(time.Minute)
		if r := back(p, 0); r.Outcome != reload.RolledBack || r.Reason != reload.ReasonMisconfigured || p.runs() != "two" {
			t.Errorf("%q runs: %+v", p.runs(), r)
		}
		if s := p.Snapshot(); s.Drift {
			t.Errorf("the sources say what runs: %+v", s)
		}
		if r := back(p, 0); r.Reason != reload.ReasonHeld {
			t.Errorf("again: %+v", r)
		}
		p.stop()
	})
}

// A rollback does not need the sources, nor wait for them.
func TestARollbackWorksWhereTheSourcesCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlant(t, vfs.NewMem(0), "one")
		p.start()
		time.Sleep(time.Minute)
		p.offer("two")
		if r := request(p); r.Outcome != reload.Committed {
			t.Fatalf("%+v", r)
		}
		p.offer("")
		if r := back(p, 0); r.Outcome != reload.Committed || p.runs() != "one" {
			t.Errorf("%q runs: %+v", p.runs(), r)
		}
		p.stop()
	})
}

func TestTheStoreKeepsTenTextsToGoBackTo(t *testing.T) {
	disk := vfs.NewMem(0)
	s := openStore(t, disk)
	last := reload.Generation(0)
	save := func(text string) {
		last++
		texts := []reload.Text{{URI: uris[0], Text: text}}
		check(t, s.SaveGood(&reload.Good{Texts: texts, Record: reload.Record{Generation: last, Hash: reload.HashOf(texts)}}))
	}
	save("old")
	for range 50 { // a script that alternates leaves room for others
		save("one")
		save("two")
	}
	if names := goodFiles(t, disk); !slices.Equal(names, []string{"good-1.json", "good-100.json", "good-101.json"}) {
		t.Errorf("kept are %v", names)
	}
	check(t, s.Close())
	s = openStore(t, disk)
	number := func(g reload.Generation) func(*reload.Good) bool {
		return func(good *reload.Good) bool { return good.Generation == g }
	}
	if g, err := s.Newest(number(1)); err != nil || g == nil || g.Texts[0].Text != "old" {
		t.Errorf("the first is %+v, %v", g, err)
	}
	if g, err := s.Newest(number(7)); err != nil || g != nil {
		t.Errorf("one that is not kept is %+v, %v", g, err)
	}
	good, err := s.Good()
	check(t, err)
	if g, err := s.Newest(func(g *reload.Good) bool { return g.Hash != good.Hash }); err != nil || g == nil || g.Generation != 100 {
		t.Errorf("the one before is %+v, %v", g, err)
	}
	for n := range 30 {
		save(fmt.Sprint("text ", n))
	}
	if names := goodFiles(t, disk); len(names) != 10 || !slices.Contains(names, "good-122.json") {
		t.Errorf("kept are %v, want the newest ten", names)
	}
	for g := range reload.Generation(2) {
		check(t, s.SaveGood(&reload.Good{Texts: []reload.Text{{URI: uris[0], Text: strings.Repeat("x", 9<<20)}},
			Record: reload.Record{Generation: 200 + g, Hash: fmt.Sprint(g)}}))
	}
	if names := goodFiles(t, disk); !slices.Equal(names, []string{"good-200.json", "good-201.json"}) {
		t.Errorf("kept beside huge ones are %v", names)
	}
	check(t, s.Close())
}
