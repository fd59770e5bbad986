// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/queue/memory"
)

// parked is a queue with a backlog of n records of one item that one destination left, as a journal found at start.
func parked(t *testing.T, heir string, n int) (*memory.Queue, queue.Cursor) {
	t.Helper()
	q := memory.New(memory.Settings{})
	q.Attach("gone")
	for i := range n {
		if err := q.Append(context.Background(), queue.Record{Items: 1, Size: 1, Tag: uint8(otlp.Traces),
			Body: fmt.Append(nil, "old ", i)}); err != nil {
			t.Fatal(err)
		}
	}
	q.Detach("gone")
	c, err := q.Inherit("gone", heir)
	if err != nil {
		t.Fatal(err)
	}
	return q, c
}

func TestABacklogIsServedInTurnWithLiveData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int64
		var mu sync.Mutex
		var order []string
		b := &backend{answer: func(_ int, r *exporter.Request) exporter.Verdict {
			most.Store(max(most.Load(), now.Add(1)))
			time.Sleep(100 * time.Millisecond)
			now.Add(-1)
			mu.Lock()
			order = append(order, string(r.Parts[0][:3]))
			mu.Unlock()
			return exporter.Deliver()
		}}
		d := dest("otlp")
		d.Want = queue.Want{Sizer: queue.Items, Max: 1}
		h := prepare(t, plan.Pipeline{Destinations: []plan.Destination{d}}, map[string]*backend{"otlp": b})
		old, backlog := parked(t, "traces:otlp", 40)
		if err := h.Inherit("otlp", backlog, true); err != nil {
			t.Fatal(err)
		}
		if err := h.Inherit("nobody", backlog, true); err == nil {
			t.Error("a destination that is not there inherited")
		}
		h.Start()
		for i := range 40 {
			h.put(fmt.Sprint("new ", i), 1)
		}
		time.Sleep(2 * time.Second)
		mu.Lock()
		half := slices.Clone(order)
		mu.Unlock()
		if n := count(half, "old"); n < len(half)/4 || n > 3*len(half)/4 {
			t.Errorf("of the first %d deliveries %d are of the backlog", len(half), n)
		}
		time.Sleep(10 * time.Second)
		if b.delivered() != 80 || most.Load() != 2 {
			t.Errorf("delivered %d of 80, %d at once, want 2", b.delivered(), most.Load())
		}
		if c, _ := old.Counts("gone"); c.Delivered != 40 || c.Parked != 0 {
			t.Errorf("books of the backlog: %+v", c)
		}
		if n := h.lines.FilterMessage("Queue: backlog drained").Len(); n != 1 {
			t.Errorf("said %d times that the backlog is drained, want once", n)
		}
		h.books("otlp")
		h.stop(time.Second)
	})
}

func count(list []string, of string) int {
	n := 0
	for _, s := range list {
		if s == of {
			n++
		}
	}
	return n
}

// A stop leaves a backlog where it is, whatever its worker is doing, and drains what is in memory.
func TestStopLeavesABacklogAndDrainsMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		heal := atomic.Bool{}
		b := &backend{answer: func(int, *exporter.Request) exporter.Verdict {
			if heal.Load() {
				return exporter.Deliver()
			}
			return retryVerdict()
		}}
		h := prepare(t, plan.Pipeline{Destinations: []plan.Destination{dest("otlp")}}, map[string]*backend{"otlp": b})
		old, backlog := parked(t, "traces:otlp", 10)
		if err := h.Inherit("otlp", backlog, true); err != nil {
			t.Fatal(err)
		}
		h.Start()
		for i := range 10 {
			h.put(fmt.Sprint("new ", i), 1)
		}
		time.Sleep(time.Minute)
		heal.Store(true)
		h.stop(10 * time.Second)
		if c := h.books("otlp"); c.Delivered != 10 {
			t.Errorf("books of the queue in memory: %+v", c)
		}
		c, _ := old.Counts("gone")
		if c.Delivered+c.Parked != 10 || c.Rejected != 0 || len(c.Dropped) != 0 {
			t.Errorf("stopping resolved some of the backlog: %+v", c)
		}
	})
}

func TestAStoredQueueIsLeftAtOnceWhenItsBackendIsDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{answer: func(int, *exporter.Request) exporter.Verdict { return retryVerdict() }}
		h := prepare(t, plan.Pipeline{Storage: "file_storage", Destinations: []plan.Destination{dest("otlp")}},
			map[string]*backend{"otlp": b})
		h.Start()
		for i := range 30 {
			h.put(fmt.Sprint(i), 2)
		}
		time.Sleep(time.Minute)
		began := time.Now()
		h.Stop(context.Background())
		h.leave()
		if took := time.Since(began); took != 0 {
			t.Errorf("stopping waited %s for a backend that is dead", took)
		}
		if c := h.books("otlp"); c.Queued != 60 {
			t.Errorf("stopping resolved something: %+v", c)
		}
	})
}

func TestWhatIsInFlightMayEndWhenAStoredQueueStopsButNotForLong(t *testing.T) {
	for name, c := range map[string]struct {
		answer, stop time.Duration
		delivered    uint64
	}{
		"an answer that comes is heard":            {2 * time.Second, 2 * time.Second, 1},
		"one that does not is not waited for long": {time.Hour, 5 * time.Second, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := dest("otlp")
				d.Workers = 1
				h := prepare(t, plan.Pipeline{Storage: "file_storage", Destinations: []plan.Destination{d}},
					map[string]*backend{"otlp": {wait: c.answer}})
				h.Start()
				h.put("in flight", 1)
				synctest.Wait()
				h.put("waits", 1)
				began := time.Now()
				h.Stop(context.Background())
				h.leave()
				if took := time.Since(began); took != c.stop {
					t.Errorf("stopping took %s, want %s", took, c.stop)
				}
				if got := h.books("otlp"); got.Delivered != c.delivered || got.Queued != 2-c.delivered {
					t.Errorf("books %+v", got)
				}
			})
		})
	}
}

