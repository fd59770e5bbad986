// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline/switchroom"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
)

var tracesRoute = failover.RouteID{Connector: "failover", Signal: otlp.Traces}

// probe asks one level and returns what came of its only member.
func (c *connector) probe(level int) switchroom.ProbeAnswer {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	answers, err := c.room.Probe(ctx, tracesRoute, level)
	if err != nil || len(answers) != 1 {
		c.t.Fatalf("probe of level %d: %+v, %v", level, answers, err)
	}
	return answers[0]
}

func (c *connector) counter(name string, labels ...string) int64 {
	return c.tel.Metrics.Counter(name, "", labels...).Value()
}

func TestAnOperatorsProbeWaitsForTheAnswerAndCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := over(t, nil, "primary", "secondary")
		c.send(5)
		if a := c.probe(0); !a.Good() || a.Kind != "empty" || a.ReturnsWhen != "" {
			t.Errorf("of a level that carries: %+v", a)
		}
		c.ends["primary"].set(exporter.Retry)
		c.send(5)
		time.Sleep(3 * time.Second)
		a := c.probe(0)
		if a.Good() || a.Verdict.Kind != exporter.Retry || a.State.Carries() || a.ReturnsWhen == "" {
			t.Errorf("of a level that is down: %+v", a)
		}
		c.ends["primary"].set(0)
		if a = c.probe(0); !a.Good() || !strings.Contains(a.ReturnsWhen, "live batch") {
			t.Errorf("of one that is well again: %+v", a)
		}
		time.Sleep(11 * time.Second) // the gap and a second
		if a = c.probe(0); !a.Good() {
			t.Errorf("the second: %+v", a)
		}
		time.Sleep(11 * time.Second)
		c.send(1)
		if n := c.said("Failover: level is back"); n != 1 {
			t.Errorf("two probes and a batch, and %d lines say that it is back", n)
		}
		c.stop(time.Second)
	})
}

func TestWhatCannotBeProbedSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := over(t, nil, "primary", "secondary", "file")
		if a := c.probe(2); a.Kind != "" || !strings.Contains(a.Why, "failed write") {
			t.Errorf("the emergency file: %+v", a)
		}
		c.ends["primary"].set(exporter.RetryAfter)
		c.send(1)
		if a := c.probe(0); a.Kind != "" || !strings.Contains(a.Why, "silence") {
			t.Errorf("one that asked for silence: %+v", a)
		}
		var refused *switchroom.RefusedError
		for _, route := range []failover.RouteID{{Connector: "none", Signal: otlp.Traces}, tracesRoute} {
			if _, err := c.room.Probe(t.Context(), route, 7); !errors.As(err, &refused) {
				t.Errorf("level 7 of %v: %v", route, err)
			}
		}
		c.stop(time.Second)
	})
}

func TestTheStatusOutlivesTheRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := over(t, nil, "primary", "secondary")
		c.ends["primary"].set(exporter.Retry)
		c.send(5)
		routes, age := c.room.Status(t.Context())
		if age != 0 || len(routes) != 1 || routes[0].Active != 1 || len(routes[0].Levels) != 2 {
			t.Errorf("running: %+v, %s old", routes, age)
		}
		c.stop(time.Second)
		time.Sleep(time.Minute)
		routes, age = c.room.Status(t.Context())
		if age < time.Minute || len(routes) != 1 || routes[0].Active != 1 {
			t.Errorf("stopped: %+v, %s old", routes, age)
		}
		if err := c.room.Order(t.Context(), failover.Event{Kind: failover.EventProbeNow, Route: tracesRoute}); !errors.Is(err, switchroom.ErrNoRoom) {
			t.Errorf("an order to nobody: %v", err)
		}
	})
}

// The seeds' alerts divide failed by sent: a level that is sent nothing must go on failing while it is down.
func TestALevelThatIsPassedByFailsItsBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := over(t, nil, "primary", "secondary")
		failed := func(id string) int64 { return c.counter("otelcol_exporter_send_failed_spans", "exporter", id) }
		c.send(5)
		if n := failed("primary"); n != 0 {
			t.Fatalf("%d items failed while all is well", n)
		}
		c.ends["primary"].set(exporter.Retry)
		c.send(1)
		time.Sleep(3 * time.Second)
		before, asked := failed("primary"), c.ends["primary"].asked()
		c.send(10)
		if got := failed("primary") - before; got != 10 || c.ends["primary"].asked() != asked {
			t.Errorf("10 items passed by, %d failed; it was sent %d batches", got, c.ends["primary"].asked()-asked)
		}
		if n := failed("secondary"); n != 0 {
			t.Errorf("%d items failed at the level that took them", n)
		}
		for _, s := range []struct {
			name   string
			labels []string
			want   int64
		}{
			{"holdfast_failover_delivered_items_total", []string{"level", "0"}, 5},
			{"holdfast_failover_delivered_items_total", []string{"level", "1"}, 11},
			{"holdfast_failover_moved_items_total", []string{"from", "0", "to", "1", "cause", "failure"}, 1},
			{"holdfast_failover_attempts_total", []string{"level", "0", "exporter", "primary", "verdict", "delivered"}, 5},
			{"holdfast_failover_attempts_total", []string{"level", "0", "exporter", "primary", "verdict", "retry"}, 1},
			{"holdfast_failover_attempts_total", []string{"level", "1", "exporter", "secondary", "verdict", "delivered"}, 11},
			{"holdfast_failover_switches_total", []string{"from", "0", "to", "1"}, 1},
		} {
			if got := c.counter(s.name, append([]string{"connector", "failover", "signal", "traces"}, s.labels...)...); got != s.want {
				t.Errorf("%s%v is %d, want %d", s.name, s.labels, got, s.want)
			}
		}
		c.stop(time.Second)
	})
}

