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
	"github.com/holdfast-telemetry/holdfast/internal/drill/words"
	"github.com/holdfast-telemetry/holdfast/internal/status"
)

// expect waits for what must come of the steps before. What a derived scenario expects belongs to a promise, or to its
// fault; what somebody's own scenario expects is theirs (own).
func (m *room) expect(ctx context.Context, s *scenario.Step) error {
	first, label := "", ""
	if len(s.On) > 0 {
		first, label = s.On[len(s.On)-1], s.On[0]
	}
	switch s.Do {
	case scenario.Met:
		err := m.until(ctx, s.Within+m.linger(), "the fault is met", func(*look) bool { return m.mark(first) > 0 })
		return fault("the fault was never met at "+first, err)
	case scenario.Active:
		return m.promised(verdict.Switch, m.active(ctx, label, first, s.Within))
	case scenario.Away:
		return m.away(ctx, first, s.Within)
	case scenario.Down:
		return m.promised(verdict.Switch, m.down(ctx, label, s.Within))
	case scenario.Backlog:
		err := m.until(ctx, s.Within, "a backlog of "+words.Count(s.Count)+" items", func(n *look) bool { return n.waiting() >= s.Count })
		if err == nil {
			m.sayWaiting()
		}
		return m.partOfFault("no backlog", err)
	case scenario.Accepted:
		return m.accepted(ctx, s)
	case scenario.Refused:
		return m.refused(ctx, s.Within)
	case scenario.Delivered:
		n, _ := m.seen.Latest()
		had := n.stored[first]
		err := m.until(ctx, s.Within, words.Count(s.Count)+" more items at "+first, func(n *look) bool { return n.stored[first] >= had+s.Count })
		return m.promised(verdict.Switch, err)
	case scenario.Home:
		return m.promised(verdict.Return, m.home(ctx, s.Within))
	case scenario.CaughtUp:
		return m.caughtUp(ctx, s.Within)
	case scenario.Silent:
		return m.silent(ctx, first, s.For)
	case scenario.RolledBack:
		return m.rolledBack(ctx, s.Within)
	case scenario.NoGap:
		m.noGap = true
	}
	return nil // lost and twice are looked at in the end
}

// promised makes a promise of what a derived scenario waited for.
func (m *room) promised(promise string, err error) error {
	if m.scene.Source != "" {
		return err
	}
	return owed(promise, err)
}

// partOfFault makes it a part of the fault.
func (m *room) partOfFault(text string, err error) error {
	if m.scene.Source != "" {
		return err
	}
	return fault(text, err)
}

func (m *room) sayWaiting() {
	n, _ := m.seen.Latest()
	m.say("%s items wait in the queue, %s are in the emergency file", words.Count(n.queued()), words.Count(n.parked()))
}

// away waits until no connector sends to the backend any more.
func (m *room) away(ctx context.Context, id string, limit time.Duration) error {
	began := time.Now()
	for _, label := range m.play.Topology.Connectors() {
		level := m.levelOf(label, id)
		if level < 0 {
			continue
		}
		err := m.until(ctx, limit, label+" does not send to "+id+" any more", func(n *look) bool {
			return n.routes(label, func(r *status.Route) bool {
				return r.ActiveLevel != level && (r.Levels[level].State == "down" || r.Levels[level].State == "probing")
			})
		})
		if err != nil {
			return m.promised(verdict.Switch, err)
		}
		m.say("%s sends elsewhere, or holds, %s after the fault was met", label, words.Seconds(time.Since(began)))
	}
	return nil
}

// down waits until no backend of a connector takes anything.
func (m *room) down(ctx context.Context, label string, limit time.Duration) error {
	return m.until(ctx, limit, "all levels of "+label+" are down", func(n *look) bool {
		return n.routes(label, func(r *status.Route) bool {
			return r.AllDown || r.ActiveLevel < 0 || r.Levels[r.ActiveLevel].Emergency
		})
	})
}

// accepted waits until the door has accepted more, where a queue promises that.
func (m *room) accepted(ctx context.Context, s *scenario.Step) error {
	n, _ := m.seen.Latest()
	had, waited := n.acked, m.isAnyWrong()
	if waited && !m.queued() && m.scene.Source == "" {
		return nil // while no backend takes anything, clients wait: there is no queue
	}
	began := time.Now()
	err := m.until(ctx, s.Within, "more items acknowledged", func(n *look) bool { return n.acked >= had+s.Count })
	if err == nil && m.isAnyWrong() {
		m.sayWaiting()
	} else if err == nil {
		m.say("the door accepts, %s after it was asked", words.Seconds(time.Since(began)))
	}
	return m.promised(verdict.Accept, err)
}

func (m *room) isAnyWrong() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.mu.wrong) > 0
}

