// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// A queue is worth a word at 80 percent, and worth another one after it has been below 70.
const (
	highShare = 0.8
	lowShare  = 0.7
)

// paceSamples is over how many looks growth is measured: a minute, at one look a second.
const paceSamples = 60

// level follows how full one queue is.
type level struct {
	high    bool
	said    time.Time
	samples [paceSamples]sample
	n       int // looks so far
}

type sample struct {
	at   time.Time
	size int64
}

// look notes a size. It reports, once per rise, that the queue is nearly full, and how long it will take to be full at
// the pace of the last minute; 0 = it does not grow.
func (l *level) look(now time.Time, size, capacity int64) (say bool, untilFull time.Duration) {
	first := l.samples[0]
	if l.n >= paceSamples {
		first = l.samples[l.n%paceSamples]
	}
	l.samples[l.n%paceSamples] = sample{now, size}
	l.n++
	share := float64(size) / float64(capacity)
	switch {
	case capacity <= 0:
		return false, 0
	case share < lowShare:
		l.high = false
		return false, 0
	case share < highShare || l.high || now.Sub(l.said) < logEvery:
		return false, 0
	}
	l.high, l.said = true, now
	if grown, took := size-first.size, now.Sub(first.at); grown > 0 && took > 0 && !first.at.IsZero() {
		untilFull = time.Duration(float64(max(capacity-size, 0)) / float64(grown) * float64(took))
	}
	return true, untilFull
}

// Watch says what changed since it looked last: a queue that fills, a pipeline that takes data again. One goroutine
// calls it, about once a second; it never blocks.
func (p *Pipeline) Watch(now time.Time) {
	for i, d := range p.deliveries {
		f := d.fill()
		if say, untilFull := p.levels[i].look(now, f.Size, f.Capacity); say {
			d.sender.log.Warn("Queue: 80 percent full", fullFields(d.dest.Limit.Sizer, f, untilFull)...)
		}
	}
	p.entry.look(now)
	accepting, _ := p.entry.accepting()
	p.entry.refusals.quiet(now, accepting)
}

func fullFields(sizer queue.Sizer, f queue.Fill, untilFull time.Duration) []zap.Field {
	fields := []zap.Field{
		zap.Int64("size", f.Size), zap.Int64("capacity", f.Capacity), zap.String("sizer", sizer.String()),
		zap.Int64("items", f.Items), zap.Duration("oldest", f.Oldest.Round(time.Second)),
	}
	if untilFull > 0 {
		fields = append(fields, zap.Duration("full_in", untilFull.Round(time.Second)))
	}
	return fields
}

// Stats are what a pipeline counted since start.
type Stats struct {
	AppendedRecords, AppendedItems uint64
	RefusedItems                   map[string]uint64 // by limit, or disk, busy, closed
	Destinations                   []DestinationStats
}

// DestinationStats describe one queued destination.
type DestinationStats struct {
	Name, Label         string // canonical, and as written
	Fill                queue.Fill
	Delivered, Rejected Tally
	Redelivered         uint64 // records that went back to the queue
}

// Stats copies the counters; it never blocks.
func (p *Pipeline) Stats() Stats {
	s := Stats{
		AppendedRecords: p.entry.appended.records.Load(), AppendedItems: p.entry.appended.items.Load(),
		RefusedItems: p.entry.refusals.byLimit(),
	}
	for _, d := range p.deliveries {
		s.Destinations = append(s.Destinations, DestinationStats{
			Name: d.dest.Name, Label: d.dest.Label, Fill: d.fill(),
			Delivered:   Tally{d.tally.ackedRecords.Load(), d.tally.ackedItems.Load()},
			Rejected:    Tally{d.tally.rejectedRecords.Load(), d.tally.rejectedItems.Load()},
			Redelivered: d.tally.again.Load(),
		})
	}
	return s
}
