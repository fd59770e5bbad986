// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package failover_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/failover"
)

// Beside a backlog, fresh data has its share of what the endpoint takes, and what it leaves is lent.
func TestFreshDataKeepsItsShare(t *testing.T) {
	for _, rate := range []float64{1000, 4000, 20_000} {
		k := &bucket{rate: 10_000, burst: 5000, latency: 50 * time.Millisecond, asks: true}
		p := newTap(k, 10, 200, 1e9)
		p.fresh(rate)
		p.run(30 * time.Second) // until there is a pace
		before, waits := p.sent, 0.0
		for range 120 {
			p.run(time.Second)
			waits = max(waits, p.backlog[failover.Fresh])
		}
		fresh, old := (p.sent[failover.Fresh]-before[0])/120, (p.sent[failover.Backlog]-before[1])/120
		if want := min(rate, 0.45*k.rate); fresh < 0.95*want {
			t.Errorf("%.0f fresh items a second: %.0f were taken", rate, fresh)
		}
		if rate < 4500 && waits > 5*rate {
			t.Errorf("%.0f fresh items a second: %.0f waited", rate, waits)
		}
		if fresh+old < 0.8*k.rate || old < 0.35*k.rate {
			t.Errorf("%.0f fresh items a second: %.0f and %.0f old ones were taken", rate, fresh, old)
		}
		if p.first.IsZero() {
			t.Error("never overloaded: this proves nothing")
		}
	}
}

// While a backlog is drained the lanes' turns come by their shares, and what one has not got is the other one's.
func TestTurnsComeByTheShare(t *testing.T) {
	for _, live := range []float64{0, 0.2, 0.5, 1} {
		w := failover.NewWindow(10, 1, live)
		now := storyStart
		if w.Lane(now) != failover.AnyLane {
			t.Error("a lane has a turn although nothing is drained")
		}
		send := func(lane failover.Lane) {
			w.Sent(now, lane, 100)
			w.Done(now, lane, failover.AnswerDelivered, 100, time.Millisecond)
			now = now.Add(time.Millisecond)
		}
		send(failover.Backlog)
		fresh := 0
		for range 1000 {
			lane := w.Lane(now)
			if lane == failover.Fresh {
				fresh++
			}
			send(lane)
		}
		if share := float64(fresh) / 1000; share < live-0.02 || share > live+0.02 {
			t.Errorf("a share of %.1f: %.2f of the turns are fresh data's", live, share)
		}
		for range 100 { // nothing is fresh: lent, and not owed
			send(failover.Backlog)
		}
		fresh = 0
		for range 100 {
			lane := w.Lane(now)
			if lane == failover.Fresh {
				fresh++
			}
			send(lane)
		}
		if share := float64(fresh) / 100; share > live+0.05 {
			t.Errorf("a share of %.1f: %.2f of the turns are fresh data's after a while without", live, share)
		}
		if now = now.Add(2 * time.Minute); w.Lane(now) != failover.AnyLane {
			t.Error("a lane has a turn long after the drain")
		}
	}
}

// A failure while there is no backlog says nothing of what the endpoint could take: there is no pace.
func TestOneFailureIsNoPace(t *testing.T) {
	w := failover.NewWindow(10, 1, 0.5)
	w.Returned(storyStart)
	now := storyStart
	for i := range 100 {
		now = now.Add(100 * time.Millisecond)
		if ok, _ := w.Allow(now, failover.Fresh); !ok {
			t.Fatalf("batch %d is not allowed", i)
		}
		w.Sent(now, failover.Fresh, 10)
		answer := failover.AnswerDelivered
		if i%20 == 10 {
			answer = failover.AnswerFailed
		}
		w.Done(now.Add(10*time.Millisecond), failover.Fresh, answer, 10, 10*time.Millisecond)
	}
	if w.Pace() > 0 || w.Limit() < 2 {
		t.Errorf("a window of %d, a pace of %.1f", w.Limit(), w.Pace())
	}
}

// However late a timer fires and however slow the pace, something is sent again.
func TestWindowAlwaysOpensAgain(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range sample(200, 5000) {
		w := failover.NewWindow(1+rng.IntN(10), 1+rng.IntN(3), rng.Float64())
		now, flying := storyStart, 0
		for range 300 {
			now = now.Add(time.Duration(rng.Int64N(int64(2 * time.Second))))
			lane := failover.Lane(rng.IntN(2))
			ok, at := w.Allow(now, lane)
			switch {
			case ok && flying < 10:
				w.Sent(now, lane, rng.Uint32N(10_000))
				flying++
				w.Done(now, lane, failover.Answer(rng.IntN(5)), rng.Uint32N(10_000), time.Duration(rng.Int64N(int64(time.Second))))
				flying--
			case !ok && at.IsZero():
				t.Fatal("closed although nothing is on its way")
			case !ok && at.Sub(now) > 11*time.Second:
				t.Fatalf("closed for %s", at.Sub(now))
			case !ok && !at.After(now):
				t.Fatal("closed until a moment that is past")
			}
			if w.Limit() < 1 {
				t.Fatal("no place at all")
			}
			switch rng.IntN(40) {
			case 0:
				w.Returned(now)
			case 1:
				now = now.Add(time.Minute)
			}
		}
	}
}

func BenchmarkWindow(b *testing.B) {
	b.ReportAllocs()
	w, now := failover.NewWindow(10, 1, 0.5), storyStart
	w.Returned(now)
	w.Stir(now)
	w.Done(now, failover.Backlog, failover.AnswerDelivered, 1<<30, time.Millisecond)
	w.Done(now, failover.Backlog, failover.AnswerFailed, 0, 0)
	for b.Loop() {
		now = now.Add(100 * time.Microsecond)
		w.Allow(now, failover.Backlog)
		w.Sent(now, failover.Backlog, 100)
		w.Done(now, failover.Backlog, failover.AnswerDelivered, 100, time.Millisecond)
	}
}
