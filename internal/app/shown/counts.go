// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package shown

import (
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline"
	"github.com/holdfast-telemetry/holdfast/internal/status"
)

// Counts are those of all destinations at one moment, for their rates.
type Counts struct {
	Destinations []status.Count
	flows        map[failover.RouteID][]int64 // those that share a route share its counters
}

// Add adds a destination of a pipeline.
func (c *Counts) Add(pipelineID string, d *pipeline.Shown) {
	b := Books(&d.Counts)
	c.Destinations = append(c.Destinations, status.Count{
		Pipeline: pipelineID, Name: d.Label, In: b.Accepted, Out: b.Delivered + b.Rejected + b.Dropped,
		Size: d.Fill.Size, Capacity: d.Fill.Capacity,
	})
	if d.Route != nil {
		if c.flows == nil {
			c.flows = map[failover.RouteID][]int64{}
		}
		c.flows[d.Route.ID] = d.Route.Delivered
	}
}

// Levels are what each level of each route has delivered.
func (c *Counts) Levels() (levels []status.Flow) {
	for id, delivered := range c.flows {
		for level, items := range delivered {
			levels = append(levels, status.Flow{Connector: id.Connector, Signal: id.Signal.String(), Level: level, Items: uint64(items)})
		}
	}
	return levels
}
