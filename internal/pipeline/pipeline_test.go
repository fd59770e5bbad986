// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/holdfast-telemetry/holdfast/internal/admission"
	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline/switchroom"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/queue/memory"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// backend is an exporter whose answers a test scripts.
type backend struct {
	answer func(n int, r *exporter.Request) exporter.Verdict // n counts attempts from 1
	wait   time.Duration                                     // before it answers, unless the sender gives up

	mu       sync.Mutex
	attempts []attempt
	taken    map[string]int // record body → times delivered
}

type attempt struct {
	at    time.Time
	items uint32
}

func (b *backend) Start(context.Context, component.Host) error { return nil }
func (b *backend) Stop(context.Context) error                  { return nil }

func (b *backend) Send(ctx context.Context, r *exporter.Request) exporter.Verdict {
	b.mu.Lock()
	b.attempts = append(b.attempts, attempt{time.Now(), r.Items})
	n := len(b.attempts)
	b.mu.Unlock()
	if b.wait > 0 {
		select {
		case <-time.After(b.wait):
		case <-ctx.Done():
		}
	}
	v := exporter.Deliver()
	if b.answer != nil {
		v = b.answer(n, r)
	}
	if ctx.Err() != nil {
		return exporter.Verdict{Kind: exporter.Ambiguous, Err: ctx.Err()}
	}
	if v.Kind == exporter.Delivered {
		b.mu.Lock()
		if b.taken == nil {
			b.taken = map[string]int{}
		}
		for _, part := range r.Parts {
			b.taken[string(part)]++
		}
		b.mu.Unlock()
	}
	return v
}

func (b *backend) delivered() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.taken)
}

// house is a pipeline between a test and its backends.
type house struct {
	*pipeline.Pipeline
	t     *testing.T
	tel   *telemetry.Telemetry
	queue *memory.Queue
	freed atomic.Int64
	lines *observer.ObservedLogs
	drops map[string]uint64
	leave func() // stops the switch room
}

// under puts a switch room above the pipeline. Its exporters have no probes: they are asked by live batches.
func under(set *pipeline.Settings) (stop func()) {
	room := switchroom.New(switchroom.Settings{
		Plan: pipeline.SwitchPlan(&plan.Plan{Pipelines: []plan.Pipeline{set.Plan}}, func(string) (string, string) {
			return "", ""
		}, set.Jitter),
		Telemetry: set.Telemetry,
	})
	room.Start()
	set.Switch = room
	return func() { _ = room.Stop(context.Background()) }
}

func build(t *testing.T, dests []plan.Destination, backends map[string]*backend) *house {
	t.Helper()
	h := prepare(t, plan.Pipeline{Destinations: dests}, backends)
	h.Start()
	return h
}

// queueOf is a queue under test; it may say whether it has room.
type queueOf = pipeline.Queue

type roomy struct {
	queueOf
	room func() bool
}

// prepare builds a house and does not start it.
func prepare(t *testing.T, p plan.Pipeline, backends map[string]*backend) *house {
	t.Helper()
	return prepareWith(t, p, backends, func(q *memory.Queue) queueOf { return q })
}

// prepareWith is prepare with a wrap around the queue.
func prepareWith(t *testing.T, pl plan.Pipeline, backends map[string]*backend, wrap func(*memory.Queue) queueOf) *house {
	t.Helper()
	h := &house{t: t, tel: telemetry.Nop(), drops: map[string]uint64{}}
	core, lines := observer.New(zap.InfoLevel)
	h.tel.Logger, h.lines = zap.New(core), lines
	h.queue = memory.New(memory.Settings{OnDrop: func(d memory.Drop) { h.drops[d.Reason] += d.Items }})
	exporters := map[string]exporter.Exporter{}
	for id, b := range backends {
		exporters[id] = b
	}
	for i := range pl.Destinations {
		if err := h.queue.Prepare(pl.Destinations[i].Destination); err != nil {
			t.Fatal(err)
		}
	}
	pl.ID, pl.Signal = "traces", otlp.Traces
	set := pipeline.Settings{
		Plan: pl, Telemetry: h.tel, Gate: admission.New(0), Queue: wrap(h.queue), Exporters: exporters,
		Jitter: func() float64 { return 0.5 },
	}
	if r, ok := set.Queue.(roomy); ok {
		set.Room = r.room
	}
	h.leave = under(&set)
	p, err := pipeline.New(set)
	if err != nil {
		t.Fatal(err)
	}
	h.Pipeline = p
	return h
}

