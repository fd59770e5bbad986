// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package failover

import (
	"cmp"
	"slices"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/breaker"
)

// turn is a cell whose recovery is due and has to keep a gap.
type turn struct {
	cell    *cell
	want    breaker.Want
	overdue time.Duration // beyond a retry_interval; 0 = not so long
}

// handOut lets breakers do what is due: evidence and checks at once, recovery probes and canaries one per route and
// gap. In an all-down, and at the emergency level, nobody waits for a gap, nor makes others wait. It reports whether
// nothing was done.
func (s *Switch) handOut(now time.Time, out []Effect) ([]Effect, bool) {
	nothing := true
	s.turns = s.turns[:0]
	for _, c := range s.order {
		for {
			want, since := c.b.Due(now)
			if want == breaker.WantNothing {
				break
			}
			if want.Recovers() && !c.exempt() {
				overdue := max(now.Sub(since)-c.key.settings.RetryInterval, 0)
				s.turns = append(s.turns, turn{c, want, overdue})
				break
			}
			nothing = false
			out = s.begin(now, c, want, out)
		}
	}
	slices.SortStableFunc(s.turns, before)
	for _, t := range s.turns {
		if now.Before(t.cell.gapEnds()) {
			continue
		}
		for _, at := range t.cell.seats {
			at.route.probed = now
		}
		nothing = false
		out = s.begin(now, t.cell, t.want, out)
	}
	return out, nothing
}

// before is the order of turns: by level, as the cells are; those that only see to it that a canary is still worth
// sending come after those that have to come back; but one that was passed over for a whole retry_interval comes
// first. Without that, the members of one level could keep another one's from ever being asked.
func before(a, b turn) int {
	refresh := func(t turn) int {
		if t.want == breaker.WantRefresh {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(b.overdue, a.overdue), cmp.Compare(refresh(a), refresh(b)))
}

// begin does what a cell wants.
func (s *Switch) begin(now time.Time, c *cell, want breaker.Want, out []Effect) []Effect {
	probe, changes := c.b.Begin(now, want, s.scratch[:0])
	s.note(now, c, changes)
	if probe.Number == 0 {
		return out
	}
	order := c.order
	order.Probe = probe
	at := c.seats[0]
	return append(out, Effect{
		Kind: EffectStartProbe, Route: at.route.set.RouteID, Level: at.level, Exporter: order.Exporter, Breaker: c.id,
		Order: order,
	})
}

// exempt reports whether the cell's recovery keeps no gap: one of its routes is all-down, or it is the last resort.
func (c *cell) exempt() bool {
	for _, at := range c.seats {
		if at.route.allDown || at.route.set.Levels[at.level].Emergency {
			return true
		}
	}
	return false
}

// gapEnds is when every route of the cell allows another recovery probe.
func (c *cell) gapEnds() time.Time {
	var end time.Time
	for _, at := range c.seats {
		if r := at.route; !r.probed.IsZero() {
			if t := r.probed.Add(r.set.Gap); t.After(end) {
				end = t
			}
		}
	}
	return end
}

// rank sorts the cells by the best level they sit at; those of the emergency level come last.
func (s *Switch) rank() {
	best := func(c *cell) int {
		n := maxLevels
		for _, at := range c.seats {
			if !at.route.set.Levels[at.level].Emergency {
				n = min(n, at.level)
			}
		}
		return n
	}
	slices.SortStableFunc(s.order, func(a, b *cell) int {
		return cmp.Or(cmp.Compare(best(a), best(b)), cmp.Compare(a.id, b.id))
	})
}
