// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package failover

import (
	"cmp"
	"slices"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/breaker"
)

// handOut lets breakers do what is due: evidence and checks at once, recovery probes and canaries by level, one per
// route and gap. In an all-down, and at the emergency level, nobody waits for a gap, nor makes others wait. It reports
// whether nothing was due.
func (s *Switch) handOut(now time.Time, out []Effect) ([]Effect, bool) {
	nothing := true
	for _, c := range s.order {
		for want := c.b.Due(now); want != breaker.WantNothing; want = c.b.Due(now) {
			if want.Recovers() && !c.exempt() {
				if now.Before(c.gapEnds()) {
					break
				}
				for _, at := range c.seats {
					at.route.probed = now
				}
			}
			nothing = false
			probe, changes := c.b.Begin(now, want, s.scratch[:0])
			s.note(now, c, changes)
			if probe.Number == 0 {
				continue
			}
			order := c.order
			order.Probe = probe
			at := c.seats[0]
			out = append(out, Effect{
				Kind: EffectStartProbe, Route: at.route.set.RouteID, Level: at.level, Exporter: order.Exporter,
				Breaker: c.id, Order: order,
			})
		}
	}
	return out, nothing
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
