// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/app/queuelog"
	"github.com/holdfast-telemetry/holdfast/internal/app/shown"
)

const watchEvery = time.Second

// watcher looks at the queues once a second and says what changed. It never holds up the data path, and nothing
// depends on it.
type watcher struct {
	app   *App
	stop  chan struct{}
	done  chan struct{}
	rooms *queuelog.Rooms
}

func (a *App) startWatch() {
	w := &watcher{app: a, stop: make(chan struct{}), done: make(chan struct{}), rooms: queuelog.NewRooms(a.log)}
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
		shot := s.store.Snapshot()
		w.rooms.Look(s.ids[0], &shot)
	}
	w.app.lines.Flush(now, false)
}

// lookAtPace notes the counts of every destination, for their rates.
func (a *App) lookAtPace(now time.Time) {
	g := a.now()
	var counts shown.Counts
	for i, p := range g.pipelines {
		for _, d := range p.Show() {
			counts.Add(g.plan.Pipelines[i].ID, &d)
		}
	}
	a.pace.Look(now, counts.Destinations, counts.Levels())
}
