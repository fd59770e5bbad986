// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package queuelog writes what queues tell of: journals of their disks and what they gave up, queues in memory of what they
// dropped.
//
// It stands beside the path, between the queues and the log. A subject that has been quiet is told of at once, what follows
// is summed up, so that nothing is left out and no burst fills a disk; alarms are counted when they happen, each kind under
// a series that is there before. It decides nothing, and whoever tells it waits for nothing but the line.
package queuelog

import (
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

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

// Lines writes what queues tell of: at once where a subject has been quiet, else gathered every ten seconds. It may be used
// from any goroutine.
type Lines struct {
	log *zap.Logger
	mu  struct {
		sync.Mutex
		subjects map[subject]*gathered
	}
}

// New writes to log. Somebody flushes once a second.
func New(log *zap.Logger) *Lines {
	l := &Lines{log: log}
	l.mu.subjects = map[subject]*gathered{}
	return l
}

func (l *Lines) note(s subject, one gathered) {
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

// Flush writes what was gathered and is due; with all, everything.
func (l *Lines) Flush(now time.Time, all bool) {
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

func (l *Lines) say(s subject, g *gathered) {
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

// The fixed words of lines (compat, section 7).
const (
	wordsError   = "Queue: disk error"
	wordsBack    = "Queue: disk is back"
	wordsDropped = "Queue: records dropped"
	wordsDamage  = "Queue: damage found"
	wordsParked  = "Queue parked"
	wordsNote    = "Queue: note"
)
