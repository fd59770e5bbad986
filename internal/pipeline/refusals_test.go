// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/queue/memory"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
)

// refusing answers appends with an error while there is one.
type refusing struct {
	*memory.Queue
	err atomic.Pointer[error]
}

func (r *refusing) Append(ctx context.Context, rec queue.Record) error {
	if err := r.err.Load(); err != nil {
		return *err
	}
	return r.Queue.Append(ctx, rec)
}

func (r *refusing) with(err error) { r.err.Store(&err) }

func guarded(t *testing.T) (*house, *refusing) {
	t.Helper()
	var r *refusing
	h := prepareWith(t, plan.Pipeline{Destinations: []plan.Destination{dest("otlp")}}, map[string]*backend{"otlp": {}},
		func(q *memory.Queue) queueOf { r = &refusing{Queue: q}; return r })
	h.Start()
	return h, r
}

func (h *house) offer(items uint32) error {
	_, err := h.Entry().Accept(context.Background(), &otlp.Payload{Signal: otlp.Traces, Items: items, Size: 1, Body: []byte("x")})
	return err
}

// Every refusal of the queue names its limit and says when to come back; what is final says so.
func TestARefusalNamesItsLimitAndComesWithAHint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, r := guarded(t)
		for _, c := range []struct {
			err          error
			code         receiver.Code
			reason, text string
			limit        string
		}{
			{&queue.FullError{Limit: "queue_size", Used: 10, Max: 10}, receiver.Unavailable, receiver.ReasonQueueFull,
				"sending queue is full: queue_size 10 of 10", "queue_size"},
			{&queue.FullError{Limit: "max_file_size_mib", Used: 4095<<20 + 1, Max: 4096 << 20}, receiver.Unavailable, receiver.ReasonDisk,
				"storage is full: max_file_size_mib, 4096 of 4096 MiB used", "max_file_size_mib"},
			{&queue.FullError{Limit: "disk"}, receiver.Unavailable, receiver.ReasonDisk,
				"storage is full: no space left on the device", "disk"},
			{fmt.Errorf("append: %w", queue.ErrDisk), receiver.Unavailable, receiver.ReasonDisk,
				"append: queue storage unavailable", "disk"},
			{queue.ErrBusy, receiver.Unavailable, receiver.ReasonQueueFull, "queue busy", "busy"},
			{errors.New("odd"), receiver.Unavailable, receiver.ReasonDisk, "append: odd", "disk"},
			{queue.ErrClosed, receiver.Unavailable, receiver.ReasonStopping, "shutting down", "closed"},
			{queue.ErrTooLarge, receiver.TooLarge, receiver.ReasonTooLarge, "record too large for the queue", "too_large"},
		} {
			before := h.Stats().RefusedItems[c.limit]
			r.with(c.err)
			err := h.offer(3)
			var refusal *receiver.Refusal
			if !errors.As(err, &refusal) || refusal.Code != c.code || refusal.Reason != c.reason || refusal.Text != c.text {
				t.Errorf("%v: answered %+v", c.err, err)
				continue
			}
			if c.code == receiver.Unavailable && (refusal.After < time.Second || refusal.After > 30*time.Second) {
				t.Errorf("%v: hint %s", c.err, refusal.After)
			}
			if c.code == receiver.TooLarge && refusal.After != 0 {
				t.Errorf("%v is final and has a hint", c.err)
			}
			if got := h.Stats().RefusedItems[c.limit] - before; got != 3 {
				t.Errorf("%v: %d items counted under %s, want 3", c.err, got, c.limit)
			}
		}
		h.stop(time.Second)
	})
}

