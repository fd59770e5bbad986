// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// lineEvery is how often one subject has a line of its own; what comes between is summed up in the next. The metrics
// count everything when it happens.
const lineEvery = 10 * time.Second

// maxSubjects bounds what is remembered of who was told of what; beyond it lines are not thinned out.
const maxSubjects = 4096

// subject is what a line is about.
type subject struct{ words, label, destination, reason string }

// gathered is what happened to a subject since its last line.
type gathered struct {
	level          zapcore.Level
	text           string
	err            error
	times          uint64 // 0 = nothing since
	records, items uint64
	first, last    queue.Seq
	said           time.Time
}

func (g *gathered) add(one gathered) {
	if g.times == 0 {
		g.first = one.first
	}
	g.level, g.text, g.err, g.last = one.level, one.text, one.err, one.last
	g.times, g.records, g.items = g.times+1, g.records+one.records, g.items+one.items
}

// lines writes what queues tell of: at once where a subject has been quiet, else gathered every lineEvery.
type lines struct {
	log *zap.Logger
	mu  struct {
		sync.Mutex
		subjects map[subject]*gathered
	}
}

func newLines(log *zap.Logger) *lines {
	l := &lines{log: log}
	l.mu.subjects = map[subject]*gathered{}
	return l
}

func (l *lines) note(s subject, one gathered) {
	now := time.Now()
	l.mu.Lock()
	g := l.mu.subjects[s]
	if g == nil {
		g = &gathered{}
		if len(l.mu.subjects) < maxSubjects {
			l.mu.subjects[s] = g
		}
	}
	g.add(one)
	due := now.Sub(g.said) >= lineEvery
	line := *g
	if due {
		*g = gathered{said: now}
	}
	l.mu.Unlock()
	if due {
		l.say(s, &line)
	}
}

// flush writes what was gathered and is due; with all, everything.
func (l *lines) flush(now time.Time, all bool) {
	type pair struct {
		s subject
		g gathered
	}
	var due []pair
	l.mu.Lock()
	for s, g := range l.mu.subjects {
		switch {
		case g.times > 0 && (all || now.Sub(g.said) >= lineEvery):
			due = append(due, pair{s, *g})
			*g = gathered{said: now}
		case g.times == 0 && now.Sub(g.said) >= lineEvery:
			delete(l.mu.subjects, s)
		}
	}
	l.mu.Unlock()
	for i := range due {
		l.say(due[i].s, &due[i].g)
	}
}

func (l *lines) say(s subject, g *gathered) {
	fields := []zap.Field{zap.String("otelcol.pipeline.id", s.label)}
	if s.destination != "" {
		fields = append(fields, zap.String("destination", s.destination))
	}
	if s.reason != "" {
		fields = append(fields, telemetry.Foreign("reason", s.reason))
	}
	if g.records > 0 || g.items > 0 {
		fields = append(fields, zap.Uint64("items", g.items), zap.Uint64("records", g.records))
	}
	if g.last > 0 {
		fields = append(fields, zap.Uint64("first", uint64(g.first)), zap.Uint64("last", uint64(g.last)))
	}
	if g.text != "" {
		fields = append(fields, zap.String("what", g.text))
	}
	if g.err != nil {
		fields = append(fields, telemetry.Foreign("error", g.err.Error()))
	}
	if g.times > 1 {
		fields = append(fields, zap.Uint64("times", g.times))
	}
	l.log.Log(g.level, s.words, fields...)
}

// eventKinds are the kinds that can be alarms; each has a series before it counts.
var eventKinds = []journal.Kind{
	journal.Changed, journal.Dropped, journal.SetAside, journal.Evicted, journal.Damaged, journal.Condemned,
	journal.Parked, journal.Slow, journal.Noted,
}

// The fixed words of lines (compat, section 7).
const (
	wordsError   = "Queue: disk error"
	wordsBack    = "Queue: disk is back"
	wordsDropped = "Queue: records dropped"
	wordsDamage  = "Queue: damage found"
	wordsParked  = "Queue parked"
	wordsNote    = "Queue: note"
)

// events turns what journals tell into lines, and counts the alarms.
type events struct {
	lines   *lines
	metrics *telemetry.Registry
	mu      struct {
		sync.Mutex
		broken map[string]bool // by pipeline: it was said that it cannot write
	}
}

func newEvents(to *lines, metrics *telemetry.Registry) *events {
	e := &events{lines: to, metrics: metrics}
	e.mu.broken = map[string]bool{}
	return e
}

// alarms is the series of one kind of alarm.
func (e *events) alarms(pipeline string, kind journal.Kind) *telemetry.Counter {
	return e.metrics.Counter("holdfast_journal_alarms_total",
		"Things a journal met that are worth waking somebody; the runbook has a page for each kind.",
		"pipeline", pipeline, "kind", string(kind))
}

// register makes the series of a journal.
func (e *events) register(pipeline string) {
	for _, k := range eventKinds {
		e.alarms(pipeline, k)
	}
}

// of is the function a storage's journals call, from any goroutine. label is what a pipeline's journal there is called.
func (e *events) of(storage string, label func(pipeline string) string) func(journal.Event) {
	return func(ev journal.Event) {
		pipeline := "@" + storage // the directory's own trouble
		if ev.Pipeline != "" {
			pipeline = label(ev.Pipeline)
		}
		if ev.Level == journal.Alarm && slices.Contains(eventKinds, ev.Kind) {
			e.alarms(pipeline, ev.Kind).Inc()
		}
		words, level := e.wordsOf(pipeline, &ev)
		if words == "" {
			return
		}
		reason := ev.Reason
		if ev.Kind == journal.Evicted {
			reason = "dead_evicted"
		}
		e.lines.note(subject{words, pipeline, ev.Destination, reason}, gathered{
			level: level, text: ev.Text, err: ev.Err, records: ev.Records, items: ev.Items, first: ev.First, last: ev.Last,
		})
	}
}

// wordsOf are the words for an event, none where others say it: who opens a journal says that it is open, who chooses
// an heir says whom, who sends a record says what the backend answered, and who is refused says that it is full.
func (e *events) wordsOf(pipeline string, ev *journal.Event) (string, zapcore.Level) {
	switch ev.Kind {
	case journal.Changed:
		return e.changed(pipeline, ev.Level)
	case journal.Slow:
		if ev.Level == journal.Info {
			return wordsBack, zapcore.InfoLevel
		}
		return wordsError, zapcore.ErrorLevel
	case journal.Condemned:
		return wordsError, zapcore.ErrorLevel
	case journal.Dropped, journal.Evicted:
		return wordsDropped, zapcore.ErrorLevel
	case journal.Damaged:
		return wordsDamage, zapcore.ErrorLevel
	case journal.Parked:
		return wordsParked, zapcore.WarnLevel
	case journal.Noted:
		return wordsNote, levelOf(ev.Level)
	}
	return "", 0
}

// changed tells of a journal's state: broken or detached, and ok after that. Full is another matter.
func (e *events) changed(pipeline string, l journal.Level) (string, zapcore.Level) {
	e.mu.Lock()
	defer e.mu.Unlock()
	was := e.mu.broken[pipeline]
	e.mu.broken[pipeline] = l == journal.Alarm
	switch {
	case l == journal.Alarm:
		return wordsError, zapcore.ErrorLevel
	case was:
		return wordsBack, zapcore.InfoLevel
	}
	return "", 0
}

func levelOf(l journal.Level) zapcore.Level {
	switch l {
	case journal.Alarm:
		return zapcore.ErrorLevel
	case journal.Warn:
		return zapcore.WarnLevel
	}
	return zapcore.InfoLevel
}
