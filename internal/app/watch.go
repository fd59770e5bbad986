// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/app/shown"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/status"
)

const watchEvery = time.Second

// A directory is worth a word at 80 percent of its cap, and worth another after it has been below 70.
const (
	highShare = 0.8
	lowShare  = 0.7
)

// watcher looks at the queues once a second and says what changed. It never holds up the data path, and nothing
// depends on it.
type watcher struct {
	app  *App
	stop chan struct{}
	done chan struct{}
	high map[*storage]bool
}

func (a *App) startWatch() {
	w := &watcher{app: a, stop: make(chan struct{}), done: make(chan struct{}), high: map[*storage]bool{}}
	go w.run()
	a.began("watch", func(context.Context) error {
		close(w.stop)
		<-w.done
		return nil
	})
}

func (w *watcher) run() {
	defer close(w.done)
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-w.stop:
			return
		case now := <-tick.C:
			w.look(now)
		}
	}
}

func (w *watcher) look(now time.Time) {
	for _, p := range w.app.now().pipelines {
		p.Watch(now)
	}
	w.app.lookAtPace(now)
	if w.app.switches != nil {
		w.app.switches.Remind(now, w.app.routeFill)
	}
	for _, s := range w.app.stores() {
		w.room(s)
	}
	w.app.lines.Flush(now, false)
}

// room says when a directory fills.
func (w *watcher) room(s *storage) {
	shot := s.store.Snapshot()
	used := int64(0)
	for _, n := range shot.DiskBytes {
		used += n
	}
	if shot.Limit <= 0 {
		return
	}
	switch share := float64(used) / float64(shot.Limit); {
	case share < lowShare:
		w.high[s] = false
	case share >= highShare && !w.high[s]:
		w.high[s] = true
		fields := []zap.Field{zap.String("storage", s.ids[0]), zap.Int64("bytes", used), zap.Int64("capacity", shot.Limit)}
		if shot.UntilFull > 0 {
			fields = append(fields, zap.Duration("full_in", shot.UntilFull.Round(time.Second)))
		}
		w.app.log.Warn("Queue: 80 percent full", fields...)
	}
}

// lookAtPace notes the counts of every destination, for their rates.
func (a *App) lookAtPace(now time.Time) {
	g := a.now()
	var counts []status.Count
	flows := map[failover.RouteID][]int64{} // those that share a route share its counters
	for i, p := range g.pipelines {
		for _, d := range p.Show() {
			b := shown.Books(&d.Counts)
			counts = append(counts, status.Count{
				Pipeline: g.plan.Pipelines[i].ID, Name: d.Label, In: b.Accepted, Out: b.Delivered + b.Rejected + b.Dropped,
				Size: d.Fill.Size, Capacity: d.Fill.Capacity,
			})
			if d.Route != nil {
				flows[d.Route.ID] = d.Route.Delivered
			}
		}
	}
	var levels []status.Flow
	for id, delivered := range flows {
		for level, items := range delivered {
			levels = append(levels, status.Flow{Connector: id.Connector, Signal: id.Signal.String(), Level: level, Items: uint64(items)})
		}
	}
	a.pace.Look(now, counts, levels)
}

// routeFill is what waits for a route in all its pipelines.
func (a *App) routeFill(id failover.RouteID) queue.Fill {
	g := a.now()
	var sum queue.Fill
	for _, p := range g.pipelines {
		for _, d := range p.Show() {
			if d.Route != nil && d.Route.ID == id {
				sum.Items, sum.Size, sum.Capacity = sum.Items+d.Fill.Items, sum.Size+d.Fill.Size, sum.Capacity+d.Fill.Capacity
				sum.Oldest = max(sum.Oldest, d.Fill.Oldest)
			}
		}
	}
	return sum
}
