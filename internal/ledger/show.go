// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
)

// Show tells one item's life from all notes, in time order: a line per event. text is its identity, with or without the
// run's name before it: RUN/s/PRODUCER/SEQ or s/PRODUCER/SEQ.
func Show(n *Notes, text string) (string, error) {
	if strings.Count(text, "/") == 2 {
		text = n.Run.Name + "/" + text
	}
	run, id, ok := item.ParseID([]byte(text))
	if !ok {
		return "", fmt.Errorf("item %q: RUN/s/PRODUCER/SEQ is needed; s is s, l or m", escape(text))
	}
	if string(run) != n.Run.Name {
		return "", fmt.Errorf("item %q: these are the notes of run %q", text, n.Run.Name)
	}
	type event struct {
		t    int64
		text string
	}
	var events []event
	add := func(t int64, format string, args ...any) {
		events = append(events, event{t, fmt.Sprintf(format, args...)})
	}
	for i := range n.Tried {
		a := &n.Tried[i]
		if a.Signal != id.Signal || a.Producer != id.Producer || id.Seq < a.First || id.Seq > a.Last {
			continue
		}
		add(a.T, "invoked      request %d, attempt %d, items %d-%d", a.Request, a.Attempt.Attempt, a.First, a.Last)
		if a.Ended == 0 {
			add(a.T, "no answer    request %d, attempt %d", a.Request, a.Attempt.Attempt)
			continue
		}
		add(a.Ended, "%-12s request %d, attempt %d: %s %s", a.Result.State, a.Request, a.Attempt.Attempt, escape(a.Result.Code),
			escape(a.Result.Text))
	}
	for i := range n.Arrivals {
		a := &n.Arrivals[i]
		if a.Signal != id.Signal || a.Producer != id.Producer || id.Seq < a.First || id.Seq > a.Last {
			continue
		}
		p := n.Places[a.Place]
		stored := "stored"
		if !a.Stored {
			stored = "not stored"
		}
		flags := ""
		if a.Flags != 0 {
			flags = ", flags " + a.Flags.String()
		}
		if p.Kind != AtSink {
			add(a.T, "in %s %s%s", p.Kind, p.Name, flags)
			continue
		}
		add(a.T, "arrived      at %s by connection %d with items %d-%d of request %d, answered %s, %s%s", p.Name, a.Conn,
			a.First, a.Last, a.Request, escape(a.Answer), stored, flags)
	}
	if len(events) == 0 {
		return "", fmt.Errorf("item %s: nobody sent it and it arrived nowhere", text)
	}
	sort.SliceStable(events, func(i, j int) bool { return events[i].t < events[j].t })
	var b strings.Builder
	for _, e := range events {
		when := "-               "
		if e.t != 0 {
			when = time.UnixMicro(e.t).UTC().Format("15:04:05.000000 ")
		}
		fmt.Fprintf(&b, "%s %s\n", when, strings.TrimRight(e.text, " "))
	}
	return b.String(), nil
}
