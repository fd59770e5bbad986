// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package failover

import (
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/breaker"
)

// publish makes the route's view anew if something it shows may have changed, and hands it out if something did.
func (s *Switch) publish(now time.Time, r *swRoute, out []Effect) []Effect {
	if !r.recheck.IsZero() && !now.Before(r.recheck) {
		r.dirty, r.recheck = true, time.Time{}
	}
	for _, members := range r.members {
		for _, c := range members {
			r.dirty = r.dirty || c.version != c.b.Version()
		}
	}
	if !r.dirty {
		return out
	}
	r.dirty = false
	before := r.view
	v := r.look(now)
	if before != nil && v.same(before) {
		return out
	}
	v.Number = 1
	if before != nil {
		v.Number = before.Number + 1
	}
	r.view = v
	return append(out, Effect{Kind: EffectPublish, Route: r.set.RouteID, View: v, Before: before})
}

// seen takes note that all views are made of the breakers' present versions.
func (s *Switch) seen() {
	for _, c := range s.order {
		c.version = c.b.Version()
	}
}

// look makes a view of the route.
func (r *swRoute) look(now time.Time) *View {
	v := &View{Active: -1, AllDown: r.allDown, Levels: make([]LevelView, len(r.members))}
	r.recheck = time.Time{}
	for i, members := range r.members {
		l := &v.Levels[i]
		l.Emergency = r.set.Levels[i].Emergency
		l.Eligible, l.Share = true, 1
		l.Members = make([]MemberView, len(members))
		wanted, able := false, true
		for j, c := range members {
			l.State = max(l.State, LevelState(c.b.State()))
			l.Eligible = l.Eligible && c.b.State().Carries()
			l.Silent = l.Silent || c.b.Silent()
			l.Share = min(l.Share, c.b.Share())
			if until := c.b.ThrottledUntil(); until.After(l.ThrottledUntil) {
				l.ThrottledUntil = until
			}
			l.Members[j] = MemberView{Exporter: c.key.sibling.exporter, Breaker: c.id, Generation: c.b.Generation()}
			wanted = wanted || c.token != nil
			able = able && (c.b.State().Carries() || c.token != nil)
			if !l.Emergency && !c.b.State().Carries() {
				v.NextProbe = sooner(v.NextProbe, c.nextProbe())
			}
		}
		if !wanted || !able {
			continue
		}
		if l.ThrottledUntil.After(now) { // one of them must not be called yet
			r.recheck = sooner(r.recheck, l.ThrottledUntil)
			continue
		}
		for j, c := range members {
			l.Members[j].Token, l.Members[j].Canary = c.token, c.canary && c.token != nil
		}
	}
	v.Active = v.fresh(r.set.Stay, r.set.Filled)
	return v
}

// fresh is the level a fresh batch would go to: the first ordinary one that is eligible and not silent, else the first
// that is eligible, else the emergency level where it takes what no other does.
func (v *View) fresh(stay, filled bool) int {
	silent, emergency := -1, -1
	for i := range v.Levels {
		switch l := &v.Levels[i]; {
		case !l.Eligible:
		case l.Emergency:
			emergency = i
		case !l.Silent || stay:
			return i
		case silent < 0:
			silent = i
		}
	}
	switch {
	case silent >= 0:
		return silent
	case v.AllDown && !filled:
		return emergency
	}
	return -1
}

// nextProbe is when the cell is asked next, its routes' gaps in mind.
func (c *cell) nextProbe() time.Time {
	at := c.b.NextProbe()
	if c.exempt() || c.b.State() == breaker.Held {
		return at
	}
	if end := c.gapEnds(); end.After(at) {
		return end
	}
	return at
}

// same reports whether two views say the same, numbers aside.
func (v *View) same(o *View) bool {
	if v.Active != o.Active || v.AllDown != o.AllDown || !v.NextProbe.Equal(o.NextProbe) || len(v.Levels) != len(o.Levels) {
		return false
	}
	for i := range v.Levels {
		a, b := &v.Levels[i], &o.Levels[i]
		if a.State != b.State || a.Eligible != b.Eligible || a.Silent != b.Silent || a.Emergency != b.Emergency || a.Share != b.Share ||
			!a.ThrottledUntil.Equal(b.ThrottledUntil) || len(a.Members) != len(b.Members) {
			return false
		}
		for j := range a.Members {
			if a.Members[j] != b.Members[j] {
				return false
			}
		}
	}
	return true
}

// The states of a level are those of its breakers.
var _ = [1]struct{}{}[int(HeldLevel)-int(breaker.Held)]
