// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package queues

import (
	"fmt"

	"github.com/holdfast-telemetry/holdfast/internal/app/replay"
	"github.com/holdfast-telemetry/holdfast/internal/journal/offline"
	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// AddToNotes puts what waits in a storage directory into the places of its destinations: queued, parked, and dead letters.
// The records are taken out as "queue export" does; what is in them is read by the ledger. What cannot be read is a doubt.
func AddToNotes(n *ledger.Notes, directory string) error {
	s, err := offline.Open(vfs.OS(), directory)
	if err != nil {
		return err
	}
	names, err := s.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		j, err := s.Inspect(name, nil)
		if err != nil {
			return err
		}
		if err := addJournal(n, j); err != nil {
			return err
		}
	}
	return nil
}

func addJournal(n *ledger.Notes, j *offline.Journal) error {
	for i := range j.Plan.Cursors {
		c := &j.Plan.Cursors[i]
		kind := ledger.Queued
		switch c.Slot.State {
		case queue.Live:
		case queue.Parked:
			kind = ledger.Parked
		default:
			continue
		}
		in := n.Requests(n.AddPlace(kind, c.Slot.Name))
		missed, err := j.Unresolved(c, 0, func(r *offline.Record) error {
			addRecord(in, j, r)
			return nil
		})
		if err != nil {
			return err
		}
		doubtMissed(in, j, &missed)
	}
	places := map[string]*ledger.Requests{}
	missed, err := j.DeadLetters("", 0, func(r *offline.Record) error {
		to := r.Letter.Destination
		if places[to] == nil {
			places[to] = n.Requests(n.AddPlace(ledger.Dead, to))
		}
		addRecord(places[to], j, r)
		return nil
	})
	for _, in := range places {
		doubtMissed(in, j, &missed)
		break
	}
	return err
}

func addRecord(in *ledger.Requests, j *offline.Journal, r *offline.Record) {
	where := fmt.Sprintf("journal of pipeline %s: record %d", j.Pipeline, r.Seq)
	req, err := requestOf(r)
	if err != nil {
		in.Doubt("%s: %v", where, err)
		return
	}
	s, ok := item.ParseSignal(req.Signal.String())
	if !ok {
		return // no load sends it
	}
	plain, err := replay.PlainRequest(req)
	if err != nil {
		in.Doubt("%s: %v", where, err)
		return
	}
	in.Add(s, plain, where)
}

func doubtMissed(in *ledger.Requests, j *offline.Journal, m *offline.Missed) {
	for _, d := range m.Damage {
		in.Doubt("journal of pipeline %s: %v", j.Pipeline, d)
	}
	if m.Opaque > 0 {
		in.Doubt("journal of pipeline %s: %d records were written by a newer version", j.Pipeline, m.Opaque)
	}
}
