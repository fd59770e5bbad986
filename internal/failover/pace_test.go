// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package failover_test

import (
	"container/heap"
	"fmt"
	"math"
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
	exact       bool          // and says when there will be room, to the millisecond; else it says one second

	offered []flow  // what it was offered, in the order of time
	refused int     // how often it refused
	lost    float64 // seconds of silence that it asked for and could not save up
}

type flow struct {
	at    time.Time
	items float64
	level float64 // of the bucket, before
}

func (k *bucket) offer(now time.Time, items uint32) (taken bool) {
	k.level = min(k.burst, k.level+k.rate*now.Sub(k.filled).Seconds())
	k.filled = now
	k.offered = append(k.offered, flow{now, float64(items), k.level})
	if k.level < float64(items) {
		k.refused++
		return false
	}
	k.level -= float64(items)
	return true
}

// wait is how long it is until so many items will be taken.
func (k *bucket) wait(items uint32) time.Duration {
	if !k.exact {
		return time.Second
	}
	return max(time.Duration((float64(items)-k.level)/k.rate*float64(time.Second)), 0) + time.Millisecond
}

// margin is the most that was offered in ten seconds after a moment, against what a bucket of this rate takes in ten
// seconds, and against what this one could have taken in those: what it had saved, too.
func (k *bucket) margin(after time.Time) (ofRate, ofAll float64) {
	sum, first := 0.0, 0
	for _, f := range k.offered {
		if !f.at.After(after) {
			first++
			continue
		}
		for sum += f.items; f.at.Sub(k.offered[first].at) >= 10*time.Second; first++ {
			sum -= k.offered[first].items
		}
		ofRate = max(ofRate, sum/(10*k.rate))
		ofAll = max(ofAll, sum/(10*k.rate+k.offered[first].level))
	}
	return ofRate, ofAll
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
			p.silence(p.k.wait(p.batch))
		default:
			answer = failover.AnswerFailed
			p.silence(time.Second) // the backoff of whatever has failed
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

// silence is what the endpoint asked for, or what a failure costs.
func (p *tap) silence(d time.Duration) {
	until := p.now.Add(d)
	if !until.After(p.quiet) {
		return
	}
	if p.now.After(p.quiet) {
		p.k.lost += max(d.Seconds()-p.k.burst/p.k.rate, 0)
	}
	p.quiet = until
	p.after(d, p.pump)
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

// recovery is one drain: a backlog worth so many seconds of what the endpoint takes, beside live data of a fifth of it.
type recovery struct {
	rate    float64
	batch   uint32
	latency time.Duration
	burst   float64 // seconds of rate
	seconds float64
	asks    bool
	exact   bool
}

func (c recovery) String() string {
	how := "fails"
	if c.asks {
		how = "asks for a second"
	}
	if c.exact {
		how = "asks for as long as it takes"
	}
	return fmt.Sprintf("%.0f/s, batches of %d, %v, %.2f s saved, %.0f s of backlog, %s", c.rate, c.batch, c.latency, c.burst,
		c.seconds, how)
}

// Draining a backlog does not knock the endpoint down again: after the first overload it is offered no more in any ten
// seconds than a tenth above what it takes in ten seconds, and the drain takes no more than 1.3 times as long as it had
// to, the silence included that it asked for and could not save up for. Of what is refused a batch is the least; where one is more than a hundredth of ten seconds' worth, two are let
// pass.
func TestBacklogIsDrainedAtThePaceTheEndpointTakesIt(t *testing.T) {
	var worst struct{ margin, time float64 }
	n, played := 0, 0
	for _, rate := range []float64{1000, 10_000, 50_000, 200_000} {
		for _, batch := range []uint32{100, 1000, 8192} {
			for _, latency := range []time.Duration{time.Millisecond, 30 * time.Millisecond, 300 * time.Millisecond} {
				for _, burst := range []float64{0.25, 1, 3} {
					for _, seconds := range []float64{15, 60, 300} {
						for how := range 3 {
							c := recovery{rate, batch, latency, burst, seconds, how < 2, how == 1}
							if float64(batch) > min(rate/5, rate*burst) {
								continue // a batch every few seconds says too little
							}
							if n++; uint64(n)%sample(11, 1) != 0 || rate*seconds/float64(batch) > float64(sample(5000, 10_000_000)) {
								continue // takes its time
							}
							played++
							c.check(t, &worst.margin, &worst.time)
						}
					}
				}
			}
		}
	}
	t.Logf("%d drains; the worst: %.3f of what is taken in 10 s, %.2f of the ideal time", played, worst.margin, worst.time)
}

func (c recovery) check(t *testing.T, worstMargin, worstTime *float64) {
	const slots = 10
	k := &bucket{rate: c.rate, burst: c.rate * c.burst, latency: c.latency, asks: c.asks, exact: c.exact}
	able := min(c.rate, float64(slots*c.batch)/c.latency.Seconds()/1.25)
	live := able / 5
	p := newTap(k, slots, c.batch, math.Ceil(able*c.seconds/float64(c.batch))*float64(c.batch))
	p.fresh(live)
	p.run(time.Hour)
	took, ideal := p.now.Sub(storyStart).Seconds(), able*c.seconds/(able-live)+k.lost
	if took > 1.3*ideal {
		t.Errorf("%v: drained in %.1f s, %.1f would do", c, took, ideal)
	}
	*worstTime = max(*worstTime, took/ideal)
	if p.first.IsZero() {
		return
	}
	most := 1.1
	if share := float64(c.batch) / (10 * c.rate); share > 0.01 {
		most += 2 * share
	}
	ofRate, ofAll := k.margin(p.first)
	if c.burst <= 1 && ofRate > most || ofAll > most {
		t.Errorf("%v: offered %.3f of what it takes in ten seconds, %.3f with what it had saved; refused %d of %d", c, ofRate,
			ofAll, k.refused, len(k.offered))
	}
	*worstMargin = max(*worstMargin, ofAll)
}

// A pace that was set too low is found out in seconds, not hours.
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
	p.run(10 * time.Second)
	if p.w.Pace() < 80_000 {
		t.Errorf("ten seconds later the pace is %.0f", p.w.Pace())
	}
}

// What an endpoint takes may change while a backlog is drained into it: less is heeded at once, more is found in minutes.
func TestThePaceFollowsWhatTheEndpointTakes(t *testing.T) {
	k := &bucket{rate: 20_000, burst: 10_000, latency: 20 * time.Millisecond, asks: true}
	p := newTap(k, 10, 200, 1e9)
	p.run(time.Minute)
	k.rate = 5000
	p.run(5 * time.Second)
	refused := k.refused
	p.run(time.Minute)
	if rate := p.w.Pace(); rate < 4000 || rate > 6000 {
		t.Errorf("it takes 5000 a second, the pace is %.0f", rate)
	}
	if k.refused-refused > 40 {
		t.Errorf("%d refusals in a minute", k.refused-refused)
	}
	k.rate = 20_000
	p.run(3 * time.Minute)
	if rate := p.w.Pace(); rate < 16_000 {
		t.Errorf("it takes 20000 a second again, three minutes later the pace is %.0f", rate)
	}
}
