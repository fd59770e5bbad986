// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package crash

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
)

// working is a child's usual order: small segments, so that rolls, seals and deletions come often, one destination that
// keeps up and one that lags behind what is in memory.
func working(dir string, synced bool) order {
	return order{
		Dir: dir, Synced: synced, SegmentKiB: 64, CapMiB: 64, CacheMiB: 1, Timeout: 10 * time.Second,
		Destinations: []string{"near", "far"}, Consumers: map[string]string{"near": "most", "far": "lag"},
		Appenders: 4, Backlog: 2000, Letters: 2,
	}
}

// modes runs a test in synced and in unsynced mode, side by side.
func modes(t *testing.T, test func(t *testing.T, synced bool)) {
	for _, synced := range []bool{true, false} {
		t.Run(map[bool]string{true: "synced", false: "unsynced"}[synced], func(t *testing.T) {
			t.Parallel()
			test(t, synced)
		})
	}
}

// Fault: P1, P2. A process that appends, rolls, seals, deletes and recovers is killed at any of these, at random instants
// and at chosen calls, up to several times before it is through with recovery. What it acknowledged is there, what it
// resolved comes again only as far as no slot on disk knew of it, and nothing else comes.
func TestKillAtAnyInstantLosesNoAcknowledgedItem(t *testing.T) {
	modes(t, killAndKillAgain)
}

func killAndKillAgain(t *testing.T, synced bool) {
	kills := often(t, "HOLDFAST_KILLS", 50, 8)
	random := rand.New(rand.NewPCG(seed(t), map[bool]uint64{true: 1, false: 2}[synced])) //nolint:gosec // moments, not secrets
	k := &killer{T: t, order: working(filepath.Join(place(t), "queue"), synced), random: random, where: map[string]int{}}
	k.story = newStory(k.order)
	began := time.Now()
	for n := 1; n <= kills && !t.Failed(); n++ {
		k.once(n)
		if n%max(1, kills/10) == 0 {
			t.Logf("%d of %d kills, %.0f s: %s", n, kills, time.Since(began).Seconds(), k.story.count())
		}
	}
	letters := settle(t, k.order, k.story)
	k.story.report(t)
	sum := k.story.count()
	if letters < sum.letters {
		t.Errorf("%d records were set aside, %d dead letters are there", sum.letters, letters)
	}
	if left, err := filepath.Glob(filepath.Join(layout.Pipeline(k.order.Dir, "traces"), layout.Bad, "*")); err != nil || len(left) > 0 {
		t.Errorf("kill -9 damages nothing, but %v is in quarantine (%v)", left, err)
	}
	if most := 5 * (sum.unanswered - sum.survived); sum.booked > most { // items; what was in the middle of being written
		t.Errorf("%d items were given up, %d at most were never answered", sum.booked, most)
	}
	k.proves(kills, sum)
}

// killer kills one child after the other.
type killer struct {
	*testing.T
	order  order
	story  *story
	random *rand.Rand

	where   map[string]int // kills, by what the process was doing
	deaths  int            // before the journal was open
	deepest int            // most of these in a row
	row     int
	slowest time.Duration // opening
}

// once starts a child, kills it, and judges what it found.
func (k *killer) once(n int) {
	k.Helper()
	o := k.order
	o.Seed, o.Inventory = k.random.Uint64(), k.random.IntN(10) < 7
	if n%8 != 0 {
		o.Letters = 0 // each process that makes some makes a segment for them, and in time the oldest must go
	}
	late := time.Duration(-1) // after the journal is open; else after the start, or by its own hand
	early := time.Duration(-1)
	switch dice := k.random.IntN(100); {
	case dice < 30:
		o.Die = death{Nth: 1 + k.random.Int64N(40), After: k.random.IntN(2) == 0}
	case dice < 60:
		ops := []string{"create", "allocate", "truncate", "remove", "syncdir", "datasync", "write", "mkdir"}
		o.Die = death{Op: ops[k.random.IntN(len(ops))], Nth: 1 + k.random.Int64N(30), After: k.random.IntN(2) == 0}
	case dice < 75:
		early = time.Duration(k.random.Int64N(int64(40 * time.Millisecond)))
	default:
		late = time.Duration(k.random.Int64N(int64(400 * time.Millisecond)))
	}
	p := launch(k.T, o, k.story)
	switch {
	case early >= 0:
		pause(early)
	case late >= 0:
		k.awaitOpen(p)
		k.live(p, late)
	default:
		k.live(p, 600*time.Millisecond) // if it has not met its end by then
	}
	p.kill()
	k.judge(p, o, n)
}

