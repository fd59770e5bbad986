// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"sync"
	"time"
)

// patience is how long one who asks waits for a snapshot.
const patience = 2 * time.Second

// Desk hands out statuses. It owns at most one goroutine, which takes the snapshot that all who ask meanwhile share, so
// that a snapshot that never comes holds up nobody, and nobody who asks often costs more than one who asks once.
type Desk struct {
	read func() Status
	mu   struct {
		sync.Mutex
		last   Status
		taking chan struct{} // closed when the one being taken is there; nil = none is
		began  time.Time
	}
}

// NewDesk returns a desk for what read copies; first is shown until the first copy is there.
func NewDesk(first Status, read func() Status) *Desk {
	d := &Desk{read: read}
	Judge(&first)
	d.mu.last = first
	return d
}

// Status is how the process is now; or how it was, with OverdueSeconds, if no snapshot comes within two seconds.
func (d *Desk) Status(ctx context.Context) Status {
	d.mu.Lock()
	if d.mu.taking == nil {
		d.mu.taking, d.mu.began = make(chan struct{}), time.Now()
		go d.take() // Wait waits for it
	}
	taking := d.mu.taking
	d.mu.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-taking:
	case <-timer.C:
	case <-ctx.Done():
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.mu.last
	if d.mu.taking == taking {
		s.age(time.Since(d.mu.began))
	}
	return s
}

func (d *Desk) take() {
	s := d.read()
	Judge(&s)
	d.mu.Lock()
	taking := d.mu.taking
	d.mu.last, d.mu.taking = s, nil
	d.mu.Unlock()
	close(taking)
}

// Wait waits for the snapshot being taken, or until ctx ends.
func (d *Desk) Wait(ctx context.Context) error {
	d.mu.Lock()
	taking := d.mu.taking
	d.mu.Unlock()
	if taking == nil {
		return nil
	}
	select {
	case <-taking: // closed last: the goroutine has nothing left to do but end
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// age says that s is old. Others may be reading what s shares with them.
func (s *Status) age(waited time.Duration) {
	s.OverdueSeconds = waited.Seconds()
	s.Verdict = max(ParseVerdict(s.Verdict), Degraded).String()
	s.Causes = append([]string{"what is shown is old: the next snapshot has been waited for for " +
		seconds(s.OverdueSeconds)}, s.Causes...)
}
