// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"slices"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/app/evidence"
	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
	"github.com/holdfast-telemetry/holdfast/internal/reload"
)

// Sample implements reload.Instance.
func (g *generation) Sample() reload.Sample {
	s := reload.Sample{Senders: g.senders(), Listeners: g.checks.Sample(), Memory: evidence.MemoryInUse()}
	for i, p := range g.pipelines {
		pl := &g.plan.Pipelines[i]
		if !pl.Queued() {
			continue
		}
		a := p.Appends()
		s.Queues = append(s.Queues, reload.Queue{
			Pipeline: pl.ID, Changed: g.base == nil || g.base.queues[pl.ID] != g.queues[pl.ID],
			Appended: a.Records, Failed: a.Failed, LastAppend: a.Last,
		})
	}
	for _, d := range g.doors {
		s.Doors = append(s.Doors, g.doorSample(d))
	}
	if g.base == nil || g.base.panics.Last() == "" { // else it is nothing new
		if text := g.panics.Last(); text != "" {
			s.Fatal = append(s.Fatal, "a request panicked: "+text)
		}
	}
	for _, l := range g.limiters {
		if hard := uint64(max(l.Limits().Hard, 0)); s.HardLimit == 0 || hard < s.HardLimit {
			s.HardLimit = hard
		}
	}
	return s
}

// senders are the exporters, each once, whatever pipelines they stand in.
func (g *generation) senders() []reload.Sender {
	byID := map[string]*pipeline.Evidence{}
	for _, p := range g.pipelines {
		for _, e := range p.Evidence() {
			if sum := byID[e.Exporter]; sum != nil {
				sum.Add(&e)
			} else {
				byID[e.Exporter] = &e
			}
		}
	}
	var out []reload.Sender
	for _, x := range g.exporters {
		e := byID[x.id]
		if e == nil {
			continue
		}
		g.probed.AddTo(e)
		out = append(out, reload.Sender{
			ID: x.id, Twin: g.twinOf(x.id), Changed: g.changed(config.Exporters, x.id), Host: g.hostOf(x.id),
			Delivered: e.Delivered, Retry: e.Retry, RetryAfter: e.RetryAfter, Ambiguous: e.Ambiguous,
			Misconfigured: e.Misconfigured, Rejected: e.Rejected, Payloads: e.Attempts(),
			LastDelivery: e.LastDelivery, LastFailure: e.LastFailure, LastRejected: e.LastRejected,
		})
	}
	return out
}

// twinOf is the exporter of the last committed generation that one replaces at the same place; empty = the one of its own ID.
func (g *generation) twinOf(id string) string {
	if g.base == nil || g.base.instances[id] != nil {
		return ""
	}
	for i := range g.plan.Pipelines {
		p := &g.plan.Pipelines[i]
		for k := range g.base.plan.Pipelines {
			old := &g.base.plan.Pipelines[k]
			if old.ID != p.ID {
				continue
			}
			for n := range p.Destinations {
				for l := range p.Destinations[n].Levels {
					at := slices.Index(p.Destinations[n].Levels[l].Exporters, id)
					if at >= 0 && n < len(old.Destinations) && l < len(old.Destinations[n].Levels) &&
						at < len(old.Destinations[n].Levels[l].Exporters) {
						return old.Destinations[n].Levels[l].Exporters[at]
					}
				}
			}
		}
	}
	return ""
}

// hostOf is where an exporter sends to, as far as its settings say.
func (g *generation) hostOf(id string) string {
	section, _ := g.cfg.Effective[string(config.Exporters)].(map[string]any)
	settings, _ := section[id].(map[string]any)
	endpoint, _ := settings["endpoint"].(string)
	return hostPort(endpoint)
}

// refusedReasons are those by which clients are refused who were let in before: by TLS, auth or limits.
var refusedReasons = []string{receiver.ReasonAuth, receiver.ReasonConnections, receiver.ReasonTooLarge}

// doorSample is how a receiver fares, from the series that it counts in.
func (g *generation) doorSample(d *door) reload.Door {
	out := reload.Door{ID: d.id, Changed: !g.took(d)}
	m := g.app.opts.Telemetry.Metrics
	of := func(labels []string) bool { return labelOf(labels, "receiver") == d.id }
	for _, s := range otlp.Signals {
		out.Accepted += uint64(m.Sum("otelcol_receiver_accepted_"+s.ItemName(), of))
	}
	out.Refused = uint64(m.Sum("holdfast_door_refused_total", func(labels []string) bool {
		return of(labels) && slices.Contains(refusedReasons, labelOf(labels, "reason"))
	}))
	d.mu.Lock()
	defer d.mu.Unlock()
	if out.Accepted > d.accepted {
		d.accepted, d.lastAccepted = out.Accepted, time.Now()
	}
	out.LastAccepted = d.lastAccepted
	return out
}

// labelOf is the value of a label, of names and values in turn; empty = there is none.
func labelOf(labels []string, name string) string {
	for i := 0; i+1 < len(labels); i += 2 {
		if labels[i] == name {
			return labels[i+1]
		}
	}
	return ""
}

// took reports whether a receiver is the one that the last committed generation had.
func (g *generation) took(d *door) bool {
	return g.base != nil && slices.Contains(g.base.doors, d)
}
