// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// settle is how long an event waits for others that belong before it, or to it. Events come from several processes and
// signals; what is printed is in order of time, this much late.
const settle = 400 * time.Millisecond

// event is one line of a timeline.
type event struct {
	at   time.Time
	who  string // demo, or log: the collector says so itself
	text string
	// part is what is named behind the text, if anything. Events that differ in nothing else become one line.
	part string
	// notes follow the line as they are: a picture.
	notes string
}

// timeline writes events in order of time, one line each. It reads no clock and is for one goroutine.
type timeline struct {
	began   time.Time
	out     io.Writer
	waiting []line
	err     error // of the first write that failed; nothing is written after it
}

// line is an event, and those that were merged into it.
type line struct {
	event
	parts []string
}

func newTimeline(began time.Time, out io.Writer) *timeline { return &timeline{began: began, out: out} }

// add takes an event. It is written by advance.
func (t *timeline) add(e event) {
	for i := range t.waiting {
		if w := &t.waiting[i]; e.part != "" && w.who == e.who && w.text == e.text && len(w.parts) > 0 {
			if !slices.Contains(w.parts, e.part) {
				w.parts = append(w.parts, e.part)
				slices.Sort(w.parts)
			}
			return
		}
	}
	l := line{event: e}
	if e.part != "" {
		l.parts = []string{e.part}
	}
	at := len(t.waiting) // of two at the same time the first one comes first
	for at > 0 && t.waiting[at-1].at.After(e.at) {
		at--
	}
	t.waiting = slices.Insert(t.waiting, at, l)
}

// advance writes what has waited long enough.
func (t *timeline) advance(now time.Time) {
	for len(t.waiting) > 0 && now.Sub(t.waiting[0].at) >= settle {
		t.write()
	}
}

// close writes everything that waits.
func (t *timeline) close() {
	for len(t.waiting) > 0 {
		t.write()
	}
}

func (t *timeline) write() {
	l := t.waiting[0]
	t.waiting = t.waiting[1:]
	if t.err != nil {
		return
	}
	text := fmt.Sprintf("%6.1f s  %-4s  %s", max(l.at.Sub(t.began), 0).Seconds(), l.who, l.text)
	if len(l.parts) > 0 {
		text += " (" + strings.Join(l.parts, ", ") + ")"
	}
	_, t.err = io.WriteString(t.out, text+"\n"+l.notes)
}
