// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package commit

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/queue/window"
)

// answer is what all records of one group are told, at once.
type answer struct {
	done chan struct{} // closed when err stands
	err  error
}

func newAnswer() *answer { return &answer{done: make(chan struct{})} }

func (a *answer) give(err error) {
	a.err = err
	close(a.done)
}

// waiter is one record on its way into a group. It is in the line, in the lobby, or in neither: then answer is set. The
// Log's lock guards it; answer may be read without.
type waiter struct {
	entry          *window.Entry
	crc            uint32
	frame          int64 // bytes
	inLobby        bool
	older, younger *waiter
	answer         atomic.Pointer[answer] // set when it is taken, never changed then
}

// list is waiters in the order they came.
type list struct{ head, tail *waiter }

func (l *list) push(w *waiter) {
	w.older = l.tail
	if l.tail == nil {
		l.head = w
	} else {
		l.tail.younger = w
	}
	l.tail = w
}

func (l *list) remove(w *waiter) {
	if w.older == nil {
		l.head = w.younger
	} else {
		w.older.younger = w.younger
	}
	if w.younger == nil {
		l.tail = w.older
	} else {
		w.younger.older = w.older
	}
	w.older, w.younger = nil, nil
}

// Append commits one record: after nil it is stored as safely as configured and was published; e.Seq and e.Accepted are
// set, and e and its bytes belong to the queue. After an error they stay the caller's. Final: queue.ErrTooLarge.
// Retryable: *queue.FullError, queue.ErrBusy, queue.ErrDisk, queue.ErrClosed. ctx is heeded until the record is in a
// group.
func (l *Log) Append(ctx context.Context, e *window.Entry) error {
	if len(e.Meta) > segment.MaxRecordBytes || len(e.Body) > segment.MaxRecordBytes-len(e.Meta) {
		return fmt.Errorf("record of %d bytes: %w", int64(len(e.Meta))+int64(len(e.Body)), queue.ErrTooLarge)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, err := l.State(); err != nil {
		return err // before the work of a checksum
	}
	w := l.waiters.Get().(*waiter)
	w.entry, w.crc, w.frame = e, segment.Checksum(e.Meta, e.Body), segment.FrameBytes(len(e.Meta), len(e.Body))
	err := l.wait(ctx, w)
	w.entry = nil
	w.answer.Store(nil)
	l.waiters.Put(w) // nobody else knows it any more
	return err
}

// wait joins those who wait and returns what w's group is told.
func (l *Log) wait(ctx context.Context, w *waiter) error {
	l.mu.Lock()
	if err := l.mu.cause; err != nil {
		l.mu.Unlock()
		return err
	}
	at, inLobby := l.mu.next, !l.joinLocked(w)
	l.mu.Unlock()
	var late <-chan time.Time
	if inLobby {
		timer := time.NewTimer(maxWait)
		defer timer.Stop()
		late = timer.C
	}
	ended := ctx.Done()
	for {
		select {
		case <-at.done:
			if w.answer.Load() == at {
				return at.err
			}
			at = l.next(w) // it was not among those taken
		case <-ended:
			if l.leave(w, false) {
				if inLobby {
					return fmt.Errorf("%w: %w", queue.ErrBusy, ctx.Err())
				}
				return ctx.Err()
			}
			ended = nil
		case <-late:
			if l.leave(w, true) {
				return queue.ErrBusy
			}
			late = nil
		}
	}
}

// next is the answer w has to wait for: that of its group, or of the next one, after which it looks again.
func (l *Log) next(w *waiter) *answer {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := w.answer.Load(); a != nil {
		return a
	}
	return l.mu.next
}

// joinLocked puts w into the line, or, without room there, into the lobby.
func (l *Log) joinLocked(w *waiter) bool {
	if l.mu.lobby.head != nil || !l.roomLocked(w) {
		w.inLobby = true
		l.mu.lobby.push(w)
		return false
	}
	w.inLobby = false
	l.mu.line.push(w)
	l.mu.waiting += w.frame
	if l.mu.idle {
		l.wakeLocked()
	}
	return true
}

func (l *Log) roomLocked(w *waiter) bool {
	return l.mu.waiting == 0 || l.mu.waiting+w.frame <= maxLineBytes
}

// admitLocked lets those in the lobby into the line as far as there is room.
func (l *Log) admitLocked() {
	for w := l.mu.lobby.head; w != nil && l.roomLocked(w); w = l.mu.lobby.head {
		l.mu.lobby.remove(w)
		w.inLobby = false
		l.mu.line.push(w)
		l.mu.waiting += w.frame
	}
}

// leave takes w back, unless a group has it, or, with lobby, the line.
func (l *Log) leave(w *waiter, lobby bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case w.answer.Load() != nil || lobby && !w.inLobby:
		return false
	case w.inLobby:
		l.mu.lobby.remove(w)
	default:
		l.mu.line.remove(w)
		l.mu.waiting -= w.frame
	}
	l.admitLocked()
	return true
}

// refuseLocked answers all who wait with err.
func (l *Log) refuseLocked(err error) {
	if l.mu.line.head == nil && l.mu.lobby.head == nil {
		return
	}
	a := l.mu.next
	l.mu.next = newAnswer()
	for _, waiting := range []*list{&l.mu.line, &l.mu.lobby} {
		for w := waiting.head; w != nil; w = waiting.head {
			waiting.remove(w)
			w.answer.Store(a)
		}
	}
	l.mu.waiting = 0
	a.give(err)
}

// wakeLocked sees to it that the flusher looks again.
func (l *Log) wakeLocked() {
	l.mu.idle = false
	select {
	case l.wake <- struct{}{}:
	default:
	}
}
