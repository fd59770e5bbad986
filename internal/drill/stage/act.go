// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/drill/lookout"
	"github.com/holdfast-telemetry/holdfast/internal/drill/scenario"
	"github.com/holdfast-telemetry/holdfast/internal/drill/verdict"
)

const (
	// seeTime is for the first telemetry to arrive, trialTime for the first trial to be over.
	seeTime   = 20 * time.Second
	trialTime = 6 * time.Second
)

// well waits until every signal has reached the first level of every destination.
func (m *room) well(ctx context.Context) error {
	t := m.play.Topology
	err := m.until(ctx, seeTime+m.linger(), "telemetry at the first level of every destination", func(n *look) bool {
		for _, p := range t.Pipelines {
			for _, d := range p.Destinations {
				for _, id := range d.Levels[0] {
					if _, ok := m.backends[id]; ok && n.stored[id] == 0 {
						return false
					}
				}
			}
		}
		return n.acked > 0
	})
	if err := fault("nothing flows without a fault", err); err != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.mu.answer != "" {
			m.out.Doubt("the door refuses what is sent to it: %s", m.mu.answer)
		}
		return err
	}
	if m.scene.Double { // its trial is long, and what comes meanwhile finds it committed (reload, 6)
		return nil
	}
	// What a new configuration is told while it is on trial is not final; with --hurry that is over soon.
	err = m.until(ctx, trialTime, "the trial of the configuration is over", func(n *look) bool {
		return n.status != nil && n.status.Config.State != "trial"
	})
	var late *lookout.LateError
	if errors.As(err, &late) {
		m.say("the configuration is still on trial")
		return nil
	}
	return err
}

// linger is how long a batch waits for more.
func (m *room) linger() (most time.Duration) {
	for _, p := range m.play.Topology.Pipelines {
		most = max(most, p.Linger)
	}
	return most
}

// steps plays the scenario.
func (m *room) steps(ctx context.Context) error {
	began := time.Now()
	for i := range m.scene.Steps {
		s := &m.scene.Steps[i]
		if s.At > 0 {
			if err := lookout.Rest(ctx, max(time.Until(began.Add(s.At)), 0)); err != nil {
				return err
			}
		}
		err := m.step(ctx, s)
		if m.scene.Source != "" {
			err = m.own(s, err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// own names the line of somebody's own scenario that did not come true. What comes after it is played all the same.
func (m *room) own(s *scenario.Step, err error) error {
	var broken *brokenError
	var idle *idleError
	var late *lookout.LateError
	at := fmt.Sprintf("%s:%d: ", m.scene.Source, s.Line)
	switch {
	case errors.As(err, &broken):
		m.out.Breaks(broken.promise, nil, "%s%s", at, broken.text)
		return nil
	case errors.As(err, &idle):
		m.out.Doubt("%s%s", at, idle.text)
		return nil
	case errors.As(err, &late):
		m.out.Breaks("what "+m.scene.Source+" expects", nil, "%s%s", at, late)
		return nil
	}
	return err
}

// step does one thing, or waits for it.
func (m *room) step(ctx context.Context, s *scenario.Step) error {
	if s.Expectation() {
		return m.expect(ctx, s)
	}
	switch s.Do {
	case scenario.Fault:
		for _, id := range s.On {
			if err := m.wrong(id, s.Faults...); err != nil {
				return err
			}
		}
	case scenario.Restore:
		idle, err := m.heal(s.On)
		if err == nil && len(idle) > 0 && len(s.On) == 0 && m.scene.Source == "" {
			m.out.Doubt("the fault was never met at %s", strings.Join(idle, ", "))
		}
		return err
	case scenario.Expose:
		return m.expose(ctx, s.On[0], s.Within)
	case scenario.Kill:
		return m.kill(ctx)
	case scenario.Term:
		return m.term(ctx)
	case scenario.Fill:
		return m.fill()
	case scenario.Slow:
		m.slow(s.For)
	case scenario.Flood:
		return m.flood(ctx)
	case scenario.Reload:
		return m.reload(ctx, s.On[0], s.Within)
	case scenario.Wait:
		return lookout.Rest(ctx, s.For)
	default:
		return fmt.Errorf("no such step: %s", s.Do)
	}
	return nil
}

// queued reports whether the door may go on while no backend takes anything.
func (m *room) queued() bool {
	for _, p := range m.play.Topology.Pipelines {
		for _, d := range p.Destinations {
			if !d.Queued {
				return false
			}
		}
	}
	return true
}

// finalRefusals says that clients were sent away for good where they should have been asked to come back.
func (m *room) finalRefusals() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refuses && m.mu.final > 0 {
		m.out.Breaks(verdict.ComeBack, nil, "%d requests were refused for good, the last with %s", m.mu.final, m.mu.answer)
	}
}
