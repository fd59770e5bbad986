// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/queue/memory"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
)

// F13. Whoever gets a batch after another level got it gets the very same memory, in the same parts.
func TestNextLevelGetsTheSameBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := over(t, func(_ *failover.Config, p *plan.Pipeline) {
			p.Destinations[0].Want = queue.Want{Sizer: queue.Items, Min: 3, Linger: time.Second}
		}, "primary", "secondary", "file")
		var mu sync.Mutex
		seen := map[string][]string{}
		for id, e := range c.ends {
			e.answer = func(_ int, r *exporter.Request) exporter.Verdict {
				var parts []string
				for _, p := range r.Parts {
					parts = append(parts, fmt.Sprintf("%p %q", p, p))
				}
				mu.Lock()
				seen[id] = append(seen[id], fmt.Sprint(r.Items, r.Size, r.Encoding, parts))
				mu.Unlock()
				return e.verdict()
			}
		}
		c.ends["primary"].set(exporter.Retry)
		c.ends["secondary"].set(exporter.Retry)
		c.send(3)
		time.Sleep(time.Minute)
		c.has(map[string]int{"file": 3})
		first := seen["primary"][0]
		for id, all := range seen {
			for _, got := range all {
				if got != first {
					t.Errorf("%s got\n%s\nthe primary got\n%s", id, got, first)
				}
			}
		}
		c.stop(time.Second)
	})
}

// F4.
func TestPoisonMovesNoTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := over(t, nil, "primary", "secondary")
		for _, e := range c.ends {
			e.answer = func(_ int, r *exporter.Request) exporter.Verdict {
				if strings.HasSuffix(string(r.Parts[0]), "0") {
					return exporter.Verdict{Kind: exporter.Rejected, Err: errors.New("no such field")}
				}
				return exporter.Deliver()
			}
		}
		c.send(100)
		time.Sleep(time.Minute)
		c.has(map[string]int{"primary": 90, "secondary": 0})
		if n := c.ends["secondary"].asked(); n != 10 {
			t.Errorf("the secondary was asked %d times, want once for each of the 10 that the primary refused", n)
		}
		if b := c.books("failover"); b.Delivered != 90 || b.Rejected != 10 {
			t.Errorf("books %+v", b)
		}
		if c.said("Failover: active level changed") != 0 || c.said("Failover: level is down") != 0 {
			t.Error("poison moved the traffic")
		}
		c.stop(time.Second)
	})
}

// F15. Two destinations of one pipeline: whatever one of them suffers, the other has every record at the instant it was
// accepted.
func TestFanOutDoesNotNotice(t *testing.T) {
	for _, trouble := range []exporter.Kind{exporter.Retry, exporter.Ambiguous, exporter.Misconfigured, exporter.Rejected,
		exporter.RetryAfter} {
		t.Run(trouble.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ill := &backend{wait: time.Second, answer: func(int, *exporter.Request) exporter.Verdict {
					return exporter.Verdict{Kind: trouble, Err: errors.New("trouble")}
				}}
				well := &backend{}
				h := build(t, []plan.Destination{dest("ill"), dest("well")}, map[string]*backend{"ill": ill, "well": well})
				for i := range 100 {
					h.put(fmt.Sprint("record ", i), 1)
					synctest.Wait()
					if got := well.delivered(); got != i+1 {
						t.Fatalf("after %d records the other destination has %d", i+1, got)
					}
					time.Sleep(100 * time.Millisecond)
				}
				if b := h.books("well"); b.Delivered != 100 {
					t.Errorf("books of the other: %+v", b)
				}
				h.books("ill")
				h.stop(time.Second)
			})
		})
	}
}