func TestAPossibleDuplicateNamesItsCause(t *testing.T) {
	for _, tc := range []struct {
		name, cause string
		err         error
	}{
		{"a connection that broke", "connection", errors.New("connection reset by peer")},
		{"an answer that did not come", "timeout", context.DeadlineExceeded},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := over(t, nil, "primary", "secondary")
				c.ends["primary"].answer = func(int, *exporter.Request) exporter.Verdict {
					return exporter.Verdict{Kind: exporter.Ambiguous, Err: tc.err}
				}
				c.send(1)
				got := c.counter("holdfast_failover_possible_duplicate_items_total", "connector", "failover", "signal", "traces",
					"level", "1", "cause", tc.cause)
				if got != 1 {
					t.Errorf("%d items are counted, want 1", got)
				}
				c.stop(time.Second)
			})
		})
	}
}

func TestItemsInHandAreShownAndGoBackToNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := over(t, nil, "primary")
		c.ends["primary"].set(exporter.Retry)
		c.send(30)
		time.Sleep(30 * time.Second)
		hand := func() (sum int64) {
			for _, state := range []string{"in_flight", "waiting", "moving", "held"} {
				sum += c.tel.Metrics.Gauge("holdfast_failover_in_hand_items", "", "connector", "failover", "signal", "traces",
					"state", state).Value()
			}
			return sum
		}
		shown := c.Show()[0]
		h := shown.Route.InHand
		if n := hand(); n == 0 || uint64(n) != h.InFlight+h.Waiting+h.Moving+h.Held || shown.Fill.Items != 30 {
			t.Errorf("%d items in hand, the pipeline shows %+v of %d", n, h, shown.Fill.Items)
		}
		c.ends["primary"].set(0)
		time.Sleep(2 * time.Minute)
		if n := hand(); n != 0 || c.Show()[0].Fill.Items != 0 {
			t.Errorf("%d items in hand after all was delivered", n)
		}
		c.stop(time.Second)
	})
}

// The seeds' health check asks for failures of the last 30 seconds: with all levels down only probes fail.
func TestADestinationGoesOnFailingWhileOnlyProbesFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := over(t, nil, "primary", "secondary")
		c.send(5)
		c.ends["primary"].set(exporter.Retry)
		c.send(5)
		time.Sleep(time.Minute)
		c.send(1)
		if h := c.Health()[0]; h.Failed != 0 || h.Delivered != 11 {
			t.Errorf("with a level that delivers: %+v", h)
		}
		time.Sleep(time.Hour)
		if h := c.Health()[0]; h.Failed != 0 {
			t.Errorf("with one, without traffic: %+v", h)
		}
		c.ends["secondary"].set(exporter.Retry)
		c.send(5)
		time.Sleep(time.Hour)
		if h := c.Health()[0]; h.Failed < 100 || time.Since(h.LastFailure) > 10*time.Second || h.LastError == "" {
			t.Errorf("with none: %+v, %s ago", h, time.Since(h.LastFailure))
		}
		c.ends["secondary"].set(0)
		time.Sleep(time.Minute)
		if h := c.Health()[0]; h.Delivered != 16 || h.Failed > 4 {
			t.Errorf("afterwards: %+v", h)
		}
		c.stop(time.Second)
	})
}

// Fault: C3. What is shown of a level is what it is after a change of the configuration: one that was down and got other
// settings is not down for ever, one that stays as it is stays down, and one that is gone is not shown.
func TestAChangedPlanShowsTheStatesThatAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var pl plan.Pipeline
		c := over(t, func(_ *failover.Config, p *plan.Pipeline) { pl = *p }, "primary", "secondary", "third")
		c.ends["primary"].set(exporter.Retry)
		c.ends["secondary"].set(exporter.Retry)
		c.send(20)
		time.Sleep(5 * time.Second)
		states := func(exporterID string) (shown []string) {
			for _, s := range c.tel.Metrics.Snapshot() {
				if s.Name == "holdfast_failover_level_state" && s.Value == 1 && slices.Contains(s.Labels, exporterID) {
					shown = append(shown, s.Labels[slices.Index(s.Labels, "state")+1])
				}
			}
			return shown
		}
		expect := func(when, exporterID string, want ...string) {
			t.Helper()
			if got := states(exporterID); !slices.Equal(got, want) {
				t.Errorf("%s %s is shown as %q, want %q", when, exporterID, got, want)
			}
		}
		expect("before", "primary", "down")
		expect("before", "secondary", "down")
		expect("before", "third", "healthy")
		p := pl
		d := p.Destinations[0]
		d.Levels = d.Levels[:2]
		p.Destinations = []plan.Destination{d}
		c.room.Reconfigure(pipeline.SwitchPlan(&plan.Plan{Pipelines: []plan.Pipeline{p}}, func(id string) (string, string) {
			if id == "primary" {
				return "other settings", "empty"
			}
			return "", "empty"
		}, func() float64 { return 0.5 }))
		expect("after", "primary", "healthy")
		expect("after", "secondary", "down")
		expect("after", "third")
		c.stop(time.Second)
	})
}