// refused waits until the door refuses, so that clients come back; where a full queue gives up its oldest it never does.
func (m *room) refused(ctx context.Context, limit time.Duration) error {
	if m.mayDrop() && m.scene.Source == "" {
		m.say("a queue that is full gives up its oldest: the door need not refuse")
		return lookout.Rest(ctx, min(limit, 8*time.Second))
	}
	n, _ := m.seen.Latest()
	had, began := n.turned+n.final, time.Now()
	err := m.until(ctx, limit, "the door refuses", func(n *look) bool { return n.turned+n.final > had })
	if err != nil {
		return m.partOfFault("the door never had to refuse", err)
	}
	m.refuses = true // that it is in a way which brings clients back is looked at in the end, of all of them
	m.mu.Lock()
	hint := "clients are told to come back: " + m.mu.hint
	if m.mu.hint == "" {
		hint = m.mu.answer
	}
	m.mu.Unlock()
	n, _ = m.seen.Latest()
	m.say("after %s the door refuses, %s", words.Seconds(time.Since(began)), hint)
	m.say("%s items were acknowledged until then, and %s wait", words.Count(n.acked), words.Count(n.waiting()))
	return nil
}

// home waits until all data goes to the first levels again.
func (m *room) home(ctx context.Context, limit time.Duration) error {
	began := time.Now()
	labels := m.play.Topology.Connectors()
	err := m.until(ctx, limit, "all data at the first level again, and nothing parked", func(n *look) bool {
		for _, label := range labels {
			if !n.routes(label, func(r *status.Route) bool {
				// A level that takes all data and is watched for a while yet is home.
				return r.ActiveLevel == 0 && (r.Levels[0].State == "healthy" || r.Levels[0].State == "suspect") && r.Emergency.Items == 0
			}) {
				return false
			}
		}
		return n.status != nil
	})
	if err == nil && len(labels) > 0 {
		m.say("all data is at the first level %s after everything was well", words.Seconds(time.Since(began)))
	}
	return err
}

// caughtUp waits until a backlog is gone, and looks whether the backend was overrun.
func (m *room) caughtUp(ctx context.Context, limit time.Duration) error {
	began := time.Now()
	most := uint64(m.scene.Rate())
	for _, p := range m.play.Topology.Pipelines { // a batch in the making waits without a backlog, too
		most += min(p.BatchItems, uint64(m.scene.Rate()*p.Linger.Seconds()))
	}
	what := fmt.Sprintf("no more than %s items wait, as without an outage", words.Count(most))
	err := m.until(ctx, limit, what, func(n *look) bool {
		return n.status != nil && n.waiting() <= most
	})
	if err != nil {
		return m.promised(verdict.Drain, err)
	}
	m.say("the backlog is gone after %s, while new telemetry came in", words.Seconds(time.Since(began)))
	for _, b := range m.play.Topology.Backends {
		if !m.isWrong(b.ID) {
			continue
		}
		over, answers := m.mark(b.ID), uint64(0)
		for _, n := range m.backends[b.ID].State().Answers {
			answers += n
		}
		m.say("%s: %s of %s requests were above its capacity", b.ID, words.Count(over), words.Count(answers))
		if over > answers*3/4 {
			m.out.Breaks(verdict.Pace, nil, "%s refused %s of %s requests as more than it can take", b.ID, words.Count(over), words.Count(answers))
		}
	}
	return nil
}

// silent looks whether a backend gets nothing for a while.
func (m *room) silent(ctx context.Context, id string, lasts time.Duration) error {
	n, _ := m.seen.Latest()
	had := n.stored[id]
	err := m.until(ctx, lasts, "", func(n *look) bool { return n.stored[id] > had })
	var late *lookout.LateError
	switch {
	case errors.As(err, &late):
		m.say("%s gets nothing any more (looked on for %s)", id, words.Seconds(lasts))
		return nil
	case err != nil:
		return err
	}
	n, _ = m.seen.Latest()
	return &brokenError{verdict.Clean, fmt.Sprintf("%s still gets data: %s items more", id, words.Count(n.stored[id]-had))}
}

// rolledBack waits until a configuration that was offered is out of force again, or never was in it.
func (m *room) rolledBack(ctx context.Context, limit time.Duration) error {
	var state, reason string
	err := m.until(ctx, limit, "the configuration that delivers nothing is rolled back", func(n *look) bool {
		last, _ := m.attempt(n)
		state, reason = last.State, last.Reason
		return state == "rolled_back" || state == "rejected"
	})
	if err == nil {
		m.say("the configuration was %s: %s", strings.ReplaceAll(state, "_", " "), reason)
	}
	return m.promised(verdict.Evidence, err)
}
