// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package crash

import (
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"
)

// unsyncedMoment is what G2 gives away: what was accepted in so much time before the cut, or before the sync that runs
// then began.
const unsyncedMoment = 200 * time.Millisecond

// Fault: D7. The power goes while a process appends, rolls, deletes and recovers, on a file system of its own, which then
// has what reached the device and nothing else. In synced mode everything that was ever acknowledged is there; in
// unsynced mode all but the last moment, and what can be told of the rest is in the books. No cursor is ahead of its data.
func TestPowerCutLosesNoAcknowledgedItem(t *testing.T) {
	needDisks(t, "power cut")
	modes(t, cutAndCutAgain)
}

func cutAndCutAgain(t *testing.T, synced bool) {
	cuts := often(t, "HOLDFAST_CUTS", 10, 2)
	v := newVolume(t, 256)
	random := rand.New(rand.NewPCG(seed(t), map[bool]uint64{true: 3, false: 4}[synced])) //nolint:gosec // moments, not secrets
	o := working(filepath.Join(v.at, "queue"), synced)
	o.Syncs = true
	c := &cutter{T: t, v: v, order: o, story: newStory(o), random: random, synced: synced}
	began := time.Now()
	for n := 1; n <= cuts && !t.Failed(); n++ {
		c.once(n)
		if n%max(1, cuts/10) == 0 {
			t.Logf("%d of %d cuts, %.0f s: %s", n, cuts, time.Since(began).Seconds(), c.story.count())
		}
	}
	v.mount()
	settle(t, o, c.story)
	v.unmount()
	if err := command("e2fsck", "-f", "-n", v.image); err != nil {
		t.Errorf("the file system itself is damaged, so nothing here means anything: %v", err)
	}
	c.proves(cuts)
}

// cutter cuts the power of one process after the other.
type cutter struct {
	*testing.T
	v      *volume
	order  order
	story  *story
	random *rand.Rand
	synced bool

	early int           // cuts before the journal was open
	worst time.Duration // the longest before the cut that a lost record was acknowledged
	slow  time.Duration // the longest that a sync of a segment took
}

func (c *cutter) once(n int) {
	c.Helper()
	c.v.mount()
	o := c.order
	o.Seed, o.Inventory = c.random.Uint64(), true
	p := launch(c.T, o, c.story)
	if c.random.IntN(5) == 0 { // anywhere in its start
		pause(time.Duration(c.random.Int64N(int64(60 * time.Millisecond))))
	} else {
		p.await("told ")
		if alarms := p.alarms(); c.synced && len(alarms) > 0 { // what a cut leaves is no damage
			c.Errorf("after cut %d: %s", n-1, alarms[0])
		}
		pause(time.Duration(c.random.Int64N(int64(700 * time.Millisecond))))
	}
	from := c.story.unplug()
	c.v.cut()
	pause(time.Duration(c.random.Int64N(int64(30 * time.Millisecond)))) // it finds out
	p.kill()
	c.v.unmount()
	if _, at := p.heard("failed ", 0); at < 0 && !p.killed() { // without a disk it does not start
		c.Errorf("cut %d: %v: %v\n%s", n, errNotKilled, p.cmd.ProcessState, p.errors.String())
	}
	for _, line := range p.complaints() {
		c.Errorf("cut %d: %s", n, line)
	}
	if _, at := p.heard("open ", 0); at < 0 {
		c.early++
	}
	c.look(p, from)
	if n%5 == 0 {
		c.v.mount()
		inventory(c.T, c.order, c.story)
		c.v.unmount()
	}
	c.story.report(c.T)
}

// look says what may be lost by the cut at that moment.
func (c *cutter) look(p *process, at int64) {
	c.Helper()
	running, lasted := p.syncAt(at)
	c.slow = max(c.slow, lasted)
	c.story.mu.Lock()
	defer c.story.mu.Unlock()
	how := crash{refused: true, power: true} // the process died before it could say otherwise on disk
	defer func() { c.story.crashes[c.story.life] = how }()
	if c.synced {
		return
	}
	moment := max(unsyncedMoment, lasted+unsyncedMoment/2).Nanoseconds()
	how.excused = func(acked int64) bool {
		if acked < running-moment {
			return false
		}
		c.worst = max(c.worst, time.Duration(at-acked))
		return true
	}
}

// syncAt is when the sync began that ran at that moment, or the moment itself if none did, and how long the last one
// before it had taken.
func (p *process) syncAt(at int64) (began int64, lasted time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	began = at
	latest := int64(0)
	for _, s := range p.syncs {
		switch {
		case s.start < at && (s.end == 0 || s.end > at || !s.ok):
			began = min(began, s.start)
		case s.ok && s.end <= at && s.end > latest:
			latest, lasted = s.end, time.Duration(s.end-s.start)
		}
	}
	return began, lasted
}

func (c *cutter) proves(cuts int) {
	c.Helper()
	sum := c.story.count()
	c.Logf("%d cuts, %d before the journal was open; %d acknowledgements after one began; longest last sync before one %s\n\t%s",
		cuts, c.early, sum.late, c.slow.Round(time.Millisecond), sum)
	if !c.synced {
		c.Logf("%d records (%d items) were lost by policy, acknowledged at most %s before the cut; the books know of %d items",
			sum.lost, sum.lostItems, c.worst.Round(time.Millisecond), sum.booked)
	}
	if cuts >= 10 && sum.acked < cuts*20 {
		c.Error("this run shows nothing: too little was going on when the power went")
	}
}