// A queue at its limit takes and refuses in turns, many times a second: that is one line in ten seconds, and one when it
// is over.
func TestRefusingAndAcceptingAgainAreSaidOnceAndNotForEveryRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, r := guarded(t)
		const words, over = "Queue: sending queue is full, refusing", "Queue: accepting again"
		said := func(msg string) int { return h.lines.FilterMessage(msg).Len() }
		watch := func(d time.Duration, each func()) {
			for range int(d / (100 * time.Millisecond)) {
				each()
				time.Sleep(100 * time.Millisecond)
				h.Watch(time.Now())
			}
		}
		full := error(&queue.FullError{Limit: "queue_size", Used: 1, Max: 1})
		watch(35*time.Second, func() { // flaps
			r.with(full)
			_ = h.offer(2)
			r.err.Store(nil)
			_ = h.offer(1)
		})
		if n := said(words); n != 4 {
			t.Errorf("said %d times in 35 s that it refuses, want 4", n)
		}
		if n := said(over); n != 0 {
			t.Errorf("said %d times that it accepts again while it flaps", n)
		}
		watch(5*time.Second, func() { _ = h.offer(1) })
		if n := said(over); n != 1 {
			t.Errorf("said %d times that it accepts again, want once", n)
		}
		requests := int64(0)
		for _, e := range h.lines.All() {
			if e.Message == words || e.Message == over {
				requests += e.ContextMap()["requests"].(int64)
			}
		}
		if requests != 350 {
			t.Errorf("the lines tell of %d refused requests, want 350", requests)
		}
		h.stop(time.Second)
	})
}

// Readiness follows the disk as it follows queue_size, and comes back without a request.
func TestAPipelineWhoseStorageIsFullIsNotAcceptingUntilThereIsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		room := atomic.Bool{}
		var r *refusing
		h := prepareWith(t, plan.Pipeline{Destinations: []plan.Destination{dest("otlp")}}, map[string]*backend{"otlp": {}},
			func(q *memory.Queue) queueOf { r = &refusing{Queue: q}; return roomy{r, room.Load} })
		h.Start()
		if ok, _ := h.Accepting(); !ok {
			t.Error("not accepting although nothing was refused")
		}
		r.with(&queue.FullError{Limit: "max_file_size_mib", Used: 16, Max: 16})
		_ = h.offer(1)
		if ok, since := h.Accepting(); ok || since.IsZero() {
			t.Error("accepting although the storage is full")
		}
		room.Store(true)
		if ok, _ := h.Accepting(); !ok {
			t.Error("not accepting although there is room")
		}
		room.Store(false)
		h.Watch(time.Now())
		if ok, since := h.Accepting(); ok || since.IsZero() {
			t.Error("accepting although there is no room, because nobody has tried")
		}
		room.Store(true)
		h.stop(time.Second)
	})
}

func TestAQueueThatFillsIsSaidAtEightyPercentWithTheTimeLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		heal := atomic.Bool{}
		b := &backend{answer: func(int, *exporter.Request) exporter.Verdict {
			if heal.Load() {
				return exporter.Deliver()
			}
			return retryVerdict()
		}}
		d := dest("otlp")
		d.Limit = queue.Limit{Sizer: queue.Items, Max: 100}
		h := build(t, []plan.Destination{d}, map[string]*backend{"otlp": b})
		rounds := func(n int) {
			for range n {
				h.put("x", 1)
				time.Sleep(time.Second)
				h.Watch(time.Now())
			}
		}
		const words = "Queue: 80 percent full"
		rounds(79)
		if n := h.lines.FilterMessage(words).Len(); n != 0 {
			t.Errorf("said %d times at 79 percent", n)
		}
		rounds(11)
		lines := h.lines.FilterMessage(words).All()
		if len(lines) != 1 {
			t.Fatalf("said %d times on the way to 90 percent, want once", len(lines))
		}
		fields := lines[0].ContextMap()
		if fields["size"] != int64(80) || fields["capacity"] != int64(100) || fields["full_in"] != 20*time.Second {
			t.Errorf("fields %v, want 80 of 100, full in 20 s", fields)
		}
		heal.Store(true)
		time.Sleep(maxReturn)
		synctest.Wait()
		h.Watch(time.Now())
		heal.Store(false)
		rounds(85)
		if n := h.lines.FilterMessage(words).Len(); n != 2 {
			t.Errorf("said %d times after it was empty and filled again, want 2", n)
		}
		heal.Store(true)
		h.stop(time.Hour)
	})
}