func dest(id string) plan.Destination {
	retry := exporter.DefaultRetry()
	retry.RandomizationFactor = 0
	return plan.Destination{
		Destination: queue.Destination{Name: id, Exporters: []string{id}, Limit: queue.Limit{Max: 1000}},
		Label:       id, Workers: 2, Levels: []plan.Level{{Exporters: []string{id}, Retry: retry}},
	}
}

func (h *house) put(body string, items uint32) {
	h.t.Helper()
	p := &otlp.Payload{
		Signal: otlp.Traces, Items: items, Size: uint32(len(body)), Body: []byte(body), Free: func() { h.freed.Add(1) },
	}
	if _, err := h.Entry().Accept(context.Background(), p); err != nil {
		h.t.Fatalf("accept %q: %v", body, err)
	}
}

func (h *house) stop(limit time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	h.Stop(ctx)
	if err := h.Close(ctx); err != nil {
		h.t.Fatal(err)
	}
	if h.leave != nil {
		h.leave()
	}
}

// books checks the promise's equation for a destination and returns its counts.
func (h *house) books(name string) queue.Counts {
	h.t.Helper()
	c, ok := h.queue.Counts(name)
	if !ok {
		h.t.Fatalf("no books of %q", name)
	}
	sum := c.Delivered + c.Queued + c.Parked + c.Rejected
	for _, n := range c.Dropped {
		sum += n
	}
	if c.Accepted != sum {
		h.t.Errorf("books of %s do not balance: %+v", name, c)
	}
	return c
}

func retryVerdict() exporter.Verdict {
	return exporter.Verdict{Kind: exporter.Retry, Err: errors.New("connection refused")}
}

func TestDeadDestinationDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dead := &backend{answer: func(int, *exporter.Request) exporter.Verdict { return retryVerdict() }}
		alive := &backend{}
		h := build(t, []plan.Destination{dest("dead"), dest("alive")}, map[string]*backend{"dead": dead, "alive": alive})
		start := time.Now()
		for i := range 100 {
			h.put(fmt.Sprint("record ", i), 1)
			synctest.Wait()
			if got := alive.delivered(); got != i+1 {
				t.Fatalf("after %d records the other destination has %d", i+1, got)
			}
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("the other destination waited %s", took)
		}
		if c := h.books("dead"); c.Queued != 100 {
			t.Errorf("dead destination is owed %d, want 100", c.Queued)
		}
		h.stop(time.Second)
		if h.freed.Load() != 100 {
			t.Errorf("%d of 100 records freed", h.freed.Load())
		}
	})
}

func TestRetryTimeRunningOutDeletesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		heal := atomic.Bool{}
		b := &backend{answer: func(int, *exporter.Request) exporter.Verdict {
			if heal.Load() {
				return exporter.Deliver()
			}
			return retryVerdict()
		}}
		d := dest("otlp")
		d.Levels[0].Retry.MaxElapsedTime = 10 * time.Second
		h := build(t, []plan.Destination{d}, map[string]*backend{"otlp": b})
		for i := range 10 {
			h.put(fmt.Sprint("record ", i), 5)
		}
		time.Sleep(24 * time.Hour) // virtual
		if c := h.books("otlp"); c.Queued != 50 || c.Dropped["overflow"] != 0 {
			t.Fatalf("after a day of failures: %+v, want all 50 queued", c)
		}
		heal.Store(true)
		time.Sleep(maxReturn)
		synctest.Wait()
		if got := b.delivered(); got != 10 {
			t.Errorf("delivered %d of 10 after the backend came back", got)
		}
		for _, words := range []string{"Queue: backlog grows", "Queue: backlog drained"} {
			if n := h.lines.FilterMessage(words).Len(); n != 1 {
				t.Errorf("%q was logged %d times in one outage", words, n)
			}
		}
		h.stop(time.Second)
		if c := h.books("otlp"); c.Delivered != 50 {
			t.Errorf("books: %+v", c)
		}
	})
}

