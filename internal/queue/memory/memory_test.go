// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package memory_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/queue/memory"
	"github.com/holdfast-telemetry/holdfast/internal/queue/queuetest"
)

var all = queue.Want{Sizer: queue.Items, Joins: joinAll}

func TestQueueContract(t *testing.T) {
	open := func(*testing.T) queue.Queue { return memory.New(memory.Settings{}) }
	queuetest.Run(t, open, queuetest.Capabilities{DropsOverflow: true, ShutdownDrops: true, FreesAtOnce: true})
}

// told collects what a queue tells of drops and dead records, and asks it for its books meanwhile: a callback that ran
// under the lock would never return.
type told struct {
	q     *memory.Queue
	drops []memory.Drop
	dead  []memory.Drop
}

func newTold() *told {
	x := &told{}
	x.q = memory.New(memory.Settings{
		OnDrop: func(d memory.Drop) { x.q.List(); x.drops = append(x.drops, d) },
		OnDead: func(d memory.Drop) { x.q.List(); x.dead = append(x.dead, d) },
	})
	return x
}

func attach(t *testing.T, q *memory.Queue, name string, limit queue.Limit) queue.Cursor {
	t.Helper()
	if err := q.Prepare(queue.Destination{Name: name, Limit: limit}); err != nil {
		t.Fatal(err)
	}
	return q.Attach(name)
}

func add(t *testing.T, q *memory.Queue, n int, items uint32) {
	t.Helper()
	for range n {
		if err := q.Append(context.Background(), queue.Record{Items: items, Size: 1, Free: func() { q.Counts("a") }}); err != nil {
			t.Fatal(err)
		}
	}
}

func take(t *testing.T, c queue.Cursor, w queue.Want) []queue.Delivered {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	got, err := c.Take(ctx, w)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func wait(t *testing.T, c queue.Cursor, w queue.Want) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Nanosecond)
	defer cancel()
	if got, err := c.Take(ctx, w); err == nil {
		t.Errorf("took %v", seqs(got))
	}
}

func seqs(got []queue.Delivered) []queue.Seq {
	s := make([]queue.Seq, len(got))
	for i := range got {
		s[i] = got[i].Seq
	}
	return s
}

func TestEveryDropIsTold(t *testing.T) {
	x := newTold()
	a := attach(t, x.q, "a", queue.Limit{Max: 3})
	b := attach(t, x.q, "b", queue.Limit{})
	add(t, x.q, 5, 10) // 1 and 2 overflow at a
	got := take(t, b, all)
	a.Resolve(queue.Outcome{Kind: queue.Drop, Reason: "operator"}, seqs(take(t, a, queue.Want{}))...)
	b.Resolve(queue.Outcome{Kind: queue.Dead, Reason: "bad"}, got[1].Seq, got[3].Seq)
	b.Resolve(queue.Outcome{Kind: queue.Ack}, got[0].Seq)
	x.q.Detach("b")
	x.q.Close(context.Background())
	want := []memory.Drop{
		{Destination: "a", Reason: memory.ReasonOverflow, Items: 10, Records: 1, First: 1, Last: 1},
		{Destination: "a", Reason: memory.ReasonOverflow, Items: 10, Records: 1, First: 2, Last: 2},
		{Destination: "a", Reason: "operator", Items: 10, Records: 1, First: 3, Last: 3},
		{Destination: "a", Reason: memory.ReasonShutdown, Items: 20, Records: 2, First: 4, Last: 5},
		{Destination: "b", Reason: memory.ReasonShutdown, Items: 20, Records: 2, First: 3, Last: 5},
	}
	checkDrops(t, x.drops, want)
	checkDrops(t, x.dead, []memory.Drop{{Destination: "b", Reason: "bad", Items: 20, Records: 2, First: 2, Last: 4}})
	for _, info := range x.q.List() {
		c := info.Counts
		if c.Accepted != 50 || c.Queued != 0 || c.Parked != 0 || c.Delivered+c.Rejected+sum(c.Dropped) != 50 {
			t.Errorf("%q: %+v", info.Name, c)
		}
	}
}

func checkDrops(t *testing.T, got, want []memory.Drop) {
	t.Helper()
	for i := range got {
		if got[i].At.IsZero() {
			t.Errorf("no time: %+v", got[i])
		}
		got[i].At = time.Time{}
	}
	if !slices.Equal(got, want) {
		t.Errorf("told of\n%+v, want\n%+v", got, want)
	}
}

func sum(dropped map[string]uint64) (n uint64) {
	for _, items := range dropped {
		n += items
	}
	return n
}

