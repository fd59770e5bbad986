// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package failover

import (
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/breaker"
)

// reconfigure puts a plan in force (T16). A member whose exporter, configuration and signal are known goes on with its
// breaker: one with the same settings if there is one, else one of the same route, else any. Where several members
// would go on with one breaker, the others get copies. What is not known starts healthy, and what nobody sits at is
// forgotten. Views that change by it are published; a route that stays has its view already.
func (s *Switch) reconfigure(now time.Time, plan *SwitchPlan) {
	s.jitter, s.memory.stale = plan.Jitter, true
	heirs := inheritance{old: s.order, taken: map[*cell]bool{}}
	routes, byRoute := make([]*swRoute, 0, len(plan.Routes)), make(map[RouteID]*swRoute, len(plan.Routes))
	cells := map[seatKey]*cell{}
	var order []*cell
	for i := range plan.Routes {
		r := &swRoute{set: plan.Routes[i], dirty: true}
		if before := s.byRoute[r.set.RouteID]; before != nil {
			r.probed, r.view = before.probed, before.view
		}
		routes, byRoute[r.set.RouteID] = append(routes, r), r
		for j := range r.set.Levels {
			var members []*cell
			for k := range r.set.Levels[j].Members {
				m := &r.set.Levels[j].Members[k]
				key := m.key(r.set.Signal)
				c := cells[key]
				if c == nil {
					s.lastID++
					c = &cell{id: s.lastID, key: key, order: ProbeOrder{Exporter: m.Exporter, Signal: r.set.Signal, What: m.Probe}}
					cells[key], order = c, append(order, c)
				}
				c.seats = append(c.seats, seat{r, j, k})
				members = append(members, c)
			}
			r.members = append(r.members, members)
		}
	}
	s.order, s.routes, s.byRoute = order, routes, byRoute
	for _, exact := range []bool{true, false} {
		for _, c := range s.order {
			heirs.give(now, c, exact)
		}
	}
	clear(s.cells)
	for _, c := range s.order {
		if c.b == nil {
			c.b = breaker.New(c.key.settings, s.jitter, now)
			if until := heirs.held(c); until.After(now) {
				s.note(now, c, c.b.Hold(now, until, s.scratch[:0]))
			}
		}
		s.cells[c.id] = c
	}
	for c := range heirs.gone() {
		if c.token != nil {
			c.token.withdraw()
		}
	}
	s.relate()
	s.rank()
}

// relate finds the siblings: breakers of one exporter and configuration that share their health.
func (s *Switch) relate() {
	families := map[siblingKey][]*cell{}
	for _, c := range s.order {
		if c.key.share && !c.key.settings.Emergency {
			families[c.key.sibling] = append(families[c.key.sibling], c)
		}
	}
	for _, c := range s.order {
		c.siblings = nil
		if !c.key.share || c.key.settings.Emergency {
			continue
		}
		for _, other := range families[c.key.sibling] {
			if other != c {
				c.siblings = append(c.siblings, other)
			}
		}
	}
}

// inheritance hands the breakers of one plan to the members of the next.
type inheritance struct {
	old   []*cell
	taken map[*cell]bool
}

// give lets c go on with an old breaker, if there is one: exact wants equal settings.
func (h *inheritance) give(now time.Time, c *cell, exact bool) {
	if c.b != nil {
		return
	}
	var from *cell
	score := -1
	for _, o := range h.old {
		if o.key.sibling != c.key.sibling || o.key.signal != c.key.signal ||
			o.key.settings.Emergency != c.key.settings.Emergency || exact && o.key != c.key {
			continue
		}
		n := 0
		if o.sits(c) {
			n += 2
		}
		if !h.taken[o] {
			n++
		}
		if n > score {
			from, score = o, n
		}
	}
	switch {
	case from == nil:
		return
	case h.taken[from]:
		c.b = from.b.Clone()
	default:
		h.taken[from] = true
		c.id, c.b, c.token, c.proof, c.canary = from.id, from.b, from.token, from.proof, from.canary
	}
	if from.key.probe != c.key.probe {
		c.b.Distrust()
	}
	c.b.Reconfigure(now, c.key.settings)
}

// held is until when an operator holds an exporter whose configuration changes: what is held stays so across a reload.
// Zero or past = it is not held.
func (h *inheritance) held(c *cell) time.Time {
	var until time.Time
	for _, o := range h.old {
		if o.key.sibling.exporter == c.key.sibling.exporter && o.key.signal == c.key.signal && o.sits(c) {
			until = sooner(until, o.b.HeldUntil())
		}
	}
	return until
}

// sits reports whether two cells have a route in common.
func (c *cell) sits(o *cell) bool {
	for _, a := range c.seats {
		for _, b := range o.seats {
			if a.route.set.RouteID == b.route.set.RouteID {
				return true
			}
		}
	}
	return false
}

// gone yields the cells nobody goes on with.
func (h *inheritance) gone() func(yield func(*cell) bool) {
	return func(yield func(*cell) bool) {
		for _, o := range h.old {
			if !h.taken[o] && !yield(o) {
				return
			}
		}
	}
}