// maxReturn is the longest a record rests in the queue between two stays at a destination.
const maxReturn = 10 * time.Minute

func TestOneDeliveryWakesAllThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		heal := atomic.Bool{}
		b := &backend{answer: func(int, *exporter.Request) exporter.Verdict {
			if heal.Load() {
				return exporter.Deliver()
			}
			return retryVerdict()
		}}
		d := dest("otlp")
		d.Workers = 5
		d.Levels[0].Retry.RandomizationFactor = 0
		d.Levels[0].Retry.MaxElapsedTime = 0
		h := build(t, []plan.Destination{d}, map[string]*backend{"otlp": b})
		for i := range 5 {
			h.put(fmt.Sprint(i), 1)
			time.Sleep(time.Second) // so that their waits end at different times
		}
		time.Sleep(10 * time.Minute)
		heal.Store(true)
		began := time.Now()
		for b.delivered() == 0 {
			time.Sleep(10 * time.Millisecond)
		}
		first := time.Now()
		synctest.Wait()
		if got := b.delivered(); got != 5 {
			t.Errorf("the first delivery came after %s, and %d of 5 with it", first.Sub(began), got)
		}
		h.stop(time.Second)
	})
}

func TestRejectedRecordIsFoundInItsBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{answer: func(_ int, r *exporter.Request) exporter.Verdict {
			for _, part := range r.Parts {
				if string(part) == "poison" {
					return exporter.Verdict{Kind: exporter.Rejected, Err: errors.New("invalid")}
				}
			}
			return exporter.Deliver()
		}}
		d := dest("otlp")
		d.Want = queue.Want{Sizer: queue.Items, Min: 8, Linger: time.Second}
		h := build(t, []plan.Destination{d}, map[string]*backend{"otlp": b})
		for i := range 8 {
			body := fmt.Sprint("good ", i)
			if i == 5 {
				body = "poison"
			}
			h.put(body, 1)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		c := h.books("otlp")
		if c.Delivered != 7 || c.Rejected != 1 || b.delivered() != 7 {
			t.Errorf("books %+v, backend has %d; want 7 delivered, 1 rejected", c, b.delivered())
		}
		if e := h.Evidence(); len(e) != 1 || e[0].Rejected != 1 || e[0].Delivered < 2 {
			t.Errorf("evidence %+v, want one rejection: the batches it was sought in are none", e)
		}
		h.stop(time.Second)
	})
}

func TestDelayTheBackendAsksForIsKeptByAllWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{answer: func(n int, _ *exporter.Request) exporter.Verdict {
			if n == 1 {
				return exporter.Verdict{Kind: exporter.RetryAfter, After: 40 * time.Second, Err: errors.New("slow down")}
			}
			return exporter.Deliver()
		}}
		d := dest("otlp")
		h := build(t, []plan.Destination{d}, map[string]*backend{"otlp": b})
		h.put("a", 1)
		synctest.Wait()
		for i := range 20 {
			h.put(fmt.Sprint(i), 1)
			time.Sleep(time.Second)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if gap := b.attempts[1].at.Sub(b.attempts[0].at); gap < 40*time.Second || gap > 44*time.Second {
			t.Errorf("second attempt after %s, want 40 s and at most a tenth more", gap)
		}
		if got := b.delivered(); got != 21 {
			t.Errorf("delivered %d of 21", got)
		}
		h.stop(time.Second)
	})
}

func TestPartialSuccessIsBookedAndNotSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{answer: func(int, *exporter.Request) exporter.Verdict {
			return exporter.Verdict{Kind: exporter.Delivered, Rejected: 7, Message: "too old"}
		}}
		d := dest("otlp")
		d.Want = queue.Want{Sizer: queue.Items, Min: 10, Linger: time.Second}
		h := build(t, []plan.Destination{d}, map[string]*backend{"otlp": b})
		h.put("a", 5)
		h.put("b", 5)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if c := h.books("otlp"); c.Delivered != 3 || c.Rejected != 7 || len(b.attempts) != 1 {
			t.Errorf("books %+v after %d attempts; want 3 delivered, 7 rejected, one attempt", c, len(b.attempts))
		}
		h.stop(time.Second)
	})
}

