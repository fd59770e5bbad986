// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// Shown is one destination for the status.
type Shown struct {
	Label  string // as written
	Queued bool   // Fill means something
	Fill   queue.Fill
	Counts queue.Counts
	Health Health
	Route  *ShownRoute
}

// ShownRoute is what a pipeline adds to a route: several may share it.
type ShownRoute struct {
	ID        failover.RouteID
	Emergency []string // exporters of its emergency level
	InHand    Hand
	// Delivered are items since start, by level; pipelines that share a route share them.
	Delivered []int64
}

// Hand are items in hand, by what they do.
type Hand struct{ InFlight, Waiting, Moving, Held uint64 }

// Show copies every destination; it never blocks.
func (p *Pipeline) Show() []Shown {
	var out []Shown
	for _, d := range p.deliveries {
		s := Shown{Label: d.dest.Label, Queued: true, Fill: d.fill(), Health: d.health()}
		s.Counts, _ = p.set.Queue.Counts(d.dest.Name)
		s.Route = d.shownRoute()
		out = append(out, s)
	}
	for _, w := range p.entry.waits {
		out = append(out, Shown{Label: w.dest.Label, Counts: w.counts(), Health: w.health(), Route: w.shownRoute()})
	}
	return out
}

func (x *dispatch) shownRoute() *ShownRoute {
	r := &ShownRoute{ID: x.id, InHand: x.meter.inHand()}
	for i := range x.meter.levels {
		r.Delivered = append(r.Delivered, x.meter.levels[i].delivered.Value())
	}
	for i := range x.dest.Levels {
		if l := &x.dest.Levels[i]; l.Emergency {
			r.Emergency = l.Exporters
		}
	}
	return r
}
