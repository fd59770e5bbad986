// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// atOnce stops with a generous limit and checks that none of it was needed.
func atOnce(t *testing.T, stop func(time.Duration)) {
	t.Helper()
	began := time.Now()
	stop(time.Hour)
	if took := time.Since(began); took > time.Second {
		t.Errorf("the stop took %s with nothing left to do", took)
	}
}

func TestAStopWithNothingInMemoryEndsAtOnce(t *testing.T) {
	inherits := func(t *testing.T, dead bool) (*house, queue.Cursor) {
		b := &backend{answer: func(int, *exporter.Request) exporter.Verdict {
			if dead {
				return retryVerdict()
			}
			return exporter.Deliver()
		}}
		h := prepare(t, plan.Pipeline{Destinations: []plan.Destination{dest("otlp")}}, map[string]*backend{"otlp": b})
		_, backlog := parked(t, "traces:otlp", 10)
		if err := h.Inherit("otlp", backlog, true); err != nil {
			t.Fatal(err)
		}
		h.Start()
		return h, backlog
	}
	t.Run("a queue", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := build(t, []plan.Destination{dest("otlp")}, map[string]*backend{"otlp": {}})
			h.put("one", 1)
			time.Sleep(time.Minute)
			atOnce(t, h.stop)
		})
	})
	t.Run("a backlog that was delivered", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, backlog := inherits(t, false)
			time.Sleep(time.Minute)
			if left := backlog.Fill().Records; left != 0 {
				t.Errorf("%d records are left", left)
			}
			atOnce(t, h.stop)
		})
	})
	t.Run("a backlog that nobody takes", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, backlog := inherits(t, true)
			time.Sleep(time.Minute)
			if left := backlog.Fill().Records; left != 10 {
				t.Errorf("%d records are left", left)
			}
			atOnce(t, h.stop)
		})
	})
	t.Run("a backlog in memory that is taken only now", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var up atomic.Bool
			b := &backend{answer: func(int, *exporter.Request) exporter.Verdict {
				if !up.Load() {
					return retryVerdict()
				}
				return exporter.Deliver()
			}}
			h := prepare(t, plan.Pipeline{Destinations: []plan.Destination{dest("otlp")}}, map[string]*backend{"otlp": b})
			q, backlog := parked(t, "traces:otlp", 10)
			if err := h.Inherit("otlp", backlog, false); err != nil {
				t.Fatal(err)
			}
			h.Start()
			h.put("one", 1)
			time.Sleep(time.Minute)
			up.Store(true)
			h.stop(time.Hour)
			if c, _ := q.Counts("gone"); c.Delivered != 10 || c.Parked != 0 {
				t.Errorf("the stop left what was inherited in memory: %+v", c)
			}
		})
	})
	t.Run("an emergency file that owes nothing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, _ := withFile(t, nil)
			c.send(1)
			time.Sleep(time.Minute)
			atOnce(t, c.stop)
		})
	})
	t.Run("an emergency file while all is down", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, d := withFile(t, nil)
			c.ends["primary"].set(exporter.Retry)
			c.send(1)
			time.Sleep(10 * time.Second)
			c.send(20)
			if d.owes() != 21 {
				t.Errorf("%d debts", d.owes())
			}
			atOnce(t, c.stop)
		})
	})
	t.Run("an emergency file that is being repaid", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, d := withFile(t, nil)
			c.ends["primary"].set(exporter.Retry)
			c.send(1)
			time.Sleep(10 * time.Second)
			c.send(20)
			c.ends["primary"].wait = 300 * time.Millisecond
			c.ends["primary"].set(0)
			for c.said("Failover: backfill begins") == 0 {
				time.Sleep(time.Second)
				c.send(1)
			}
			time.Sleep(500 * time.Millisecond)
			if n := d.owes(); n == 0 || n == 21 {
				t.Fatalf("%d debts are left: this proves nothing", n)
			}
			atOnce(t, c.stop)
			if d.mu.Lock(); len(d.lent) > 0 {
				t.Errorf("%d debts are still lent", len(d.lent))
			}
			d.mu.Unlock()
		})
	})
}
