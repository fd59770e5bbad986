// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/holdfast-telemetry/holdfast/internal/admission"
	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline/switchroom"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/queue/memory"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// endpoint is a backend with a state: what data and probes are told.
type endpoint struct {
	backend
	state atomic.Int32 // exporter.Kind of what is not delivered; 0 = all is
}

func (e *endpoint) set(k exporter.Kind) { e.state.Store(int32(k)) }

func (e *endpoint) verdict() exporter.Verdict {
	if k := exporter.Kind(e.state.Load()); k != 0 {
		return exporter.Verdict{Kind: k, Err: errors.New("connection refused")}
	}
	return exporter.Deliver()
}

// asked counts the attempts.
func (e *endpoint) asked() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.attempts)
}

// connector is a pipeline with one failover connector over endpoints, and the switch room above it.
type connector struct {
	house
	room *switchroom.Room
	ends map[string]*endpoint
	stop func(limit time.Duration)
	sent int
}

// over builds a connector; levels name their endpoints, joined by +. A last level called file is the emergency level.
func over(t *testing.T, change func(*failover.Config, *plan.Pipeline), levels ...string) *connector {
	t.Helper()
	return owing(t, nil, change, levels...)
}

// owing is over with debts of the emergency level.
func owing(
	t *testing.T, debts pipeline.Debts, change func(*failover.Config, *plan.Pipeline), levels ...string,
) *connector {
	t.Helper()
	c := &connector{ends: map[string]*endpoint{}}
	c.t, c.tel, c.drops = t, telemetry.Nop(), map[string]uint64{}
	core, lines := observer.New(zap.InfoLevel)
	c.tel.Logger, c.lines = zap.New(core), lines
	cfg := failover.Default().(*failover.Config)
	retry := exporter.DefaultRetry()
	retry.InitialInterval, retry.RandomizationFactor, retry.MaxElapsedTime = time.Second, 0, 30*time.Second
	d := plan.Destination{
		Destination: queue.Destination{Name: "failover", Limit: queue.Limit{Max: 100_000}}, Label: "failover",
		Route: &plan.Route{Connector: "failover", Config: cfg},
	}
	exporters := map[string]exporter.Exporter{}
	for _, names := range levels {
		l := plan.Level{Exporters: strings.Split(names, "+"), Workers: 4, Retry: retry, Timeout: 10 * time.Second,
			Emergency: names == "file"}
		d.Levels, d.Workers = append(d.Levels, l), d.Workers+l.Workers
		for _, id := range l.Exporters {
			e := &endpoint{}
			e.answer = func(int, *exporter.Request) exporter.Verdict { return e.verdict() }
			c.ends[id], exporters[id] = e, e
			d.Exporters = append(d.Exporters, id)
		}
	}
	pl := plan.Pipeline{ID: "traces", Signal: otlp.Traces, Destinations: []plan.Destination{d}}
	if change != nil {
		change(cfg, &pl)
	}
	c.queue = memory.New(memory.Settings{OnDrop: func(d memory.Drop) { c.drops[d.Reason] += d.Items }})
	if err := c.queue.Prepare(d.Destination); err != nil {
		t.Fatal(err)
	}
	c.room = switchroom.New(switchroom.Settings{
		Plan: pipeline.SwitchPlan(&plan.Plan{Pipelines: []plan.Pipeline{pl}}, func(string) (string, string) {
			return "", "empty"
		}, func() float64 { return 0.5 }),
		Telemetry: c.tel,
		Probe: func(_ context.Context, o *failover.ProbeOrder) exporter.Verdict {
			return c.ends[o.Exporter].verdict()
		},
	})
	p, err := pipeline.New(pipeline.Settings{
		Plan: pl, Telemetry: c.tel, Gate: admission.New(0), Queue: c.queue, Exporters: exporters, Switch: c.room,
		Jitter: func() float64 { return 0.5 }, Debts: func(*plan.Destination) pipeline.Debts { return debts },
	})
	if err != nil {
		t.Fatal(err)
	}
	c.Pipeline = p
	c.room.Start()
	c.Start()
	c.stop = func(limit time.Duration) {
		c.house.stop(limit)
		if err := c.room.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}
	return c
}

// send puts n records of one item and waits until nothing more happens at this moment.
func (c *connector) send(n int) {
	c.t.Helper()
	for range n {
		c.sent++
		c.put(fmt.Sprint("record ", c.sent), 1)
		synctest.Wait()
	}
}

// has checks how many records each endpoint has.
func (c *connector) has(want map[string]int) {
	c.t.Helper()
	for id, n := range want {
		if got := c.ends[id].delivered(); got != n {
			c.t.Errorf("%s has %d records, want %d", id, got, n)
		}
	}
}

func (c *connector) said(text string) int { return c.lines.FilterMessageSnippet(text).Len() }

func TestDataGoesToTheNextLevelAndHomeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := over(t, nil, "primary", "secondary")
		c.send(5)
		c.has(map[string]int{"primary": 5, "secondary": 0})
		start := time.Now()
		c.ends["primary"].set(exporter.Retry)
		c.send(20)
		c.has(map[string]int{"primary": 5, "secondary": 20})
		if took := time.Since(start); took != 0 {
			t.Errorf("the batches moved after %s, want at once", took)
		}
		time.Sleep(3 * time.Second)
		if n := c.said("Failover: level is down, data goes to the next level"); n != 1 {
			t.Errorf("%d lines say that the level is down", n)
		}
		c.ends["primary"].set(0)
		for range 60 {
			time.Sleep(time.Second)
			c.send(1)
		}
		if n := c.said("Failover: level is back"); n != 1 {
			t.Errorf("%d lines say that the level is back", n)
		}
		for range 40 { // the ramp
			time.Sleep(time.Second)
			c.send(1)
		}
		before := c.ends["primary"].delivered()
		c.send(10)
		if got := c.ends["primary"].delivered(); got != before+10 {
			t.Errorf("%d of 10 records went home", got-before)
		}
		c.stop(time.Second)
		if b := c.books("failover"); b.Delivered != b.Accepted || b.Accepted != 135 {
			t.Errorf("books: %+v", b)
		}
	})
}

func TestAllDownHoldsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := over(t, nil, "primary", "secondary")
		c.ends["primary"].set(exporter.Retry)
		c.ends["secondary"].set(exporter.Ambiguous)
		c.send(50)
		time.Sleep(time.Hour)
		c.has(map[string]int{"primary": 0, "secondary": 0})
		if b := c.books("failover"); b.Queued != 50 {
			t.Errorf("an hour later: %+v", b)
		}
		c.ends["secondary"].set(0)
		time.Sleep(11 * time.Second)
		if b := c.books("failover"); b.Delivered != 50 {
			t.Errorf("two probes after the secondary came back: %+v", b)
		}
		c.stop(time.Second)
	})
}

func TestEmergencyFileTakesDataOnlyWhenAllIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := over(t, nil, "primary", "file")
		c.send(5)
		c.ends["primary"].set(exporter.Retry)
		c.send(5)
		c.has(map[string]int{"file": 0})
		time.Sleep(10 * time.Second)
		c.send(5)
		c.has(map[string]int{"primary": 5, "file": 10})
		c.ends["file"].set(exporter.Retry)
		c.send(5)
		c.has(map[string]int{"primary": 5, "file": 10})
		c.ends["primary"].set(0)
		time.Sleep(time.Minute)
		c.has(map[string]int{"primary": 10, "file": 10})
		c.stop(time.Second)
	})
}

func TestPoisonIsSetAsideOnceAndItsNeighboursAreDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := over(t, func(_ *failover.Config, p *plan.Pipeline) {
			p.Destinations[0].Want = queue.Want{Sizer: queue.Items, Min: 8, Linger: time.Second}
		}, "primary", "secondary")
		for _, e := range c.ends {
			e.answer = func(_ int, r *exporter.Request) exporter.Verdict {
				for _, part := range r.Parts {
					if string(part) == "record 5" {
						return exporter.Verdict{Kind: exporter.Rejected, Err: errors.New("not UTF-8")}
					}
				}
				return exporter.Deliver()
			}
		}
		c.send(8)
		time.Sleep(time.Minute)
		c.has(map[string]int{"primary": 7, "secondary": 0})
		if b := c.books("failover"); b.Delivered != 7 || b.Rejected != 1 {
			t.Errorf("books: %+v", b)
		}
		if n := c.said("Failover: level is down"); n != 0 {
			t.Error("poison moved traffic")
		}
		c.stop(time.Second)
	})
}

func TestMemberThatDeliveredIsNotSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := over(t, nil, "a+b")
		c.ends["b"].set(exporter.Retry)
		c.send(1)
		time.Sleep(500 * time.Millisecond)
		c.ends["b"].set(0)
		time.Sleep(time.Minute)
		if a := c.ends["a"].asked(); a != 1 {
			t.Errorf("the member that delivered was sent the batch %d times", a)
		}
		c.has(map[string]int{"a": 1, "b": 1})
		c.stop(time.Second)
	})
}

func TestStopIsBoundedWhileAllIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := over(t, nil, "primary", "secondary")
		for _, e := range c.ends {
			e.set(exporter.Retry)
		}
		c.send(30)
		start := time.Now()
		c.stop(10 * time.Second)
		if took := time.Since(start); took > 16*time.Second {
			t.Errorf("the stop took %s", took)
		}
		sum := uint64(0)
		for _, n := range c.drops {
			sum += n
		}
		if sum != 30 {
			t.Errorf("%d of 30 items have a drop record", sum)
		}
	})
}

// TestItemsAreConserved plays outages over a connector, or over a route of one level as a plain exporter has it; in the end
// every record is somewhere, and the books say where.
func TestItemsAreConserved(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 7))
			ids := []string{"primary", "secondary", "file"}
			if seed%4 == 3 {
				ids = ids[:1]
			}
			c := over(t, func(_ *failover.Config, p *plan.Pipeline) {
				if d := &p.Destinations[0]; len(ids) == 1 {
					d.Route = nil
				}
			}, ids...)
			kinds := []exporter.Kind{0, 0, 0, exporter.Retry, exporter.Ambiguous, exporter.Misconfigured}
			for range 100 {
				for _, id := range ids {
					if rng.IntN(8) == 0 {
						c.ends[id].set(kinds[rng.IntN(len(kinds))])
					}
				}
				c.send(rng.IntN(10))
				c.books("failover")
				time.Sleep(time.Duration(rng.IntN(5000)) * time.Millisecond)
			}
			for _, e := range c.ends {
				e.set(0)
			}
			time.Sleep(20 * time.Minute)
			got := map[string]bool{}
			for _, e := range c.ends {
				e.mu.Lock()
				for body := range e.taken {
					got[body] = true
				}
				e.mu.Unlock()
			}
			if b := c.books("failover"); len(got) != c.sent || b.Delivered != uint64(c.sent) {
				t.Errorf("seed %d: %d of %d records arrived; books %+v", seed, len(got), c.sent, b)
			}
			c.stop(time.Second)
		})
	}
}
