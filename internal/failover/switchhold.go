// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package failover

import (
	"fmt"
	"time"
)

// hold takes a level out for an operator (T15). The level that alone takes data, of its route or of another one that
// shares an exporter with it, is held by force only.
func (s *Switch) hold(now time.Time, ev *Event, out []Effect) []Effect {
	refuse := func(why string, args ...any) []Effect {
		return append(out, Effect{Kind: EffectRefused, Route: ev.Route, Level: ev.Level, Why: fmt.Sprintf(why, args...)})
	}
	r := s.byRoute[ev.Route]
	switch {
	case r == nil || ev.Level < 0 || ev.Level >= len(r.members):
		return refuse("no such route or level")
	case ev.For <= 0 || ev.For > MaxHold:
		return refuse("a hold lasts for more than nothing and at most %s", MaxHold)
	case r.set.Levels[ev.Level].Emergency:
		return refuse("the emergency level is not held: emergency.enabled takes it out")
	}
	if last := s.last(r.members[ev.Level]); last != nil && !ev.Force {
		return refuse("level %d is the only one of %s that takes %s: it is held by force only", last.level,
			last.route.set.Connector, last.route.set.Signal)
	}
	for _, c := range r.members[ev.Level] {
		s.note(now, c, c.b.Hold(now, now.Add(ev.For), s.scratch[:0]))
	}
	return out
}

// last is a seat of one of the members without whose level its route takes no data; nil = there is none.
func (s *Switch) last(members []*cell) *seat {
	for _, c := range members {
		for i := range c.seats {
			at := &c.seats[i]
			if !at.route.set.Levels[at.level].Emergency && eligible(at.route.members[at.level]) &&
				!at.route.carries(at.level) {
				return at
			}
		}
	}
	return nil
}

// release ends holds, and lets manual returns go on.
func (s *Switch) release(now time.Time, ev *Event, out []Effect) []Effect {
	r := s.byRoute[ev.Route]
	if r == nil || ev.Level >= len(r.members) {
		return append(out, Effect{Kind: EffectRefused, Route: ev.Route, Level: ev.Level, Why: "no such route or level"})
	}
	any := false
	for i, members := range r.members {
		if ev.Level >= 0 && ev.Level != i {
			continue
		}
		for _, c := range members {
			changes, released := c.b.Release(now, s.scratch[:0])
			s.note(now, c, changes)
			any = any || released
		}
	}
	if !any {
		return append(out, Effect{Kind: EffectRefused, Route: ev.Route, Level: ev.Level,
			Why: "nothing is held, and no return waits for a release"})
	}
	return out
}
