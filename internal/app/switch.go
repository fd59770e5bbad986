// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
)

// buildSwitch makes the room above all connectors; without one there is none.
func (a *App) buildSwitch() error {
	p := pipeline.SwitchPlan(a.opts.Plan, a.member, rand.Float64)
	if len(p.Routes) == 0 {
		return nil
	}
	a.switches = pipeline.NewSwitchRoom(pipeline.RoomSettings{Plan: p, Telemetry: a.opts.Telemetry, Probe: a.probe})
	return nil
}

// member says how an exporter is asked for itself. Its configuration has no hash: until there is a reload, an exporter
// has one configuration in a process.
func (a *App) member(id string) (config, probe string) {
	if p, ok := a.instances[id].(exporter.Prober); ok {
		return "", string(p.ProbeKind())
	}
	return "", ""
}

// probe asks an exporter whether it would take data.
func (a *App) probe(ctx context.Context, o *failover.ProbeOrder) exporter.Verdict {
	p, ok := a.instances[o.Exporter].(exporter.Prober)
	if !ok || o.What.Kind != string(p.ProbeKind()) {
		return exporter.Verdict{Err: fmt.Errorf("exporters/%s: no probe of kind %s", o.Exporter, o.What.Kind)}
	}
	return p.Probe(ctx, o.Signal)
}

// missingOf names what a route asks for and this version cannot keep.
func missingOf(pl *plan.Pipeline, d *plan.Destination) []string {
	r := d.Route
	if r == nil {
		return nil
	}
	var out []string
	if d.Wait {
		out = append(out, fmt.Sprintf("pipeline %s: %s without a queue is not in this version; enable a sending_queue in "+
			"one of its levels", pl.ID, r.Connector))
	}
	for i := range d.Levels {
		for _, id := range d.Levels[i].Exporters {
			switch kind := r.Config.For(id, i == 0).Kind; kind {
			case "http", "tcp", "grpc_health":
				out = append(out, fmt.Sprintf("pipeline %s: %s: probe.kind %s of %s is not in this version; "+
					"leave it out to probe with empty exports", pl.ID, r.Connector, kind, id))
			}
		}
	}
	return out
}

// emergency reports whether an exporter is the last resort of some route: what it took is gone from the queue.
func (a *App) emergency(id string) bool {
	for i := range a.opts.Plan.Pipelines {
		for k := range a.opts.Plan.Pipelines[i].Destinations {
			for _, l := range a.opts.Plan.Pipelines[i].Destinations[k].Levels {
				for _, member := range l.Exporters {
					if l.Emergency && member == id {
						return true
					}
				}
			}
		}
	}
	return false
}
