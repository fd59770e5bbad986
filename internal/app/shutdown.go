// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/extension"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// Bounds of the steps of a stop (reload, section 11).
const (
	frontDoorTimeout = 5 * time.Second
	lastSteps        = 4 * time.Second // kept for what follows the deliveries
	queueTimeout     = 2 * time.Second
	backDoorTimeout  = 2 * time.Second
)

// step is one thing that was started and is stopped in its turn.
type step struct {
	name  string
	stop  func(context.Context) error
	owner *generation // whose retirement stops it; nil = the process's end does
	of    any         // the receiver or extension that it stops, which may change its owner
}

// room is the part of the house a step belongs to; rooms are stopped in path order.
func (s *step) room() string {
	room, _, _ := strings.Cut(s.name, " ")
	return room
}

// steps are what was started and not stopped, in order.
type steps struct {
	sync.Mutex
	all []*step
}

func (s *steps) add(one *step) {
	s.Lock()
	defer s.Unlock()
	s.all = append(s.all, one)
}

// take removes the steps that match and returns them, in order.
func (s *steps) take(match func(*step) bool) (taken []*step) {
	s.Lock()
	defer s.Unlock()
	s.all = slices.DeleteFunc(s.all, func(one *step) bool {
		if match(one) {
			taken = append(taken, one)
			return true
		}
		return false
	})
	return taken
}

// give makes the steps of some things another generation's.
func (s *steps) give(to *generation, things func(of any) bool) {
	s.Lock()
	defer s.Unlock()
	for _, one := range s.all {
		if one.of != nil && things(one.of) {
			one.owner = to
		}
	}
}

func (a *App) began(name string, stop func(context.Context) error) {
	a.steps.add(&step{name: name, stop: stop})
}

// unwind stops steps, the last first.
func unwind(ctx context.Context, steps []*step) error {
	var errs []error
	for _, s := range slices.Backward(steps) {
		if err := s.stop(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", s.name, err))
		}
	}
	return errors.Join(errs...)
}

// Abandon stops everything after a start that failed, or was not completed.
func (a *App) Abandon(ctx context.Context) error {
	return errors.Join(unwind(ctx, a.steps.take(func(*step) bool { return true })), a.sockets.Close(), a.ports.Close())
}

// Report says how a stop went.
type Report struct {
	Dropped int64  // items that had been accepted into memory and reached nobody; each has a drop record
	Stuck   string // the step that did not end in time, empty if all did
	Err     error
}

// Stop stops in path order: front door, deliveries, queues, back door, status last. It is bounded by the shutdown
// timeout, and by less once Hasten is called. Memory queues are drained while a backend takes the data.
func (a *App) Stop(ctx context.Context) Report {
	a.setPhase(extension.Stopping)
	a.log.Info("Starting shutdown...")
	if a.opts.ShutdownDelay > 0 {
		a.waitDelay(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, a.opts.ShutdownTimeout)
	defer cancel()
	var report Report
	var errs []error
	rooms := []struct {
		name    string
		timeout time.Duration
	}{
		{"receiver", frontDoorTimeout},
		{"deliveries", max(a.opts.ShutdownTimeout-lastSteps-frontDoorTimeout, time.Second)},
		{"switch", backDoorTimeout},
		{"watch", backDoorTimeout},
		{"queue", queueTimeout},
		{"store", queueTimeout},
		{"exporter", backDoorTimeout},
		{"processor", backDoorTimeout},
		{"extension", backDoorTimeout},
		{"telemetry", backDoorTimeout},
		{"admin", backDoorTimeout},
	}
	for _, room := range rooms {
		began := time.Now()
		a.room.Store(&room.name)
		stuck, err := a.stopRoom(ctx, room.name, room.timeout)
		if err != nil {
			errs = append(errs, err)
		}
		if stuck != "" && report.Stuck == "" {
			report.Stuck = stuck
		}
		a.log.Info("Shutdown step done", zap.String("step", room.name), zap.Duration("took", time.Since(began)))
	}
	a.lastLine()
	report.Dropped, report.Err = a.dropped.Load(), errors.Join(errs...)
	return report
}

// Announce says that the process is going to stop: it is not ready any more, and clients that are leaving are not waited
// for.
func (a *App) Announce() {
	a.setPhase(extension.Stopping)
	a.announce.Do(func() { close(a.ending) })
}

// Hasten cuts deliveries short: what is queued in memory is dropped with a record.
func (a *App) Hasten() {
	select {
	case <-a.hasten:
	default:
		close(a.hasten)
	}
}

func (a *App) waitDelay(ctx context.Context) {
	t := time.NewTimer(a.opts.ShutdownDelay)
	defer t.Stop()
	select {
	case <-t.C:
	case <-a.hasten:
	case <-ctx.Done():
	}
}

// stopRoom stops every step of one room at once and names one that does not end within its time and a second.
func (a *App) stopRoom(ctx context.Context, room string, timeout time.Duration) (stuck string, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if room == "deliveries" {
		go func() { // ends with ctx, at the latest when this function returns
			select {
			case <-a.hasten:
				cancel()
			case <-ctx.Done():
			}
		}()
	}
	type result struct {
		name string
		err  error
	}
	steps := a.steps.take(func(s *step) bool { return s.room() == room })
	results := make(chan result, len(steps))
	waiting := map[string]int{}
	for _, s := range steps {
		waiting[s.name]++
		go func() { results <- result{s.name, s.stop(ctx)} }()
	}
	var errs []error
	grace := time.NewTimer(timeout + time.Second)
	defer grace.Stop()
	for len(waiting) > 0 {
		select {
		case r := <-results:
			if waiting[r.name]--; waiting[r.name] == 0 {
				delete(waiting, r.name)
			}
			if r.err != nil {
				errs = append(errs, fmt.Errorf("stop %s: %w", r.name, r.err))
			}
		case <-grace.C:
			for name := range waiting {
				return name, errors.Join(append(errs, fmt.Errorf("stop %s: still running after %s", name, timeout))...)
			}
		}
	}
	return "", errors.Join(errs...)
}

// lastLine sums the books up: the promise, once more, in numbers.
func (a *App) lastLine() {
	a.lines.Flush(time.Now(), true)
	sums := map[string]float64{}
	for _, s := range a.opts.Telemetry.Metrics.Snapshot() {
		if word, ok := strings.CutPrefix(s.Name, "holdfast_ledger_"); ok {
			word, _, _ = strings.Cut(word, "_items")
			sums[word] += s.Value
		}
	}
	fields := make([]zap.Field, 0, len(sums))
	for _, word := range []string{"accepted", "delivered", "queued", "parked", "rejected", "dropped", "imbalance"} {
		fields = append(fields, zap.Int64(word, int64(sums[word])))
	}
	telemetry.Always(a.log).Info("Shutdown complete.", fields...)
}

// Stopping names the step a stop is in.
func (a *App) Stopping() string {
	if room := a.room.Load(); room != nil {
		return *room
	}
	return "nothing"
}