// outcomes notes how records are resolved.
type outcomes struct {
	*memory.Queue
	mu  sync.Mutex
	all []queue.Outcome
}

func (o *outcomes) Attach(name string) queue.Cursor { return &noting{o.Queue.Attach(name), o} }

type noting struct {
	queue.Cursor
	to *outcomes
}

func (n *noting) Resolve(o queue.Outcome, seqs ...queue.Seq) error {
	n.to.mu.Lock()
	n.to.all = append(n.to.all, o)
	n.to.mu.Unlock()
	return n.Cursor.Resolve(o, seqs...)
}

// tenSpans is a request with ten spans.
func tenSpans(t *testing.T) []byte {
	t.Helper()
	td := ptrace.NewTraces()
	ss := td.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty()
	for i := range 10 {
		ss.Spans().AppendEmpty().SetName(fmt.Sprint("span ", i))
	}
	body, err := ptraceotlp.NewExportRequestFromTraces(td).MarshalProto()
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// A record of which some pieces were refused is set aside whole, with the items named and only the refused counted.
func TestARecordWithRefusedPiecesIsSetAsideAndOnlyTheseAreCountedAsRejected(t *testing.T) {
	refused := func(err string) exporter.Verdict {
		return exporter.Verdict{Kind: exporter.Rejected, Err: errors.New(err)}
	}
	for name, c := range map[string]struct {
		answer func(n int) exporter.Verdict
		want   queue.Outcome
	}{
		"some": {func(n int) exporter.Verdict {
			if n == 2 || n == 4 {
				return refused("too old")
			}
			return exporter.Deliver()
		}, queue.Outcome{Kind: queue.Dead, Rejected: 4, Reason: "items 4-6, 10-10 of 10 refused, the others delivered: too old"}},
		"some, and a partial success": {func(n int) exporter.Verdict {
			switch n {
			case 1:
				return exporter.Verdict{Kind: exporter.Delivered, Rejected: 1}
			case 2:
				return refused("too old")
			}
			return exporter.Deliver()
		}, queue.Outcome{Kind: queue.Dead, Rejected: 4, Reason: "items 4-6 of 10 refused, the others delivered: too old"}},
		"none, but partial successes": {func(int) exporter.Verdict {
			return exporter.Verdict{Kind: exporter.Delivered, Rejected: 1}
		}, queue.Outcome{Kind: queue.Ack, Rejected: 4}},
		"all": {func(int) exporter.Verdict { return refused("no such tenant") },
			queue.Outcome{Kind: queue.Dead, Reason: "no such tenant"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := dest("otlp")
				d.Workers = 1 // one piece after the other
				d.Want = queue.Want{Sizer: queue.Items, Max: 3}
				b := &backend{answer: func(n int, _ *exporter.Request) exporter.Verdict { return c.answer(n) }}
				var o *outcomes
				h := prepareWith(t, plan.Pipeline{Destinations: []plan.Destination{d}}, map[string]*backend{"otlp": b},
					func(q *memory.Queue) queueOf { o = &outcomes{Queue: q}; return o })
				h.Start()
				body := tenSpans(t)
				if _, err := h.Entry().Accept(context.Background(), &otlp.Payload{
					Signal: otlp.Traces, Items: 10, Size: uint32(len(body)), Body: body}); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if len(o.all) != 1 || o.all[0] != c.want {
					t.Errorf("got %+v, want %+v", o.all, c.want)
				}
				items := c.want.Rejected
				if c.want.Kind == queue.Dead && items == 0 {
					items = 10
				}
				if s := h.Stats().Destinations[0]; s.Rejected.Items != uint64(items) || s.Delivered.Items != uint64(10-items) {
					t.Errorf("counted %+v, want %d rejected", s, items)
				}
				if got := h.books("otlp"); got.Rejected != uint64(items) || got.Delivered != uint64(10-items) {
					t.Errorf("books %+v, want %d rejected", got, items)
				}
				h.stop(time.Second)
			})
		})
	}
}

func TestAReasonWithManyRefusedPiecesStaysShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dest("otlp")
		d.Want = queue.Want{Sizer: queue.Items, Max: 1}
		b := &backend{answer: func(n int, r *exporter.Request) exporter.Verdict {
			if n%2 == 1 {
				return exporter.Verdict{Kind: exporter.Rejected, Err: errors.New("no")}
			}
			return exporter.Deliver()
		}}
		var o *outcomes
		h := prepareWith(t, plan.Pipeline{Destinations: []plan.Destination{d}}, map[string]*backend{"otlp": b},
			func(q *memory.Queue) queueOf { o = &outcomes{Queue: q}; return o })
		h.Start()
		td := ptrace.NewTraces()
		ss := td.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty()
		for range 1000 {
			ss.Spans().AppendEmpty()
		}
		body, _ := ptraceotlp.NewExportRequestFromTraces(td).MarshalProto()
		if _, err := h.Entry().Accept(context.Background(), &otlp.Payload{
			Signal: otlp.Traces, Items: 1000, Size: uint32(len(body)), Body: body}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(o.all) != 1 || o.all[0].Rejected != 500 || len(o.all[0].Reason) > 1024 || !strings.Contains(o.all[0].Reason, "…") {
			t.Errorf("got %+v", o.all)
		}
		h.stop(time.Second)
	})
}
