// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package window_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// counting joins what has the same metadata and counts how often it was asked.
type counting struct{ calls int }

func (c *counting) joins(first, next *queue.Record) bool {
	c.calls++
	return bytes.Equal(first.Meta, next.Meta)
}

// addKinds pushes n records of ten items and 100 bytes, of so many kinds in turn, as appends do: each one served.
func (d *desk) addKinds(n, kinds int) {
	for i := range n {
		d.add(queue.Record{Items: 10, Size: 100, Meta: strconv.AppendInt(nil, int64(i%kinds), 10)})
	}
}

// What a Take does depends on the window, not on the backlog, and what one Take found out serves the next.
func TestALongBacklogIsSortedOutOnce(t *testing.T) {
	const records, window = 100_000, 1024
	d := newDesk()
	h := d.handle()
	d.addKinds(records, 1)
	var rule counting
	w := queue.Want{Sizer: queue.Items, Min: 500, Max: 500, Linger: time.Hour, Joins: rule.joins}
	got := d.take(t, h, w)
	if len(got) != 50 || rule.calls > window {
		t.Errorf("took %d, asked %d times", len(got), rule.calls)
	}
	for left := records - len(got); left > 0; {
		got := d.take(t, h, w)
		left -= len(got)
		d.ack(h, seqs(got)...)
	}
	// Joins is asked once for a record, and once more for one that closes a batch.
	if most := records * 51 / 50; rule.calls > most {
		t.Errorf("asked %d times for %d records", rule.calls, records)
	}
}

// Ten Takes that wait cost an append no more than one.
func TestThoseWhoWaitShareOnePlan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const records, waiting = 8200, 10
		d := newDesk()
		h := d.handle()
		var rule counting
		w := queue.Want{Sizer: queue.Items, Min: 8200, Linger: time.Hour, Joins: rule.joins}
		var wg sync.WaitGroup
		for range waiting {
			wg.Go(func() {
				if got := d.take(t, h, w); len(got) != 820 {
					t.Errorf("%d records", len(got))
				}
			})
		}
		synctest.Wait()
		d.addKinds(records, 1)
		wg.Wait()
		if rule.calls > records {
			t.Errorf("asked %d times for %d records", rule.calls, records)
		}
	})
}

// More kinds than batches may be open: nothing is forgotten, nothing travels with another kind or twice.
func TestMoreKindsThanOpenBatchesAllTravel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		rng := rand.New(rand.NewPCG(seed, 2))
		d := newDesk()
		h := d.handle()
		seen := make(map[queue.Seq]bool)
		for round := range 200 {
			d.addKinds(1+rng.IntN(200), 1+rng.IntN(200))
			w := queue.Want{Sizer: queue.Items, Min: int64(rng.IntN(50)), Max: 50, Linger: time.Second, Joins: (&counting{}).joins}
			for range rng.IntN(100) {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rng.IntN(10))*time.Millisecond+1)
				got, _, err := h.Take(ctx, w)
				cancel()
				if err != nil {
					break
				}
				checkBatch(t, got, seen, rng.IntN(10) == 0)
				if seen[got[0].Seq] {
					d.ack(h, seqs(got)...)
				} else {
					d.nack(h, time.Duration(rng.IntN(100))*time.Millisecond, seqs(got)...)
				}
			}
			if t.Failed() {
				t.Fatalf("round %d", round)
			}
		}
		for len(d.gone) < int(d.last) {
			got := d.take(t, h, queue.Want{Sizer: queue.Items, Min: 1 << 30, Linger: time.Second, Joins: (&counting{}).joins})
			checkBatch(t, got, seen, false)
			d.ack(h, seqs(got)...)
		}
		if len(seen) != len(d.gone) {
			t.Errorf("%d gone, %d seen", len(d.gone), len(seen))
		}
	})
}

// checkBatch checks that a batch is of one kind, ascending and new; unless it will go back, it is marked as seen.
func checkBatch(t *testing.T, got []queue.Delivered, seen map[queue.Seq]bool, back bool) {
	t.Helper()
	for i := range got {
		switch {
		case seen[got[i].Seq]:
			t.Errorf("number %d came twice", got[i].Seq)
		case i > 0 && got[i].Seq <= got[i-1].Seq:
			t.Errorf("number %d comes after %d", got[i].Seq, got[i-1].Seq)
		case !bytes.Equal(got[i].Meta, got[0].Meta):
			t.Errorf("number %d is of another kind than %d", got[i].Seq, got[0].Seq)
		}
		if !back {
			seen[got[i].Seq] = true
		}
	}
}
