// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package failover_test

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/failover"
)

// bucket is a backend that takes so many items a second, and burst at once when it has rested. What is too much for it
// it refuses: it asks for a second, or fails.
type bucket struct {
	rate, burst float64
	level       float64
	filled      time.Time
	latency     time.Duration // of a batch, by itself
	asks        bool          // refuses with retry-after

	taken   []flow // what it took and what it was offered, in the order of time
	offered []flow
}

type flow struct {
	at    time.Time
	items float64
}

func (k *bucket) offer(now time.Time, items uint32) (taken bool) {
	k.level = min(k.burst, k.level+k.rate*now.Sub(k.filled).Seconds())
	k.filled = now
	k.offered = append(k.offered, flow{now, float64(items)})
	if k.level < float64(items) {
		return false
	}
	k.level -= float64(items)
	k.taken = append(k.taken, flow{now, float64(items)})
	return true
}

// mostIn is the most that flows in any ten seconds after a time.
func mostIn(flows []flow, after time.Time) float64 {
	most, sum, first := 0.0, 0.0, 0
	for _, f := range flows {
		if f.at.Before(after) {
			first++
			continue
		}
		for sum += f.items; f.at.Sub(flows[first].at) >= 10*time.Second; first++ {
			sum -= flows[first].items
		}
		most = max(most, sum)
	}
	return most
}

// tap drives a window in front of a bucket as a loop would: backlog until it is drained, and fresh data at a rate.
type tap struct {
	w       failover.Window
	k       *bucket
	now     time.Time
	todo    agenda
	seq     int
	batch   uint32
	backlog [2]float64 // items to be sent, by lane
	sent    [2]float64 // items taken, by lane
	slots   int
	flying  int
	quiet   time.Time // nothing is sent before
	ask     time.Time // when to look again
	first   time.Time // overload
	rng     *rand.Rand
}

func (p *tap) after(d time.Duration, do func()) {
	p.seq++
	heap.Push(&p.todo, task{p.now.Add(d), p.seq, do})
}

func (p *tap) pump() {
	for again := true; again; {
		again = false
		for _, lane := range []failover.Lane{failover.Fresh, failover.Backlog} {
			if p.backlog[lane] < float64(p.batch) || p.flying >= p.slots || p.now.Before(p.quiet) {
				continue
			}
			ok, at := p.w.Allow(p.now, lane)
			if !ok {
				if !at.IsZero() && (p.ask.IsZero() || at.Before(p.ask) || !p.ask.After(p.now)) {
					p.ask = at
					p.after(max(at.Sub(p.now), 0), p.pump)
				}
				continue
			}
			p.send(lane)
			again = true
		}
	}
}

func (p *tap) send(lane failover.Lane) {
	p.backlog[lane] -= float64(p.batch)
	p.flying++
	p.w.Sent(p.now, lane, p.batch)
	taken := p.k.offer(p.now, p.batch)
	took := p.k.latency + time.Duration(p.rng.Int64N(int64(p.k.latency)/4+1))
	if !taken {
		took = time.Millisecond
	}
	p.after(took, func() {
		p.flying--
		answer := failover.AnswerDelivered
		switch {
		case taken:
			p.sent[lane] += float64(p.batch)
		case p.k.asks:
			answer = failover.AnswerAsked
			p.quiet = p.now.Add(time.Second)
			p.after(time.Second, p.pump)
		default:
			answer = failover.AnswerFailed
			p.quiet = p.now.Add(time.Second) // the backoff of whatever has failed; others have slots of their own
			p.after(time.Second, p.pump)
		}
		if !taken {
			p.backlog[lane] += float64(p.batch)
			if p.first.IsZero() {
				p.first = p.now
			}
		}
		p.w.Done(p.now, lane, answer, p.batch, took)
		p.pump()
	})
}

