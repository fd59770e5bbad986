// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// scarce takes so many items a second, and burst at once when it has rested; for what is more it asks for a second.
type scarce struct {
	mu          sync.Mutex
	rate, burst float64
	level       float64
	filled      time.Time
	offered     []offer
	overload    time.Time // the first
	last        time.Time // delivery
}

type offer struct {
	at    time.Time
	items float64
}

func (s *scarce) answer(items uint32) exporter.Verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.level = min(s.burst, s.level+s.rate*now.Sub(s.filled).Seconds())
	s.filled = now
	s.offered = append(s.offered, offer{now, float64(items)})
	if s.level < float64(items) {
		if s.overload.IsZero() {
			s.overload = now
		}
		return exporter.Verdict{Kind: exporter.RetryAfter, After: time.Second}
	}
	s.level -= float64(items)
	s.last = now
	return exporter.Deliver()
}

// mostIn is the most that was offered in any ten seconds after the first overload.
func (s *scarce) mostIn() (most float64) {
	sum, first := 0.0, 0
	for _, o := range s.offered {
		if !o.at.After(s.overload) {
			first++
			continue
		}
		for sum += o.items; o.at.Sub(s.offered[first].at) >= 10*time.Second; first++ {
			sum -= s.offered[first].items
		}
		most = max(most, sum)
	}
	return most
}

// A backlog of 200 MiB meets a backend that takes a tenth of what ten consumers can send: it is drained in about the time
// that takes, the backend is offered hardly more than it can take, and what comes in meanwhile is delivered beside it,
// within seconds.
func TestBacklogDoesNotKnockTheBackendDownAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const records, items, size = 4000, 100, 200 << 20 / 4000
		c := over(t, func(_ *failover.Config, p *plan.Pipeline) {
			d := &p.Destinations[0]
			d.Levels[0].Workers, d.Workers = 10, 10
			d.Want = queue.Want{Sizer: queue.Items, Max: 200, MaxBytes: 4 << 20}
		}, "primary")
		var mu sync.Mutex
		var delays []time.Duration
		came := map[string]time.Time{} // what came while the backlog was drained
		s := &scarce{rate: 3000, burst: 3000, filled: time.Now()}
		s.level = s.burst
		e := c.ends["primary"]
		e.wait = 30 * time.Millisecond
		e.answer = func(_ int, r *exporter.Request) exporter.Verdict {
			if v := e.verdict(); v.Kind != exporter.Delivered {
				return v
			}
			v := s.answer(r.Items)
			if v.Kind == exporter.Delivered {
				mu.Lock()
				for _, part := range r.Parts {
					if at, ok := came[string(part)]; ok {
						delays = append(delays, time.Since(at))
					}
				}
				mu.Unlock()
			}
			return v
		}
		e.set(exporter.Retry)
		put := func(n int) {
			p := &otlp.Payload{Signal: otlp.Traces, Items: items, Size: size, Body: fmt.Append(nil, "record ", n),
				Free: func() { c.freed.Add(1) }}
			if _, err := c.Entry().Accept(context.Background(), p); err != nil {
				t.Fatal(err)
			}
		}
		for n := range records {
			put(n)
		}
		time.Sleep(time.Minute)
		e.set(0)
		start, sent := time.Now(), records
		for time.Since(start) < time.Hour {
			if time.Sleep(time.Second); c.books("failover").Queued == 0 {
				break
			}
			for range 3 { // a tenth of what it can take is fresh
				if time.Since(start) > 15*time.Second { // it is found out to be back
					mu.Lock()
					came[fmt.Sprint("record ", sent)] = time.Now()
					mu.Unlock()
				}
				put(sent)
				sent++
			}
		}
		synctest.Wait()
		took := s.last.Sub(start).Seconds()
		ideal := float64(sent*items) / s.rate
		t.Logf("%d records in %.0f s, %.0f would do; at most %.3f of what it can take in ten seconds", sent, took, ideal,
			s.mostIn()/(10*s.rate))
		if took > 1.3*ideal+10 { // it is found out to be back within ten seconds
			t.Errorf("drained in %.0f s, %.0f would do", took, ideal)
		}
		if s.overload.IsZero() {
			t.Fatal("never overloaded: this proves nothing")
		}
		if most := s.mostIn(); most > 1.1*(10*s.rate) {
			t.Errorf("offered %.0f in ten seconds, it takes %.0f", most, 10*s.rate)
		}
		slices.Sort(delays)
		if n := len(delays); n < 200 {
			t.Errorf("%d fresh records were delivered: this proves nothing", n)
		} else if most := delays[n*99/100]; most > 3*time.Second {
			t.Errorf("99 %% of %d fresh records were delivered within %s", n, most)
		}
		if got := e.delivered(); got != sent {
			t.Errorf("%d of %d records arrived", got, sent)
		}
		c.stop(time.Second)
		if b := c.books("failover"); b.Delivered != uint64(sent*items) {
			t.Errorf("books: %+v", b)
		}
	})
}
