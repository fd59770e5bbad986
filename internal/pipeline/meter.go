// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline/switchroom"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// meter counts what a route does with batches, and now and then says that they move (failover, section 15). Every series
// is there before the first batch. Its methods are the delivery loop's, but for attempted and freed.
type meter struct {
	set    *Settings
	labels []string
	line   *sender // thins out lines

	levels []levelMeter
	moved  map[move]*telemetry.Counter
	dead   [failover.DeadUnclear + 1]*telemetry.Counter
	hand   [4]*telemetry.Gauge // items, by what they do; of all pipelines that share the route
	own    [4]atomic.Uint64    // the same, of this one
	strays *telemetry.Gauge
	last   failover.InHand // as shown: several pipelines add to one series

	moves, deaths int64 // since the last line: batches, items
}

// levelMeter are the series of one level.
type levelMeter struct {
	members   [][exporter.Rejected + 1]*telemetry.Counter // attempts, by verdict
	failed    []*telemetry.Counter                        // items, of the exporters
	took      *telemetry.Histogram
	delivered *telemetry.Counter
	again     [len(doubtWords)]*telemetry.Counter
	stuck     *telemetry.Gauge
	window    *telemetry.Gauge
	pace      *telemetry.Gauge
	drain     failover.Drain // as shown
	timeout   time.Duration
}

type move struct {
	from, to int
	cause    failover.MoveCause
}

// doubt says why a batch may have been taken although nobody said so.
type doubt uint8

const (
	doubtNone doubt = iota
	doubtTimeout
	doubtConnection
	doubtCancelled // by a trip or a stop
	doubtCanary
	doubtMember // a level delivered in part
	doubtPiece  // pieces of a record were delivered, and the record was not
	doubtBackfill
)

var doubtWords = [...]string{
	"none", "timeout", "connection", "cancelled", "canary", "member", "piece", "backfill",
}

var attemptBounds = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

var handWords = [4]string{"in_flight", "waiting", "moving", "held"}

func newMeter(set *Settings, d *plan.Destination) *meter {
	m := &meter{
		set: set, labels: []string{"connector", d.Label, "signal", set.Plan.Signal.String()},
		moved: map[move]*telemetry.Counter{},
	}
	reg := set.Telemetry.Metrics
	for i := range d.Levels {
		m.levels = append(m.levels, m.newLevel(i, &d.Levels[i]))
	}
	for from := range d.Levels {
		for to := 0; to < len(d.Levels) && len(d.Levels) <= switchroom.MaxEager; to++ {
			for cause := failover.MoveFailure; cause <= failover.MoveReturn; cause++ {
				if from != to {
					m.movedOf(move{from, to, cause})
				}
			}
		}
	}
	for reason := range m.dead {
		m.dead[reason] = reg.Counter("holdfast_failover_dead_items_total", "Items set aside because no level takes them.",
			m.with("reason", failover.DeadReason(reason).String())...)
	}
	for i, word := range handWords {
		m.hand[i] = reg.Gauge("holdfast_failover_in_hand_items", "Items taken from the queue and not resolved.",
			m.with("state", word)...)
	}
	m.strays = reg.Gauge("holdfast_failover_stragglers", "Records in hand that came back to the queue before.", m.labels...)
	return m
}

func (m *meter) newLevel(i int, l *plan.Level) levelMeter {
	reg, level := m.set.Telemetry.Metrics, strconv.Itoa(i)
	out := levelMeter{
		timeout: l.Timeout,
		took: reg.Histogram("holdfast_failover_attempt_seconds", "How long attempts took.", attemptBounds,
			m.with("level", level)...),
		delivered: reg.Counter("holdfast_failover_delivered_items_total", "Items delivered by the level.",
			m.with("level", level)...),
		stuck: reg.Gauge("holdfast_failover_stuck_attempts", "Attempts given up that still hang.", m.with("level", level)...),
		window: reg.Gauge("holdfast_failover_window", "Batches that may be in flight to the level at once, of all pipelines.",
			m.with("level", level)...),
		pace: reg.Gauge("holdfast_failover_pace", "Items a second that the level is sent at most, by the pipelines that have a bound; 0 = none has.",
			m.with("level", level)...),
	}
	for d := doubtTimeout; int(d) < len(doubtWords); d++ {
		out.again[d] = reg.Counter("holdfast_failover_possible_duplicate_items_total",
			"Items sent again although an earlier attempt may have been taken.",
			m.with("level", level, "cause", doubtWords[d])...)
	}
	for _, id := range l.Exporters {
		var verdicts [exporter.Rejected + 1]*telemetry.Counter
		for v := range verdicts {
			verdicts[v] = reg.Counter("holdfast_failover_attempts_total", "Attempts, by what came of them.",
				m.with("level", level, "exporter", id, "verdict", failover.VerdictWord(exporter.Kind(v)))...)
		}
		out.members = append(out.members, verdicts)
		out.failed = append(out.failed, switchroom.FailedItems(reg, id, m.set.Plan.Signal))
	}
	return out
}

func (m *meter) with(more ...string) []string {
	return append(m.labels[:len(m.labels):len(m.labels)], more...)
}

func (m *meter) movedOf(k move) *telemetry.Counter {
	c := m.moved[k]
	if c == nil {
		c = m.set.Telemetry.Metrics.Counter("holdfast_failover_moved_items_total", "Items that went to another level.",
			m.with("from", strconv.Itoa(k.from), "to", strconv.Itoa(k.to), "cause", k.cause.String())...)
		m.moved[k] = c
	}
	return c
}