// F1, F5, F10, F11 of a plain exporter: it is held and probed like a level, and nothing of it is deleted.
func TestAPlainExporterIsHeldAndFoundAgain(t *testing.T) {
	for _, trouble := range []exporter.Kind{exporter.Retry, exporter.Ambiguous, exporter.Misconfigured} {
		t.Run(trouble.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := &endpoint{}
				e.answer = func(int, *exporter.Request) exporter.Verdict { return e.verdict() }
				h := build(t, []plan.Destination{dest("otlp")}, map[string]*backend{"otlp": &e.backend})
				h.put("before", 1)
				synctest.Wait()
				e.set(trouble)
				for i := range 50 {
					h.put(fmt.Sprint("record ", i), 1)
				}
				time.Sleep(time.Hour)
				if n := e.asked(); n < 500 || n > 1000 {
					t.Errorf("asked %d times in an hour, want one live batch every 5 s", n)
				}
				if b := h.books("otlp"); b.Queued != 50 {
					t.Errorf("an hour later: %+v", b)
				}
				for text, want := range map[string]int{
					"Failover: level is down, data is held": 1, "Failover: all levels down": 0, "Failover: active level changed": 0,
				} {
					if n := h.lines.FilterMessageSnippet(text).Len(); n != want {
						t.Errorf("%q is said %d times, want %d", text, n, want)
					}
				}
				e.set(0)
				time.Sleep(time.Minute)
				if b := h.books("otlp"); b.Delivered != 51 {
					t.Errorf("a minute after it came back: %+v", b)
				}
				if n := h.lines.FilterMessage("Failover: level is back").Len(); n != 1 {
					t.Errorf("said %d times that it is back", n)
				}
				h.stop(time.Second)
			})
		})
	}
}

// refusal offers one record and returns how it was refused; nil = it was taken.
func (c *connector) refusal() *receiver.Refusal {
	c.t.Helper()
	p := &otlp.Payload{Signal: otlp.Traces, Items: 3, Size: 5, Body: []byte("three")}
	_, err := c.Entry().Accept(context.Background(), p)
	var r *receiver.Refusal
	if err != nil && !errors.As(err, &r) {
		c.t.Fatal(err)
	}
	return r
}

func TestTheDoorRefusesWhileAllIsDownIfThatIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for policy, refuses := range map[string]bool{"hold": false, "refuse": true} {
			for _, levels := range [][]string{{"primary", "secondary"}, {"primary", "file"}} {
				c := over(t, func(cfg *failover.Config, _ *plan.Pipeline) { cfg.AllDown.Policy = policy }, levels...)
				want := refuses && levels[1] != "file"
				c.send(1)
				c.ends["primary"].set(exporter.Retry)
				c.ends[levels[1]].set(exporter.Retry)
				if levels[1] == "file" {
					c.ends["file"].set(0)
				}
				c.send(1)
				time.Sleep(20 * time.Second)
				r := c.refusal()
				if (r != nil) != want {
					t.Fatalf("%s over %v: %v", policy, levels, r)
				}
				if want && (r.Code != receiver.Unavailable || r.After < time.Second || r.After > 6*time.Second) {
					t.Errorf("%+v, want a retryable answer with the time to the next probe", r)
				}
				if ok, _ := c.Accepting(); ok == want {
					t.Errorf("policy %s over %v: accepting %t", policy, levels, ok)
				}
				c.ends["primary"].set(0)
				time.Sleep(time.Minute)
				if r := c.refusal(); r != nil {
					t.Errorf("all is well again, and the door says %v", r)
				}
				c.stop(time.Second)
			}
		}
	})
}

// What a full queue says while all is down is when that may end.
func TestAFullQueueNamesTheNextProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := over(t, nil, "primary", "secondary")
		for _, e := range c.ends {
			e.set(exporter.Retry)
		}
		c.send(1)
		time.Sleep(time.Minute)
		for i := 0; ; i++ {
			p := &otlp.Payload{Signal: otlp.Traces, Items: 1, Size: 1, Body: []byte("x")}
			if _, err := c.Entry().Accept(context.Background(), p); err == nil {
				continue
			} else if r := new(receiver.Refusal); errors.As(err, &r) && r.After >= time.Second && r.After < 6*time.Second {
				break
			} else {
				t.Fatalf("after %d records: %v", i, err)
			}
		}
		c.stop(time.Second)
	})
}

