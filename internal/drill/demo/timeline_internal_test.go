// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/drill/child"
	"github.com/holdfast-telemetry/holdfast/internal/status"
)

var began = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time { return began.Add(time.Duration(seconds * float64(time.Second))) }

func TestEventsAreWrittenInOrderOfTimeOnceTheyHaveSettled(t *testing.T) {
	var out strings.Builder
	l := newTimeline(began, &out)
	l.add(event{at: at(2.0), who: "demo", text: "second"})
	l.add(event{at: at(1.9), who: "log", text: "first", notes: "  a picture\n"})
	l.add(event{at: at(2.0), who: "stat", text: "third"})
	l.advance(at(2.2))
	if out.Len() > 0 {
		t.Errorf("written before others may have come: %q", out.String())
	}
	l.advance(at(2.3))
	const first = "   1.9 s  log   first\n  a picture\n"
	if out.String() != first {
		t.Errorf("after 400 ms: %q, want %q", out.String(), first)
	}
	l.close()
	if want := first + "   2.0 s  demo  second\n   2.0 s  stat  third\n"; out.String() != want {
		t.Errorf("at the end: %q, want %q", out.String(), want)
	}
}

func TestTheSameEventOfSeveralSignalsIsOneLine(t *testing.T) {
	var out strings.Builder
	l := newTimeline(began, &out)
	for _, signal := range []string{"traces", "logs", "traces"} {
		l.add(event{at: at(1), who: "log", text: "level is back", part: signal})
	}
	l.add(event{at: at(1), who: "log", text: "level is back"})
	l.add(event{at: at(1.1), who: "log", text: "something else", part: "traces"})
	l.advance(at(2))
	l.add(event{at: at(3), who: "log", text: "level is back", part: "metrics"})
	l.close()
	const want = "   1.0 s  log   level is back (logs, traces)\n   1.0 s  log   level is back\n" +
		"   1.1 s  log   something else (traces)\n   3.0 s  log   level is back (metrics)\n"
	if out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}

type closedPipe struct{ writes int }

func (c *closedPipe) Write([]byte) (int, error) {
	c.writes++
	return 0, errors.New("broken pipe")
}

func TestATimelineNobodyReadsSaysSoOnce(t *testing.T) {
	pipe := &closedPipe{}
	l := newTimeline(began, pipe)
	l.add(event{at: at(1), text: "one"})
	l.add(event{at: at(2), text: "two"})
	l.close()
	if l.err == nil || pipe.writes != 1 {
		t.Errorf("error %v after %d writes", l.err, pipe.writes)
	}
}

func TestLinesOfTheLogAreToldInTheirOwnWords(t *testing.T) {
	const stamp = "2026-11-21T10:00:07.500Z\t"
	for line, want := range map[string]string{
		stamp + "warn\tswitchroom/scribe.go:1\tFailover: level is down, data goes to the next level\t" +
			`{"signal":"traces","exporter":"otlp_grpc/primary","error":"dial tcp 127.1.2.3:1: connect: connection refused"}`: "" +
			"   7.5 s  log   primary: level is down, data goes to the next level: connection refused (traces)\n",
		stamp + "info\tFailover: active level changed\t" + `{"signal":"logs","from":1,"to":2}`: "" +
			"   7.5 s  log   active level changed: secondary -> emergency file (logs)\n",
		stamp + "info\tFailover: active level changed\t" + `{"signal":"logs","from":0,"to":-1}`: "" +
			"   7.5 s  log   active level changed: primary -> nowhere, it is held (logs)\n",
		stamp + "info\tFailover: backfill begins\t" + `{"signal":"logs","items":12900,"oldest":6}`: "" +
			"   7.5 s  log   backfill begins: 12,900 items in the emergency file, the oldest for 6.0 s (logs)\n",
		stamp + "info\tQueue: opened\t" + `{"otelcol.pipeline.id":"metrics/in","items":300,"recovered":true}`: "" +
			"   7.5 s  log   queue opened again: 300 items are still owed (metrics)\n",
		stamp + "info\tQueue: opened\t" + `{"otelcol.pipeline.id":"metrics","items":0,"recovered":false}`: "",
		stamp + "error\tsomething broke\t" + `{"error":"x"}`:                                              "   7.5 s  log   something broke\n",
		stamp + "info\tEverything is ready. Begin running and processing data.":                           "",
		"panic: runtime error": "",
	} {
		var out strings.Builder
		l := newTimeline(began, &out)
		if parsed, ok := child.Parse(line); ok {
			if e, ok := story(&parsed); ok {
				l.add(e)
			}
		}
		if l.close(); out.String() != want {
			t.Errorf("%q\ntold as %q\nwant    %q", line, out.String(), want)
		}
	}
}

func TestAPictureShowsWhereDataGoesAndWhereItIs(t *testing.T) {
	level := func(n int, state, when string) status.Level {
		return status.Level{Level: n, State: state, Members: []status.Member{{State: state, ReturnsWhen: when}}}
	}
	route := func(active int, first string) status.Route {
		return status.Route{ActiveLevel: active, Queue: status.RouteQueue{OldestSeconds: float64(active)},
			Levels: []status.Level{level(0, first, "a good probe"), level(1, "healthy", ""), level(2, "healthy", "")}}
	}
	n := &snapshot{acked: 10_000, primary: 5000, secondary: 4990, status: &status.Status{
		Books: status.Books{Queued: 10}, Failover: []status.Route{route(1, "probing"), route(1, "down")},
	}}
	const want = `                   primary        down      ##########..........       5,000  returns with a good probe
                => secondary      healthy   #########...........       4,990
                   emergency file healthy   ....................           0
                   queue                    #...................          10  oldest 1.0 s
`
	if got := n.picture(); got != want {
		t.Errorf("\n%swant\n%s", got, want)
	}
	if !n.allAt(1) || n.allAt(0) {
		t.Error("all data goes to level 1")
	}
	if n.status = nil; !strings.Contains(n.picture(), "primary        ?") || n.allAt(1) {
		t.Errorf("of a process that does not answer nothing is known:\n%s", n.picture())
	}
}

func TestStepsShareTheLengthAndTimersFitIntoThem(t *testing.T) {
	for _, length := range []time.Duration{MinLength, 30 * time.Second, 5 * time.Minute, time.Hour} {
		p := paceOf(length)
		if sum := p.well + p.primary + p.killed + p.both + p.healing; sum != length {
			t.Errorf("%s: the steps add up to %s", length, sum)
		}
		// Down after three strikes and an emergency level behind it, seen in the shortest step but one; home after a probe,
		// a live batch and the ramp, repaid behind that.
		if home := p.allDown + p.ramp + p.after; home > p.healing || p.gap > p.retry/2 || p.retry < 500*time.Millisecond {
			t.Errorf("%s: %+v", length, p)
		}
	}
}