// sent notes an attempt that begins, under view v. Levels above that are passed by without being asked, for being down
// or silent, count the batch as one that they did not take, once: what alerts on failed exports sees the outage of a
// level that is sent nothing.
func (m *meter) sent(e *failover.RouterEffect, l *load, v *failover.View) {
	if e.Again {
		m.again(e.Level, l.doubt, l.Items)
	}
	for i := range min(e.Level, len(v.Levels)) {
		if above := &v.Levels[i]; l.asked>>i&1 == 0 && (!above.Eligible || above.Silent) {
			l.asked |= 1 << i
			for _, c := range m.levels[i].failed {
				c.Add(int64(l.Items))
			}
		}
	}
	l.asked |= 1 << e.Level
	if e.From < 0 || e.Cause == failover.MoveNone {
		return
	}
	m.movedOf(move{e.From, e.Level, e.Cause}).Add(int64(l.Items))
	if e.Level < e.From {
		return // it was held, and goes home
	}
	if m.moves++; m.line != nil && m.line.due("moved") {
		m.line.log.Warn("Failover: export error, batch goes to the next level", m.fields(zap.Int("from", e.From),
			zap.Int("to", e.Level), zap.Stringer("reason", e.Cause), zap.Int64("batches", m.moves),
			telemetry.Foreign("error", errText(l.last)))...)
		m.moves = 0
	}
}

func (m *meter) fields(more ...zap.Field) []zap.Field {
	return append([]zap.Field{zap.String("connector", m.labels[1]), zap.String("signal", m.labels[3])}, more...)
}

func (m *meter) again(level int, d doubt, items uint32) {
	if d == doubtNone {
		d = doubtConnection
	}
	m.levels[max(level, 0)].again[d].Add(int64(items))
}

// attempted counts how an attempt at one member ended; any goroutine may call it.
func (m *meter) attempted(level, member int, v *exporter.Verdict, took time.Duration) {
	l := &m.levels[level]
	if int(v.Kind) < len(l.members[member]) {
		l.members[member][v.Kind].Inc()
	}
	l.took.Observe(took.Seconds())
}

// doubtOf is why an attempt that ended so may have been taken after all.
func (m *meter) doubtOf(level int, v *exporter.Verdict, took time.Duration, cut, canary bool) doubt {
	switch timeout := m.levels[level].timeout; {
	case v.Kind != exporter.Ambiguous:
		return doubtNone
	case cut:
		return doubtCancelled
	case canary:
		return doubtCanary
	case errors.Is(v.Err, context.DeadlineExceeded) || timeout > 0 && took >= timeout:
		return doubtTimeout
	}
	return doubtConnection
}

// given counts an attempt that is waited for no more, freed that it ended after all.
func (m *meter) given(level int) { m.levels[level].stuck.Add(1) }
func (m *meter) freed(level int) { m.levels[level].stuck.Add(-1) }

// ended counts what became of a batch. One that goes back to the queue and may have been taken will be sent again.
func (m *meter) ended(e *failover.RouterEffect, l *load) {
	switch e.Kind {
	case failover.AckBatch:
		if e.Level >= 0 {
			m.levels[e.Level].delivered.Add(int64(l.Items - min(e.Rejected, l.Items)))
		}
	case failover.NackBatch, failover.ReleaseBatch:
		if e.Again {
			d := l.doubt
			if d == doubtNone {
				d = doubtMember
			}
			m.again(e.Level, d, l.Items)
		}
	case failover.DeadBatch:
		m.dead[e.Reason].Add(int64(l.Items))
		if m.deaths += int64(l.Items); m.line != nil && m.line.due("failover aside") {
			m.line.log.Warn("Failover: record set aside after error", m.fields(zap.Stringer("reason", e.Reason),
				zap.Int64("items", m.deaths), zap.Int("level", e.Level), telemetry.Foreign("error", errText(l.last)))...)
			m.deaths = 0
		}
	}
}

// pieces counts pieces of a record that were delivered, and will be again with the record.
func (m *meter) pieces(level int, items uint32) {
	if items > 0 {
		m.again(level, doubtPiece, items)
	}
}

// holds shows what is in hand.
func (m *meter) holds(now failover.InHand) {
	if now == m.last {
		return
	}
	was := m.last
	m.last = now
	for i, of := range [4][2]uint64{
		{was.InFlight.Items, now.InFlight.Items}, {was.Waiting.Items, now.Waiting.Items},
		{was.Moving.Items, now.Moving.Items}, {was.Held.Items, now.Held.Items},
	} {
		if of[0] != of[1] {
			m.hand[i].Add(int64(of[1] - of[0]))
			m.own[i].Store(of[1])
		}
	}
	m.strays.Add(int64(now.Stragglers - was.Stragglers))
}

// drains shows what a level is sent at most. Pipelines that share the route write over each other: theirs differ by little.
func (m *meter) drains(level int, d failover.Drain) {
	if l := &m.levels[level]; d != l.drain {
		l.window.Add(int64(d.Window) - int64(l.drain.Window))
		l.pace.Add(int64(d.Pace) - int64(l.drain.Pace))
		l.drain = d
	}
}

// leave takes what is shown of this pipeline's limits out of the series.
func (m *meter) leave() {
	for i := range m.levels {
		m.drains(i, failover.Drain{})
	}
}

// inHand copies what this pipeline has in hand; any goroutine may call it.
func (m *meter) inHand() Hand {
	return Hand{m.own[0].Load(), m.own[1].Load(), m.own[2].Load(), m.own[3].Load()}
}
