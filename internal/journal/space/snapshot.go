// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package space

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// Snapshot describes the directory. All but the Bytes of the journals is as of the last Warden or Room.
type Snapshot struct {
	Bytes     // what Room counts, by kind; Total is what the cap bounds
	Directory string
	Cap       int64
	MinFree   int64
	Segment   int64         // size of new segments
	Size      int64         // of the volume
	Free      int64         // of it, for this process
	Volume    string        // its kind
	UntilFull time.Duration // at the rate of the last minutes; 0 = it does not grow
	Err       error         // ErrDetached
}

// Snapshot is how it is now. It touches no disk.
func (s *Space) Snapshot() Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	snap := Snapshot{
		Directory: s.dir, Cap: s.mu.bounds.cap, MinFree: s.mu.bounds.minFree, Segment: s.mu.bounds.segment,
		Size: s.mu.volume.Total, Free: s.mu.volume.Free, Volume: s.mu.volume.Kind, Err: s.mu.detached,
		Bytes: Bytes{Cursors: s.mu.own, Reserve: s.mu.reserve, Foreign: s.mu.foreign},
	}
	for _, h := range s.mu.journals {
		b := h.books.bytes()
		snap.Segments += b.Segments
		snap.Cursors += b.Cursors
		snap.Dead += b.Dead
		snap.Bad += b.Bad
	}
	snap.UntilFull = s.mu.growth.until(snap.Cap-snap.Total(), snap.Free-snap.MinFree)
	return snap
}

// growthRounds is how many rounds of the warden the rate is taken from: five minutes.
const growthRounds = 30

// growth remembers the last rounds.
type growth struct{ samples []sample }

type sample struct {
	at         time.Time
	used, free int64
}

func (g *growth) add(at time.Time, used, free int64) {
	if len(g.samples) > growthRounds {
		g.samples = slices.Delete(g.samples, 0, 1)
	}
	g.samples = append(g.samples, sample{at, used, free})
}

// until is when the first of two bounds is met: so many bytes are left under the cap, so many on the volume.
func (g *growth) until(underCap, onVolume int64) time.Duration {
	if len(g.samples) < 2 {
		return 0
	}
	first, last := g.samples[0], g.samples[len(g.samples)-1]
	over := last.at.Sub(first.at)
	if over <= 0 {
		return 0
	}
	soonest := time.Duration(0)
	for _, b := range [...]struct{ left, grown int64 }{{underCap, last.used - first.used}, {onVolume, first.free - last.free}} {
		if b.grown <= 0 {
			continue
		}
		seconds := min(float64(max(b.left, 0))/float64(b.grown)*over.Seconds(), maxUntil.Seconds())
		d := max(time.Duration(seconds*float64(time.Second)), time.Second) // full, and growing: not 0
		if soonest == 0 || d < soonest {
			soonest = d
		}
	}
	return soonest
}

// maxUntil is the longest forecast: ten years.
const maxUntil = 10 * 365 * 24 * time.Hour

// note remembers a condition that people should know of, and forgets it when err is nil.
func (s *Space) note(about, text string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		delete(s.mu.notes, about)
		return
	}
	s.mu.notes[about] = fmt.Sprintf("%s: %v", text, err)
}

// Warnings are sentences for people: about the volume and the directory's mode, and what could not be done lately.
// They change with time; none of them stops anything.
func (s *Space) Warnings() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := surroundings(s.dir, s.was.directory, s.mu.volume)
	for _, about := range slices.Sorted(maps.Keys(s.mu.notes)) {
		list = append(list, s.mu.notes[about])
	}
	return list
}
