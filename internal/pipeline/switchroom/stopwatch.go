// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package switchroom

import (
	"sync"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// stopwatch adds up how long something was so, and shows it while it is.
type stopwatch struct {
	mu struct {
		sync.Mutex
		sum   time.Duration
		since time.Time // zero = it stands
	}
}

// newStopwatch returns one that stands at 0 and is shown as the series name{labels}.
func newStopwatch(m *telemetry.Registry, name, help string, labels []string) *stopwatch {
	w := &stopwatch{}
	m.CounterFunc(name, help, func() float64 { return w.seconds(time.Now()) }, labels...)
	return w
}

// run lets it run or stand from now on.
func (w *stopwatch) run(now time.Time, on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case on && w.mu.since.IsZero():
		w.mu.since = now
	case !on && !w.mu.since.IsZero():
		w.mu.sum += max(now.Sub(w.mu.since), 0)
		w.mu.since = time.Time{}
	}
}

func (w *stopwatch) seconds(now time.Time) float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	sum := w.mu.sum
	if !w.mu.since.IsZero() {
		sum += max(now.Sub(w.mu.since), 0)
	}
	return sum.Seconds()
}