// A process that was stopped finds its attempts' deadlines passed: that says nothing of a backend, and holds nothing up.
func TestATimerOfOursThatIsLateIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		b.answer = func(n int, _ *exporter.Request) exporter.Verdict {
			if n > 1 && n < 4 {
				time.Sleep(10 * time.Second) // its timeout is 6 s
				return exporter.Verdict{Kind: exporter.Ambiguous, Err: fmt.Errorf("export: %w", context.DeadlineExceeded)}
			}
			return exporter.Deliver()
		}
		d := dest("otlp")
		d.Levels[0].Timeout, d.Levels[0].Retry.InitialInterval, d.Levels[0].Retry.MaxInterval = 6*time.Second, time.Hour, time.Hour
		h := build(t, []plan.Destination{d}, map[string]*backend{"otlp": b})
		for i := range 3 {
			h.put(fmt.Sprint("record ", i), 1)
			synctest.Wait()
		}
		time.Sleep(12 * time.Second)
		if got := h.books("otlp"); got.Delivered != 3 {
			t.Errorf("two seconds after the process ran again: %+v", got)
		}
		if n := h.lines.FilterMessageSnippet("Failover: level is down").Len(); n != 0 {
			t.Error("a late timer took a level down")
		}
		h.stop(time.Second)
	})
}

// What waits for a backend that gave no sign of life goes when it gives one, whatever its backoff.
func TestASignOfLifeEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := over(t, func(_ *failover.Config, p *plan.Pipeline) {
			p.Destinations[0].Levels[0].Retry.InitialInterval = time.Hour
			p.Destinations[0].Levels[0].Retry.MaxInterval = time.Hour
			p.Destinations[0].Levels[0].Retry.MaxElapsedTime = 0
		}, "primary")
		c.send(1)
		time.Sleep(5 * time.Second)
		c.ends["primary"].answer = func(n int, _ *exporter.Request) exporter.Verdict {
			if n <= 5 { // four attempts fail, and probes are answered well
				return exporter.Verdict{Kind: exporter.Retry, Err: errors.New("connection reset")}
			}
			return exporter.Deliver()
		}
		c.send(4)
		time.Sleep(35 * time.Second) // the window of a suspect
		c.has(map[string]int{"primary": 5})
		c.stop(time.Second)
	})
}

// slowBooks is a queue whose cursors take their time to resolve.
type slowBooks struct {
	*memory.Queue
	under atomic.Int64
}

func (q *slowBooks) Attach(name string) queue.Cursor { return &slowCursor{q.Queue.Attach(name), q} }

type slowCursor struct {
	queue.Cursor
	of *slowBooks
}

func (c *slowCursor) Resolve(o queue.Outcome, seqs ...queue.Seq) error {
	c.of.under.Add(1)
	defer c.of.under.Add(-1)
	<-time.After(time.Second) // virtual
	return c.Cursor.Resolve(o, seqs...)
}

// Whoever takes over a queue finds every lease returned and every delivery booked.
func TestNothingIsBeingResolvedAnyMoreWhenDeliveriesHaveEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q *slowBooks
		h := prepareWith(t, plan.Pipeline{Storage: "file_storage", Destinations: []plan.Destination{dest("otlp")}},
			map[string]*backend{"otlp": {}}, func(m *memory.Queue) queueOf { q = &slowBooks{Queue: m}; return q })
		h.Start()
		h.put("a", 1)
		h.put("b", 1)
		synctest.Wait()
		if q.under.Load() == 0 {
			t.Fatal("nothing is being resolved: this test shows nothing")
		}
		<-h.Halt(time.Minute)
		if n := q.under.Load(); n != 0 {
			t.Errorf("%d are still being resolved", n)
		}
		if b := h.books("otlp"); b.Delivered != 2 {
			t.Errorf("books %+v", b)
		}
		h.Stop(context.Background())
		h.leave()
	})
}
