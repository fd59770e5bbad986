// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package topology

import "slices"

// What a drill asks of a topology.

// Backend finds the backend of an exporter.
func (t *Topology) Backend(id string) (Backend, bool) {
	for _, b := range t.Backends {
		if b.ID == id {
			return b, true
		}
	}
	return Backend{}, false
}

// Connectors are the labels of all connectors, in order of their pipelines.
func (t *Topology) Connectors() (out []string) {
	for _, p := range t.Pipelines {
		for _, d := range p.Destinations {
			if d.Connector && !slices.Contains(out, d.Label) {
				out = append(out, d.Label)
			}
		}
	}
	return out
}

// SignalsOf are the signals a receiver passes on.
func (t *Topology) SignalsOf(receiver string) (out []string) {
	for _, p := range t.Pipelines {
		if slices.Contains(p.Receivers, receiver) && !slices.Contains(out, p.Signal) {
			out = append(out, p.Signal)
		}
	}
	return out
}

// Above are the backends that must be away before the backend of id is asked, by connector.
func (t *Topology) Above(id string) map[string][]string {
	out := map[string][]string{}
	for _, p := range t.Pipelines {
		for _, d := range p.Destinations {
			var above []string
			for _, l := range d.Levels {
				if slices.Contains(l, id) {
					if len(above) > 0 {
						out[d.Label] = above
					}
					break
				}
				above = append(above, l...)
			}
		}
	}
	return out
}

// Level is where a connector or plain exporter has an exporter; −1 = nowhere.
func (d *Destination) Level(id string) int {
	return slices.IndexFunc(d.Levels, func(l []string) bool { return slices.Contains(l, id) })
}

// Emergencies are the connectors whose last level takes what no other does.
func (t *Topology) Emergencies() (out []string) {
	for _, p := range t.Pipelines {
		for _, d := range p.Destinations {
			if d.Emergency && !slices.Contains(out, d.Label) {
				out = append(out, d.Label)
			}
		}
	}
	return out
}

// QueuedInMemory are the exporters whose queues do not outlive a process.
func (t *Topology) QueuedInMemory() (out []string) {
	for _, p := range t.Pipelines {
		for _, d := range p.Destinations {
			for _, l := range d.Levels {
				for _, id := range l {
					if _, ok := t.Backend(id); ok && d.Queued && !p.Durable && !slices.Contains(out, id) {
						out = append(out, id)
					}
				}
			}
		}
	}
	return out
}

// Copies is how often an item of a signal reaches a backend: once for each destination that has it.
func (t *Topology) Copies() int64 {
	most := int64(1)
	for _, b := range t.Backends {
		seen := map[string]int64{}
		for _, p := range t.Pipelines {
			for _, d := range p.Destinations {
				if d.Level(b.ID) >= 0 {
					seen[p.Signal]++
					most = max(most, seen[p.Signal])
				}
			}
		}
	}
	return most
}