func TestARecordOwedToNobodyIsFreed(t *testing.T) {
	q := memory.New(memory.Settings{})
	freed := 0
	r := queue.Record{Items: 1, Free: func() { freed++ }}
	if err := q.Append(context.Background(), r); err != nil || freed != 1 {
		t.Errorf("%v, freed %d times", err, freed)
	}
	if err := q.Append(context.Background(), queue.Record{}); err != nil {
		t.Error(err)
	}
	c := q.Attach("a")
	add(t, q, 1, 1)
	if got := take(t, c, all); len(got) != 1 {
		t.Errorf("%d records", len(got))
	}
}

func TestARecordLargerThanTheLimitPassesAnEmptyQueue(t *testing.T) {
	q := memory.New(memory.Settings{})
	c := attach(t, q, "a", queue.Limit{Sizer: queue.Items, Max: 10})
	add(t, q, 1, 9)
	add(t, q, 1, 1000)
	var full *queue.FullError
	if err := q.Append(context.Background(), queue.Record{Items: 1}); !errors.As(err, &full) || full.Used != 1009 {
		t.Errorf("%v", err)
	}
	if f := c.Fill(); f.Size != 1009 || f.Capacity != 10 {
		t.Errorf("%+v", f)
	}
}

// A size in items shrinks by whole records, so a large newcomer may push out several, and never more than it needs.
func TestOverflowMakesNoMoreRoomThanItNeeds(t *testing.T) {
	x := newTold()
	a := attach(t, x.q, "a", queue.Limit{Sizer: queue.Items, Max: 10})
	attach(t, x.q, "b", queue.Limit{})
	add(t, x.q, 5, 2)
	add(t, x.q, 1, 3)
	if f := a.Fill(); f.Items != 9 {
		t.Errorf("%+v", f)
	}
	checkDrops(t, x.drops, []memory.Drop{{Destination: "a", Reason: "overflow", Items: 4, Records: 2, First: 1, Last: 2}})
}

func TestBlockedAppendsGetInInTheOrderTheyCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := memory.New(memory.Settings{})
		c := attach(t, q, "a", queue.Limit{Max: 1, Block: true})
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				if err := q.Append(context.Background(), queue.Record{Items: uint32(i)}); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		for i := range 20 {
			got := take(t, c, all)
			if len(got) != 1 || got[0].Items != uint32(i) {
				t.Errorf("took %d items, want %d", got[0].Items, i)
			}
			c.Resolve(queue.Outcome{Kind: queue.Ack}, got[0].Seq)
		}
		wg.Wait()
	})
}

func TestAnHeirGetsNothingOnceTheDestinationIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := memory.New(memory.Settings{})
		a := q.Attach("a")
		add(t, q, 3, 1)
		q.Detach("a")
		h, err := q.Inherit("a", "b")
		if err != nil {
			t.Fatal(err)
		}
		got := take(t, h, queue.Want{})
		q.Attach("a")
		wait(t, h, all)
		h.Resolve(queue.Outcome{Kind: queue.Ack}, got[0].Seq) // what it holds is still its own
		q.Detach("a")
		if _, err := q.Inherit("a", "c"); err != nil {
			t.Fatal(err)
		}
		wait(t, h, all)
		wait(t, a, all)
		if c, _ := q.Counts("a"); c.Delivered != 1 || c.Parked != 2 {
			t.Errorf("%+v", c)
		}
	})
}

func TestInheritAndPrepareSayWhyNot(t *testing.T) {
	q := memory.New(memory.Settings{})
	q.Attach("a")
	q.Attach("p")
	add(t, q, 1, 1)
	q.Detach("p")
	for _, names := range [][2]string{{"a", "b"}, {"b", "a"}, {"p", "p"}} {
		if _, err := q.Inherit(names[0], names[1]); err == nil || !strings.Contains(err.Error(), names[0]) {
			t.Errorf("inherit %q: %v", names[0], err)
		}
	}
	if err := q.Prepare(queue.Destination{}); err == nil {
		t.Error("a destination without a name was prepared")
	}
	q.Close(context.Background())
	if err := q.Prepare(queue.Destination{Name: "c"}); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("prepare after close: %v", err)
	}
	if _, err := q.Inherit("p", "c"); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("inherit after close: %v", err)
	}
	if _, err := q.Attach("c").Take(context.Background(), all); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("take after close: %v", err)
	}
	if _, ok := q.Counts("nobody"); ok {
		t.Error("the books of an unknown destination")
	}
}

func TestAClockSetBackDelaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back time.Duration
		q := memory.New(memory.Settings{Now: func() time.Time { return time.Now().Round(0).Add(-back) }})
		c := q.Attach("a")
		add(t, q, 1, 1)
		back = 24 * time.Hour
		if f := c.Fill(); f.Oldest != 0 {
			t.Errorf("negative age: %+v", f)
		}
		add(t, q, 1, 1)
		if got := take(t, c, queue.Want{}); len(got) != 1 {
			t.Errorf("%d records", len(got))
		}
	})
}
