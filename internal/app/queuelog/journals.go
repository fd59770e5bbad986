// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package queuelog

import (
	"slices"
	"sync"

	"go.uber.org/zap/zapcore"

	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// eventKinds are the kinds that can be alarms; each has a series before it counts.
var eventKinds = []journal.Kind{
	journal.Changed, journal.Dropped, journal.SetAside, journal.Evicted, journal.Damaged, journal.Condemned,
	journal.Parked, journal.Slow, journal.Noted,
}

// Journals turns what journals tell into lines, and counts the alarms.
type Journals struct {
	lines   *Lines
	metrics *telemetry.Registry
	mu      struct {
		sync.Mutex
		broken map[string]bool // by pipeline: it was said that it cannot write
	}
}

// NewJournals writes to lines and counts in metrics.
func NewJournals(to *Lines, metrics *telemetry.Registry) *Journals {
	j := &Journals{lines: to, metrics: metrics}
	j.mu.broken = map[string]bool{}
	return j
}

// alarms is the series of one kind of alarm.
func (j *Journals) alarms(pipeline string, kind journal.Kind) *telemetry.Counter {
	return j.metrics.Counter("holdfast_journal_alarms_total",
		"Things a journal met that are worth waking somebody; the runbook has a page for each kind.",
		"pipeline", pipeline, "kind", string(kind))
}

// Register makes the series of a journal.
func (j *Journals) Register(pipeline string) {
	for _, k := range eventKinds {
		j.alarms(pipeline, k)
	}
}

// Of is the function a storage's journals call, from any goroutine. label is what a pipeline's journal there is called.
func (j *Journals) Of(storage string, label func(pipeline string) string) func(journal.Event) {
	return func(ev journal.Event) {
		pipeline := "@" + storage // the directory's own trouble
		if ev.Pipeline != "" {
			pipeline = label(ev.Pipeline)
		}
		if ev.Level == journal.Alarm && slices.Contains(eventKinds, ev.Kind) {
			j.alarms(pipeline, ev.Kind).Inc()
		}
		words, level := j.wordsOf(pipeline, &ev)
		if words == "" {
			return
		}
		reason := ev.Reason
		if ev.Kind == journal.Evicted {
			reason = "dead_evicted"
		}
		j.lines.note(subject{words, pipeline, ev.Destination, reason}, gathered{
			level: level, text: ev.Text, err: ev.Err, records: ev.Records, items: ev.Items, first: ev.First, last: ev.Last,
		})
	}
}

// wordsOf are the words for an event, none where others say it: who opens a journal says that it is open, who chooses
// an heir says whom, who sends a record says what the backend answered, and who is refused says that it is full.
func (j *Journals) wordsOf(pipeline string, ev *journal.Event) (string, zapcore.Level) {
	switch ev.Kind {
	case journal.Changed:
		return j.changed(pipeline, ev.Level)
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
func (j *Journals) changed(pipeline string, l journal.Level) (string, zapcore.Level) {
	j.mu.Lock()
	defer j.mu.Unlock()
	was := j.mu.broken[pipeline]
	j.mu.broken[pipeline] = l == journal.Alarm
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
