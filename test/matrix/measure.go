// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/test/seedbed"
)

// lateBelow is how long after the first level has all its share again what was in flight at the lower level may still arrive there.
const lateBelow = time.Second

// measures are what notes and log say of one fault of the primary; all maps are by signal.
type measures struct {
	interval map[string]time.Duration // longest time between two batches at the primary before the fault
	first    map[string]time.Time     // first arrival at the secondary after the fault
	handover map[string]handover      // of what the primary noted, and did not keep
	followed map[string]time.Duration // fault → the last item accepted before first is delivered
	down     map[string]time.Duration // fault → the first level is down
	back     map[string]time.Duration // healing → the first level is back
	whole    map[string]time.Duration // healing → it takes all again
	again    map[string]time.Duration // healing → the first delivery to any backend
	below    uint64                   // items that reached the secondary more than a second after that
}

// handover is how long it took from the arrival at the primary, in vain, to that of the same item at the secondary.
type handover struct {
	failed time.Time // the first one
	first  time.Duration
	most   time.Duration
}

// itemID names one item.
type itemID struct {
	signal   string
	producer uint16
	seq      uint64
}

func measure(n *ledger.Notes, lines []seedbed.Line, fault, heal time.Time) measures {
	m := measures{
		interval: map[string]time.Duration{}, first: map[string]time.Time{}, handover: map[string]handover{},
		followed: map[string]time.Duration{}, down: map[string]time.Duration{}, back: map[string]time.Duration{},
		whole: map[string]time.Duration{}, again: map[string]time.Duration{},
	}
	m.readLog(lines, fault, heal)
	last := map[string]time.Time{}    // batch at the primary before the fault
	failed := map[itemID]time.Time{}  // at the primary, since the fault: the first item of each run
	arrived := map[itemID]time.Time{} // first delivery of each item, anywhere
	for i := range n.Arrivals {
		a := &n.Arrivals[i]
		place, signal, t := n.Places[a.Place].Name, a.Signal.String(), time.UnixMicro(a.T)
		if a.T == 0 {
			continue // in a file
		}
		if a.Stored {
			for seq := a.First; seq <= a.Last; seq++ {
				id := itemID{signal, a.Producer, seq}
				if old, ok := arrived[id]; !ok || t.Before(old) {
					arrived[id] = t
				}
			}
			if old, ok := m.again[signal]; t.After(heal) && (!ok || t.Sub(heal) < old) {
				m.again[signal] = t.Sub(heal)
			}
		}
		switch {
		case place == seedbed.Primary && t.Before(fault):
			if old, ok := last[signal]; ok {
				m.interval[signal] = max(m.interval[signal], t.Sub(old))
			}
			last[signal] = t
		case place == seedbed.Primary && t.Before(heal):
			if id := (itemID{signal, a.Producer, a.First}); failed[id].IsZero() {
				failed[id] = t
			}
		case place == seedbed.Secondary && a.Stored:
			if old, ok := m.first[signal]; !ok || t.Before(old) {
				m.first[signal] = t
			}
			if whole, ok := m.whole[signal]; ok && t.After(heal.Add(whole+lateBelow)) {
				m.below += a.Last - a.First + 1
			}
		}
	}
	m.moves(n, failed)
	m.follow(n, arrived, fault)
	return m
}

// readLog finds when the first level went down, came back, and took all again, by signal.
func (m *measures) readLog(lines []seedbed.Line, fault, heal time.Time) {
	for i := range lines {
		l := &lines[i]
		signal := l.Field("signal")
		if level, err := strconv.Atoi(l.Field("level")); err != nil || level != 0 {
			continue
		}
		healed := !heal.IsZero() && l.Time.After(heal.Truncate(time.Millisecond))
		switch {
		case strings.HasPrefix(l.Text, "Failover: level is down") && l.Time.After(fault.Truncate(time.Millisecond)):
			if _, ok := m.down[signal]; !ok {
				m.down[signal] = l.Time.Sub(fault)
			}
		case strings.HasPrefix(l.Text, "Failover: level is back") && healed:
			m.whole[signal] = l.Time.Sub(heal) // unless its share grows
			if _, ok := m.back[signal]; !ok {
				m.back[signal] = l.Time.Sub(heal)
			}
		case strings.HasPrefix(l.Text, "Failover: level has its whole share again") && healed:
			m.whole[signal] = l.Time.Sub(heal)
		}
	}
}

// moves finds how long it took from an attempt that the primary noted to the same item at the secondary.
func (m *measures) moves(n *ledger.Notes, failed map[itemID]time.Time) {
	for i := range n.Arrivals {
		a := &n.Arrivals[i]
		if n.Places[a.Place].Name != seedbed.Secondary || !a.Stored {
			continue
		}
		for seq := a.First; seq <= a.Last; seq++ {
			id := itemID{a.Signal.String(), a.Producer, seq}
			at, ok := failed[id]
			t := time.UnixMicro(a.T)
			if !ok || t.Before(at) {
				continue
			}
			delete(failed, id)
			h := m.handover[id.signal]
			if h.most = max(h.most, t.Sub(at)); h.failed.IsZero() || at.Before(h.failed) {
				h.failed, h.first = at, t.Sub(at)
			}
			m.handover[id.signal] = h
		}
	}
}

// follow finds when the last item was delivered that had been accepted when the first one reached the secondary.
func (m *measures) follow(n *ledger.Notes, arrived map[itemID]time.Time, fault time.Time) {
	for i := range n.Tried {
		a := &n.Tried[i]
		signal := a.Signal.String()
		first, ok := m.first[signal]
		if !ok || a.Result.State != ledger.Acked || time.UnixMicro(a.Ended).After(first) {
			continue
		}
		for seq := a.First; seq <= a.Last; seq++ {
			if t, ok := arrived[itemID{signal, a.Producer, seq}]; ok && t.After(fault) {
				m.followed[signal] = max(m.followed[signal], t.Sub(fault))
			}
		}
	}
}