func (k *killer) awaitOpen(p *process) {
	k.Helper()
	if _, err := p.hope("open ", patience); err != nil {
		k.Error(err)
	}
}

// live lets the process go on for a while, or to its end.
func (k *killer) live(p *process, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.done:
	}
}

// judge looks at what the killed process told, and now and then at what it left.
func (k *killer) judge(p *process, o order, n int) {
	k.Helper()
	if !p.killed() {
		k.Errorf("kill %d: %v: %v\n%s", n, errNotKilled, p.cmd.ProcessState, p.errors.String())
	}
	for _, line := range p.complaints() {
		k.Errorf("kill %d: %s", n, line)
	}
	for _, line := range p.alarms() {
		if o.Synced || !strings.Contains(line, tornWord) {
			k.Errorf("kill %d: %s", n, line)
		}
	}
	if text, at := p.heard("open ", 0); at >= 0 {
		sum := p.sum(text)
		k.slowest = max(k.slowest, sum.Took)
		for _, wrong := range unbalanced(sum.Books, k.story.forgiven()...) {
			k.Errorf("after kill %d: %s", n-1, wrong)
		}
		k.row = 0
	} else {
		k.deaths++
		k.row++
		k.deepest = max(k.deepest, k.row)
	}
	how := "at a random instant"
	if text, at := p.heard("kill ", 0); at >= 0 {
		f := strings.Fields(text)
		how = f[1] + " " + kindOf(f[2])
	}
	k.where[how]++
	k.story.report(k.T)
	if n%10 == 0 {
		inventory(k.T, k.order, k.story)
	}
	if n%50 == 0 {
		settle(k.T, k.order, k.story)
	}
}

// kindOf is what a name on disk is, without which one.
func kindOf(name string) string {
	dir, file := filepath.Split(name)
	switch {
	case strings.Contains(dir, "/dead/"):
		return "of a dead letter"
	case strings.HasSuffix(file, layout.SegmentSuffix):
		return "of a segment"
	case strings.HasSuffix(file, layout.CursorSuffix):
		return "of a cursor"
	case strings.HasSuffix(file, layout.TempSuffix):
		return "of a temporary file"
	case file == layout.LockFile || file == layout.ReserveFile:
		return "of " + file
	}
	return "of a directory"
}

// proves fails if the run was too tame to show anything.
func (k *killer) proves(kills int, sum tally) {
	k.Helper()
	var where []string
	for what, n := range k.where {
		where = append(where, fmt.Sprintf("%s %d", what, n))
	}
	slices.Sort(where)
	k.Logf("%d kills, %d before the journal was open, %d of these in a row; slowest opening %s\n\t%s; %d items that were not answered given up as unsynced\n\tkilled: %s",
		kills, k.deaths, k.deepest, k.slowest.Round(time.Millisecond), sum, sum.booked, strings.Join(where, ", "))
	if kills >= 50 && (sum.acked < kills*10 || sum.resolved < kills*10 || k.deaths < kills/20 || len(k.where) < 6) {
		k.Error("this run shows nothing: too little was going on when the processes died")
	}
}

func (t tally) String() string {
	return fmt.Sprintf("%d acknowledged, %d resolved, %d set aside, %d refused; %d inventories with %d records; "+
		"%d unanswered, %d of them there; %d duplicates, at most %d after one crash, resolved at most %d ms before it",
		t.acked, t.resolved, t.letters, t.refused, t.inventories, t.records, t.unanswered, t.survived, t.duplicates,
		t.mostAtOnce, t.oldest/1e6)
}
