// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package commit

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// Tend prepares the next segment, seals those that are done, and tries to get out of full and broken. It is called
// when Wanted says so, after space was freed, and at least every second. It uses the disk.
func (l *Log) Tend() {
	l.tending <- struct{}{}
	defer func() { <-l.tending }()
	l.mu.Lock()
	closing := l.mu.closing
	litter := l.mu.litter
	l.mu.litter = nil
	l.mu.Unlock()
	if closing {
		return // Close does what is left
	}
	for _, r := range litter {
		l.remove(r)
	}
	l.seal()
	l.mu.Lock()
	bad, stranded := l.mu.state != OK, l.mu.stranded
	if bad && stranded {
		l.mu.retry = true
		l.wakeLocked()
	}
	l.mu.Unlock()
	if bad && stranded {
		return // the rescue may need the space
	}
	l.prepare()
	l.recovered(false)
}

// prepare makes the next segment, if one is wanted.
func (l *Log) prepare() {
	l.making <- struct{}{}
	defer func() { <-l.making }()
	l.mu.Lock()
	needed := len(l.mu.blanks) == 0 && (l.mu.wanting || l.mu.state != OK)
	usable := l.mu.usable
	l.mu.Unlock()
	if !needed {
		return
	}
	b, err := l.allocate(l.segment.Load(), "")
	if err != nil {
		if state, err := l.refusal(err); !usable {
			l.setState(state, err)
		}
		return // wanted on
	}
	l.putBack(b)
	l.mu.Lock()
	l.mu.wanting = false
	l.mu.Unlock()
}

// seal completes what is retired. One that cannot be sealed stays as it is: all in it is durable.
func (l *Log) seal() {
	for {
		l.mu.Lock()
		if len(l.mu.retired) == 0 {
			l.mu.Unlock()
			return
		}
		s := l.mu.retired[0]
		l.mu.retired = append(l.mu.retired[:0], l.mu.retired[1:]...)
		l.mu.Unlock()
		l.sealOne(s)
	}
}

func (l *Log) sealOne(s *seg) {
	defer s.file.Close() // makes nothing durable: no error can matter
	start := time.Now()
	err := s.w.Seal()
	l.observe(Sealed, start)
	if info, err := s.file.Stat(); err == nil && info.Allocated < s.bytes { // it may be cut although the seal failed
		l.set.Host.Gave(s.bytes - info.Allocated)
	}
	if err != nil {
		l.mu.Lock()
		l.mu.stats.Condemned++
		l.mu.Unlock()
		l.set.Host.Condemned(s.id, err)
		return
	}
	l.set.Host.Sealed(s.id, s.w.Summary())
}

// Close refuses records, finishes the running group, makes everything durable and seals. It waits until the Log's
// goroutines have ended, or until ctx ends: then they end when the disk lets them, and Close may be called again. An
// error means that something acknowledged may not be durable; a segment that could not be sealed is none.
func (l *Log) Close(ctx context.Context) error {
	l.mu.Lock()
	if !l.mu.closing {
		l.mu.closing = true
		l.mu.state, l.mu.cause = Closed, queue.ErrClosed
		l.refuseLocked(queue.ErrClosed)
		l.wakeLocked()
	}
	l.mu.Unlock()
	select {
	case <-l.flushed:
	case <-ctx.Done():
		return fmt.Errorf("close %s: %w", l.set.Dir, ctx.Err())
	}
	select {
	case l.tending <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("close %s: %w", l.set.Dir, ctx.Err())
	}
	defer func() { <-l.tending }()
	l.cleanUp()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.lost
}

// finish makes durable what is published, and ends the syncer. It is the flusher's last act.
func (l *Log) finish() {
	for l.endActive(); l.f.syncs > 0; l.endActive() {
		<-l.wake
		l.collect()
	}
	l.saveStranded()
	l.endActive()
	if l.f.syncing {
		close(l.syncWake)
		<-l.f.synced
	}
	var lost error
	if n := len(l.f.spans); n > 0 {
		lost = fmt.Errorf("close %s: records %d to %d are not known durable: %w", l.set.Dir, l.f.spans[0].first,
			l.f.spans[n-1].last, queue.ErrDisk)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.lost = lost
}

// endActive orders the last sync of the active segment, and its seal.
func (l *Log) endActive() {
	if a := l.f.active; a != nil {
		l.deactivate(a)
		l.retire(a)
	}
	l.orderSync()
}

// cleanUp seals what is left and removes what was prepared. A crash before or in it costs recovery some work.
func (l *Log) cleanUp() {
	l.mu.Lock()
	blanks, litter, cleaned := l.mu.blanks, l.mu.litter, l.mu.cleaned
	l.mu.blanks, l.mu.litter, l.mu.cleaned = nil, nil, true
	l.mu.Unlock()
	if cleaned {
		return
	}
	l.seal()
	for _, b := range blanks {
		b.file.Close()
		l.remove(remains{[]string{b.path}, b.bytes})
	}
	for _, r := range litter {
		l.remove(r)
	}
}
