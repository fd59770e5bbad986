// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/drill/report"
	"github.com/holdfast-telemetry/holdfast/internal/mockbackend"
	"github.com/holdfast-telemetry/holdfast/internal/status"
)

const (
	// lookEvery is how often the child is asked how it is, and askTime bounds a question.
	lookEvery = 100 * time.Millisecond
	askTime   = 5 * time.Second
	// sampleEvery is how often the picture has a point.
	sampleEvery = 250 * time.Millisecond
)

// look is how everything is at one moment.
type look struct {
	at     time.Time
	status *status.Status    // nil: it does not answer
	stored map[string]uint64 // by exporter; a double's are its exporter's
	acked  uint64
	turned uint64 // requests refused so that clients come back
	final  uint64 // requests refused for good
}

// watch looks again and again until ctx ends, and takes samples.
func (m *room) watch(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var last time.Time
	for {
		n := m.look(ctx)
		m.mu.Lock()
		if n.at.Sub(last) >= sampleEvery {
			last = n.at
			m.sampleLocked(n)
		}
		m.mu.Unlock()
		m.seen.See(n)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (m *room) sampleLocked(n *look) {
	s := report.Sample{At: m.since(n.at), Acked: n.acked}
	if n.status != nil {
		s.Queued, s.Parked = n.status.Books.Queued, n.status.Books.Parked
	} else if k := len(m.out.Samples); k > 0 { // nobody can be asked: it is where it was
		s.Queued, s.Parked = m.out.Samples[k-1].Queued, m.out.Samples[k-1].Parked
	}
	for _, b := range m.play.Topology.Backends {
		s.Delivered = append(s.Delivered, n.stored[b.ID])
	}
	m.out.Samples = append(m.out.Samples, s)
}

func (m *room) look(ctx context.Context) *look {
	n := &look{stored: map[string]uint64{}}
	for _, all := range []map[string]*mockbackend.Backend{m.backends, m.doubles} {
		for id, b := range maps.All(all) {
			for _, items := range b.State().Stored {
				n.stored[id] += items
			}
		}
	}
	m.mu.Lock()
	n.acked, n.turned, n.final = m.mu.acked, m.mu.turned, m.mu.final
	m.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	var st status.Status
	if m.admin.Get(ctx, "/status", &st) == nil { // no answer is what a dead process gives
		n.status = &st
	}
	n.at = time.Now()
	return n
}

// until waits for a look that is as wanted. That it does not come in time is a *lookout.LateError.
func (m *room) until(ctx context.Context, limit time.Duration, what string, ok func(*look) bool) error {
	return m.seen.Until(ctx, m.child, limit, what, ok)
}

// waiting is what was acknowledged and is at no backend yet, by the process's own books.
func (n *look) waiting() uint64 { return n.queued() + n.parked() }

func (n *look) queued() uint64 {
	if n.status == nil {
		return 0
	}
	return n.status.Books.Queued
}

func (n *look) parked() uint64 {
	if n.status == nil {
		return 0
	}
	return n.status.Books.Parked
}

// routes calls ok for the status of every route of a connector; false if there is none, or ok says so.
func (n *look) routes(label string, ok func(*status.Route) bool) bool {
	found := false
	if n.status == nil {
		return false
	}
	for i := range n.status.Failover {
		r := &n.status.Failover[i]
		if r.Connector == label {
			if found = true; !ok(r) {
				return false
			}
		}
	}
	return found
}

// since is a time of the report.
func (m *room) since(t time.Time) float64 { return max(t.Sub(m.out.Began).Seconds(), 0) }

// say tells an event. It may be called by several goroutines.
func (m *room) say(format string, args ...any) {
	m.tell(time.Now(), "drill", fmt.Sprintf(format, args...))
}

func (m *room) tell(at time.Time, who, text string) {
	text = strings.ReplaceAll(text, m.dir+string(filepath.Separator), "") // it is gone when anybody reads this
	m.mu.Lock()
	defer m.mu.Unlock()
	m.out.Events = append(m.out.Events, report.Event{At: m.since(at), Who: who, Text: text})
}
