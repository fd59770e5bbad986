// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/drill/report"
	"github.com/holdfast-telemetry/holdfast/internal/drill/scenario"
	"github.com/holdfast-telemetry/holdfast/internal/drill/verdict"
	"github.com/holdfast-telemetry/holdfast/internal/drill/words"
	"github.com/holdfast-telemetry/holdfast/internal/status"
)

// theDisk is where a fault of the disk is, in the report.
const theDisk = "disk"

// wrong puts a fault into force at a backend.
func (m *room) wrong(id string, texts ...string) error {
	m.mark(id)
	if err := m.backends[id].SetFaults(texts...); err != nil {
		return err
	}
	m.begins(id, strings.Join(texts, ", "))
	return nil
}

// begins notes a fault that is in force now.
func (m *room) begins(where, text string) {
	m.say("%s: %s", where, text)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.endFaultLocked(where)
	m.mu.wrong[where] = &report.Fault{From: m.since(time.Now()), Where: where, Text: text}
}

func (m *room) isWrong(where string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.wrong[where] != nil
}

// mark takes over how often the fault that is in force did something, before it is replaced.
func (m *room) mark(id string) (hits uint64) {
	for _, f := range m.backends[id].State().Faults {
		hits += f.Hits
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.mu.wrong[id]; f != nil {
		f.Hits = hits
	}
	return hits
}

// heal ends the faults of some backends, or everything that is wrong, and returns where it did nothing.
func (m *room) heal(ids []string) (idle []string, err error) {
	for _, b := range m.play.Topology.Backends {
		if !m.isWrong(b.ID) || len(ids) > 0 && !slices.Contains(ids, b.ID) {
			continue
		}
		if m.mark(b.ID) == 0 && !m.courteous(b.ID) {
			idle = append(idle, b.ID)
		}
		if err := m.backends[b.ID].SetFaults(); err != nil {
			return nil, err
		}
		m.ends(b.ID)
		m.say("%s is well again", b.ID)
	}
	if len(ids) > 0 || !m.isWrong(theDisk) {
		return idle, nil
	}
	m.disk.SetDelay(0)
	if m.scene.Disk.MiB > 0 {
		if err := m.disk.Free(); err != nil {
			return idle, err
		}
	}
	if m.scene.Disk.Slow {
		hits := m.disk.Hits()
		m.mu.Lock()
		m.mu.wrong[theDisk].Hits = hits
		m.mu.Unlock()
		m.say("%s syncs had to wait", words.Count(hits))
		if hits == 0 {
			idle = append(idle, "the disk, which was not synced")
		}
	}
	m.ends(theDisk)
	m.say("the disk is well again")
	return idle, nil
}

// courteous reports whether the fault is one that nobody has to meet.
func (m *room) courteous(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.HasPrefix(m.mu.wrong[id].Text, scenario.Capacity)
}

func (m *room) ends(where string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.endFaultLocked(where)
}

func (m *room) endFaultLocked(where string) {
	if f := m.mu.wrong[where]; f != nil {
		f.To = m.since(time.Now())
		m.out.Faults = append(m.out.Faults, *f)
		delete(m.mu.wrong, where)
	}
}

// fill takes all the room of the disk.
func (m *room) fill() error {
	taken, err := m.disk.Fill()
	if err != nil {
		return err
	}
	m.say("a file of %d MiB takes all the room of a file system of %d MiB, in memory, that only this process sees", taken>>20,
		m.scene.Disk.MiB)
	m.begins(theDisk, "full")
	return nil
}

// slow makes every sync take longer. Where the scenario can do without, and has to, it does nothing.
func (m *room) slow(delay time.Duration) {
	if m.disk == nil {
		return
	}
	m.disk.SetDelay(delay)
	m.begins(theDisk, "every sync takes "+delay.String()+" longer")
}

// expose lets the levels above a backend fail, so that it is the one that is asked.
func (m *room) expose(ctx context.Context, id string, limit time.Duration) error {
	for label, above := range m.play.Topology.Above(id) {
		for _, a := range above {
			if _, ok := m.backends[a]; ok && !m.isWrong(a) { // the one above two connectors is away already
				if err := m.wrong(a, "refuse"); err != nil {
					return err
				}
			}
		}
		if err := m.active(ctx, label, id, limit); err != nil {
			return owed(verdict.Switch, err)
		}
	}
	return nil
}

// active waits until a connector sends to the level of an exporter.
func (m *room) active(ctx context.Context, label, id string, limit time.Duration) error {
	level := m.levelOf(label, id)
	what := label + " sends to " + id
	if id == scenario.Nowhere {
		level, what = -1, label+" holds its data"
	}
	return m.until(ctx, limit, what, func(n *look) bool {
		return n.routes(label, func(r *status.Route) bool { return r.ActiveLevel == level })
	})
}

func (m *room) levelOf(label, id string) int {
	for _, p := range m.play.Topology.Pipelines {
		for i := range p.Destinations {
			if d := &p.Destinations[i]; d.Label == label {
				return d.Level(id)
			}
		}
	}
	return -1
}
