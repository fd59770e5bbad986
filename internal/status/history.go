// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"slices"
	"sync"
	"time"
)

const (
	// gather is how long an event takes others of its kind up: the signals of one outage are one event.
	gather = 10 * time.Second
	// gatherBack is how many events back one is looked for that takes another up.
	gatherBack = 16
	// DefaultHistory is how many events are kept unless the configuration says otherwise.
	DefaultHistory = 500
)

// Event is something that happened.
type Event struct {
	ID      uint64    `json:"id"` // rises with each event, and when one takes up another
	Time    time.Time `json:"time"`
	Level   string    `json:"level"` // info, warn, error
	Text    string    `json:"text"`
	Signals []string  `json:"signals,omitempty"`
	Times   int       `json:"times,omitempty"`  // 0 = once
	Detail  string    `json:"detail,omitempty"` // the error behind it, as it came
}

// History keeps the last events. Its methods may be called from any goroutine and wait for nothing.
type History struct {
	mu struct {
		sync.Mutex
		list []Event // oldest first
		most int
		last uint64 // ID
	}
}

// NewHistory returns one that keeps up to most events.
func NewHistory(most int) *History {
	h := &History{}
	h.mu.most = most
	return h
}

// Keep changes how many events are kept.
func (h *History) Keep(most int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.most = most
	h.trim()
}

func (h *History) trim() {
	if over := len(h.mu.list) - h.mu.most; over > 0 {
		h.mu.list = slices.Delete(h.mu.list, 0, over)
	}
}

// Add notes an event; ID and Times are its own. One that says what another said a moment ago, of another signal or again,
// is added to that, which gets a new ID.
func (h *History) Add(e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.last++
	e.ID = h.mu.last
	for i := len(h.mu.list) - 1; i >= max(len(h.mu.list)-gatherBack, 0); i-- {
		o := &h.mu.list[i]
		if o.Text != e.Text || o.Level != e.Level || e.Time.Sub(o.Time) > gather {
			continue
		}
		o.ID = e.ID
		if !o.takesSignals(e.Signals) {
			o.Times = max(o.Times, 1) + 1
		}
		return
	}
	h.mu.list = append(h.mu.list, e)
	h.trim()
}

// takesSignals adds signals that are not there yet, and reports whether there were any.
func (e *Event) takesSignals(more []string) bool {
	fresh := false
	for _, s := range more {
		if !slices.Contains(e.Signals, s) {
			e.Signals = append(slices.Clone(e.Signals), s) // others may read the old one
			slices.Sort(e.Signals)
			fresh = true
		}
	}
	return fresh
}

// Newest returns up to most events, newest first, and the last ID given out.
func (h *History) Newest(most int) ([]Event, uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := slices.Clone(h.mu.list[max(len(h.mu.list)-most, 0):])
	slices.Reverse(out)
	return out, h.mu.last
}