// fresh appends items of fresh data, ten times a second, for as long as there is backlog.
func (p *tap) fresh(rate float64) {
	p.backlog[failover.Fresh] += rate / 10
	p.pump()
	if p.backlog[failover.Backlog] > 0 {
		p.after(100*time.Millisecond, func() { p.fresh(rate) })
	}
}

func (p *tap) run(limit time.Duration) {
	end := p.now.Add(limit)
	p.pump()
	for len(p.todo) > 0 && p.backlog[failover.Backlog] > 0 && p.now.Before(end) {
		next := heap.Pop(&p.todo).(task)
		p.now = next.at
		next.do()
	}
}

func newTap(k *bucket, slots int, batch uint32, backlog float64) *tap {
	p := &tap{
		w: failover.NewWindow(slots, 1, 0.5), k: k, now: storyStart, batch: batch, slots: slots,
		rng: rand.New(rand.NewPCG(uint64(batch), 7)),
	}
	p.backlog[failover.Backlog] = backlog
	k.level, k.filled = k.burst, p.now
	p.w.Returned(p.now)
	return p
}

// Draining a backlog does not knock the endpoint down again: after the first overload it is offered no more than a tenth
// above what it can take, and it is not left idle either.
func TestBacklogIsDrainedAtThePaceTheEndpointTakesIt(t *testing.T) {
	items := float64(sample(2_000_000, 10_000_000))
	for _, asks := range []bool{true, false} {
		for _, burst := range []float64{0.3, 1, 2} {
			for _, latency := range []time.Duration{5 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond} {
				for _, batch := range []uint32{100, 1000} {
					name := fmt.Sprintf("asks=%v burst=%v latency=%v batch=%d", asks, burst, latency, batch)
					if !asks && latency == 5*time.Millisecond && sample(0, 1) == 0 {
						continue
					}
					k := &bucket{rate: 10_000, burst: 10_000 * burst, latency: latency, asks: asks}
					p := newTap(k, 10, batch, items)
					p.run(time.Hour)
					ideal := min(k.rate, float64(10*batch)/latency.Seconds()/1.1)
					took, want := p.now.Sub(storyStart).Seconds(), items/ideal
					most, can := mostIn(k.offered, p.first), 10*k.rate
					switch {
					case took > 1.3*want:
						t.Errorf("%s: drained in %.0f s, %.0f would do", name, took, want)
					case ideal == k.rate && p.first.IsZero():
						t.Errorf("%s: never overloaded: this proves nothing", name)
					case !p.first.IsZero() && most > 1.1*(can+k.burst):
						t.Errorf("%s: offered %.0f in ten seconds, it can take %.0f", name, most, can)
					}
					t.Logf("%s: %.0f s of %.0f, most in 10 s %.2f of what it can, refused %.1f %%", name, took, want, most/can,
						100*float64(len(k.offered)-len(k.taken))/float64(len(k.offered)))
				}
			}
		}
	}
}

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

// A pace that was set too low is found out in minutes, not hours.
func TestPaceThatIsTooLowGrowsFaster(t *testing.T) {
	k := &bucket{rate: 100_000, burst: 100_000, latency: 10 * time.Millisecond}
	p := newTap(k, 10, 100, 20_000_000)
	p.after(500*time.Millisecond, func() { // one refusal, while the window is still narrow
		p.w.Sent(p.now, failover.Backlog, 100)
		p.w.Done(p.now, failover.Backlog, failover.AnswerFailed, 100, time.Millisecond)
	})
	p.run(time.Second)
	if p.w.Pace() == 0 || p.w.Pace() > 50_000 {
		t.Fatalf("a pace of %.0f: this proves nothing", p.w.Pace())
	}
	low := p.w.Pace()
	p.run(2 * time.Minute)
	if p.backlog[failover.Backlog] > 0 && p.w.Pace() < 4*low {
		t.Errorf("after two minutes the pace is %.0f, it was %.0f", p.w.Pace(), low)
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
