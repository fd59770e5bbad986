// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// Books are where one destination's counts can be read.
type Books struct {
	Label string // the destination as written
	Read  func() queue.Counts
}

// Books lists the books of every destination, those that wait included. Reading never blocks.
func (p *Pipeline) Books() []Books {
	out := make([]Books, 0, len(p.deliveries)+len(p.entry.waits))
	for _, d := range p.deliveries {
		q, name := p.set.Queue, d.dest.Name
		out = append(out, Books{d.dest.Label, func() queue.Counts {
			c, _ := q.Counts(name)
			return c
		}})
	}
	for _, w := range p.entry.waits {
		out = append(out, Books{w.dest.Label, w.counts})
	}
	return out
}

// Backlog is one exporter's share of a queue, for the Collector's queue series.
type Backlog struct {
	Exporter string // ID as written
	Fill     queue.Fill
}

// Backlogs describes the queue of every destination; it never blocks. A connector's is its first level's, under the
// IDs that users wrote, and those below have as much room.
func (p *Pipeline) Backlogs() []Backlog {
	out := make([]Backlog, 0, len(p.deliveries))
	for _, d := range p.deliveries {
		f := d.fill()
		if d.dest.Route == nil {
			out = append(out, Backlog{Exporter: d.dest.Label, Fill: f})
			continue
		}
		for _, l := range d.dest.Levels {
			for _, id := range l.Exporters {
				out = append(out, Backlog{Exporter: id, Fill: f})
				f = queue.Fill{Capacity: f.Capacity}
			}
		}
	}
	return out
}