func TestStopDeliversWhatIsQueuedWhileTheBackendTakesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{answer: func(int, *exporter.Request) exporter.Verdict {
			time.Sleep(100 * time.Millisecond)
			return exporter.Deliver()
		}}
		d := dest("otlp")
		d.Want = queue.Want{Sizer: queue.Items, Min: 1000, Linger: time.Hour}
		h := build(t, []plan.Destination{d}, map[string]*backend{"otlp": b})
		for i := range 50 {
			h.put(fmt.Sprint(i), 1)
		}
		synctest.Wait()
		if b.delivered() != 0 {
			t.Fatal("the batch did not wait")
		}
		h.stop(10 * time.Second)
		if c := h.books("otlp"); c.Delivered != 50 || b.delivered() != 50 {
			t.Errorf("books %+v, backend has %d of 50", c, b.delivered())
		}
	})
}

func TestStopIsBoundedAndListsWhatItDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{answer: func(int, *exporter.Request) exporter.Verdict { return retryVerdict() }}
		h := build(t, []plan.Destination{dest("otlp")}, map[string]*backend{"otlp": b})
		for i := range 30 {
			h.put(fmt.Sprint(i), 2)
		}
		began := time.Now()
		h.stop(3 * time.Second)
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("stopping took %s", took)
		}
		if c := h.books("otlp"); c.Dropped["shutdown"] != 60 || h.drops["shutdown"] != 60 {
			t.Errorf("books %+v, drop records %v; want 60 under shutdown", c, h.drops)
		}
		if h.freed.Load() != 30 {
			t.Errorf("%d of 30 records freed", h.freed.Load())
		}
	})
}

func TestFullQueueRefusesWithAHint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		heal := atomic.Bool{}
		b := &backend{answer: func(int, *exporter.Request) exporter.Verdict {
			if heal.Load() {
				return exporter.Deliver()
			}
			return retryVerdict()
		}}
		d := dest("otlp")
		d.Limit.Max = 5
		h := build(t, []plan.Destination{d}, map[string]*backend{"otlp": b})
		for i := range 5 {
			h.put(fmt.Sprint(i), 1)
		}
		_, err := h.Entry().Accept(context.Background(), &otlp.Payload{Signal: otlp.Traces, Items: 3, Size: 1, Body: []byte("x")})
		var refusal *receiver.Refusal
		if !errors.As(err, &refusal) || refusal.Code != receiver.Unavailable || refusal.After < time.Second ||
			refusal.Reason != receiver.ReasonQueueFull {
			t.Fatalf("got %v, want a retryable refusal with a hint", err)
		}
		if got := h.tel.Metrics.Counter("otelcol_exporter_enqueue_failed_spans", "", "exporter", "otlp").Value(); got != 3 {
			t.Errorf("enqueue_failed is %d, want 3", got)
		}
		if ok, _ := h.Accepting(); ok {
			t.Error("the pipeline is full and says it accepts")
		}
		heal.Store(true)
		time.Sleep(time.Minute)
		if ok, _ := h.Accepting(); !ok {
			t.Error("the pipeline has room again, and says it does not accept")
		}
		h.stop(time.Second)
	})
}

func TestFailedAttemptsAreCountedWhenTheyHappen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{answer: func(int, *exporter.Request) exporter.Verdict { return retryVerdict() }}
		h := build(t, []plan.Destination{dest("otlp")}, map[string]*backend{"otlp": b})
		value := func(name string) float64 {
			for _, s := range h.tel.Metrics.Snapshot() {
				if s.Name == name {
					return s.Value
				}
			}
			t.Fatalf("no series %s", name)
			return 0
		}
		if value("otelcol_exporter_sent_spans") != 0 || value("otelcol_exporter_send_failed_spans") != 0 {
			t.Error("the series of the alert do not start at 0")
		}
		h.put("a", 4)
		synctest.Wait()
		if value("otelcol_exporter_send_failed_spans") != 4 {
			t.Error("the first failed attempt is not counted at once")
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if value("otelcol_exporter_send_failed_spans") != 8 {
			t.Error("the second failed attempt is not counted")
		}
		h.stop(time.Second)
	})
}
