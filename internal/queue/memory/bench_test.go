// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package memory_test

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/queue/memory"
)

func joinAll(_, _ *queue.Record) bool { return true }

func sameKind(first, next *queue.Record) bool { return bytes.Equal(first.Meta, next.Meta) }

// BenchmarkAppendTakeResolve is one record through the queue per iteration: appended, taken, resolved by every
// destination. At most backlog records are on the way at once, so none is dropped.
func BenchmarkAppendTakeResolve(b *testing.B) {
	single := queue.Want{}
	batches := queue.Want{Sizer: queue.Items, Min: 8192, Max: 8192, Linger: 5 * time.Millisecond, Joins: joinAll}
	for _, s := range []struct {
		producers, consumers, destinations int
		want                               queue.Want
		name                               string
	}{
		{1, 1, 1, single, "single"}, {8, 10, 1, single, "single"}, {8, 10, 3, single, "single"},
		{1, 1, 1, batches, "batches"}, {8, 10, 1, batches, "batches"}, {8, 10, 3, batches, "batches"},
	} {
		b.Run(fmt.Sprintf("%s/producers=%d/consumers=%d/destinations=%d", s.name, s.producers, s.consumers, s.destinations),
			func(b *testing.B) { benchmark(b, s.producers, s.consumers, s.destinations, s.want) })
	}
}

func benchmark(b *testing.B, producers, consumers, destinations int, want queue.Want) {
	b.ReportAllocs()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var taking, appending sync.WaitGroup
	var open, freed atomic.Int64
	open.Store(int64(b.N * destinations))
	done := func(n int) {
		if open.Add(-int64(n)) == 0 {
			cancel()
		}
	}
	q := memory.New(memory.Settings{OnDrop: func(d memory.Drop) { b.Errorf("dropped %+v", d) }})
	const backlog = 4096
	room := make(chan struct{}, backlog)
	free := func() {
		freed.Add(1)
		<-room
	}
	for d := range destinations {
		name := fmt.Sprint("otlp/", d)
		err := q.Prepare(queue.Destination{Name: name, Limit: queue.Limit{Max: 2 * backlog}})
		if err != nil {
			b.Fatal(err)
		}
		for range consumers {
			cur := q.Attach(name)
			taking.Go(func() {
				var seqs []queue.Seq
				for {
					got, err := cur.Take(ctx, want)
					if err != nil {
						return
					}
					seqs = seqs[:0]
					for i := range got {
						seqs = append(seqs, got[i].Seq)
					}
					cur.Resolve(queue.Outcome{Kind: queue.Ack}, seqs...)
					done(len(seqs))
				}
			})
		}
	}
	body := make([]byte, 1024)
	b.ResetTimer()
	for p := range producers {
		appending.Go(func() {
			for i := p; i < b.N; i += producers {
				room <- struct{}{}
				if err := q.Append(context.Background(), queue.Record{Items: 10, Size: 1024, Body: body, Free: free}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	appending.Wait()
	taking.Wait()
	b.StopTimer()
	if err := q.Close(context.Background()); err != nil || freed.Load() != int64(b.N) {
		b.Errorf("freed %d of %d, %v", freed.Load(), b.N, err)
	}
}

func addKinds(t testing.TB, q *memory.Queue, n, kinds int) {
	t.Helper()
	for i := range n {
		r := queue.Record{Items: 10, Size: 100, Meta: strconv.AppendInt(nil, int64(i%kinds), 10)}
		if err := q.Append(context.Background(), r); err != nil {
			t.Fatal(err)
		}
	}
}

// BenchmarkTakeFromBacklog takes batches out of a backlog of 100,000 records, interleaved from many senders.
func BenchmarkTakeFromBacklog(b *testing.B) {
	for _, kinds := range []int{1, 20, 64} {
		b.Run(fmt.Sprint("kinds=", kinds), func(b *testing.B) {
			b.ReportAllocs()
			q := memory.New(memory.Settings{})
			c := q.Attach("a")
			addKinds(b, q, 100_000, kinds)
			w := queue.Want{Sizer: queue.Items, Max: 8192, Joins: sameKind}
			records := 0
			for b.Loop() {
				got, err := c.Take(context.Background(), w)
				if err != nil {
					b.Fatal(err)
				}
				records += len(got)
				numbers := seqs(got)
				b.StopTimer() // as many come as go
				c.Resolve(queue.Outcome{Kind: queue.Ack}, numbers...)
				addKinds(b, q, len(got), kinds)
				b.StartTimer()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(records), "ns/record")
		})
	}
}
