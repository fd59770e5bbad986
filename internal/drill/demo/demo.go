// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package demo plays one outage before an audience, against a real Holdfast process, and lets the ledger judge.
//
// It stands outside the product. A stage is a private directory, a loopback address of its own, two backends and a load
// in this process, and the binary as a child that can be killed and started again. A scenario is a list of steps on a
// stage: faults for the backends, a kill, waits for what the child's status says; what happens is told line by line, out
// of the child's own log and status. In the end the notes of all sides are compared. It promises to leave no process
// behind, whatever happens to it, and to call nothing passed that did not happen. Nothing on the data path knows it.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/admin"
	"github.com/holdfast-telemetry/holdfast/internal/drill/child"
	"github.com/holdfast-telemetry/holdfast/internal/drill/lookout"
	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/loadgen"
	"github.com/holdfast-telemetry/holdfast/internal/mockbackend"
)

// MinLength is the shortest load that leaves every step of an outage its time.
const MinLength = 8 * time.Second

// Options say what to play.
type Options struct {
	Binary string        // the program to start
	Dir    string        // where configuration, queue, log and notes go; it must exist and be empty
	Load   time.Duration // how long telemetry is sent, MinLength at least; the steps divide it
	Events io.Writer     // one line per event; that it cannot be written ends the run
	// Status, if set, is HOST:PORT where the status page is served while the outage lasts.
	Status string
}

const (
	// itemsPerSecond is modest, so that a laptop shows the outage and not its own limits.
	itemsPerSecond = 6000
	producers      = 2 // per signal
	requestItems   = 100
	itemBytes      = 200
)

// stage is where an outage is played. Its methods are for one goroutine, unless they say otherwise.
type stage struct {
	o     Options
	run   string // its name
	dir   string
	host  string // a loopback address on which every port is free
	guard net.Listener
	log   *os.File

	primary, secondary *mockbackend.Backend
	child              *child.Child // the present life, nil before the first
	lives              int
	load               *load
	admin              *admin.Client
	acked              atomic.Uint64 // items
	bound              int64         // duplicates that the crashes so far may have caused
	doubts             []ledger.Finding

	fail    context.CancelCauseFunc // ends the run
	watcher sync.WaitGroup
	unwatch context.CancelFunc
	seen    *lookout.Lookout[*snapshot]
	mu      struct {
		sync.Mutex
		events *timeline
	}
}

// newStage begins a run: the backends are up, and somebody watches. The context it returns ends with ctx, and when the
// run cannot go on.
func newStage(ctx context.Context, o Options, run string, began time.Time) (*stage, context.Context, error) {
	s := &stage{o: o, run: run, dir: filepath.Join(o.Dir, run)}
	ctx, s.fail = context.WithCancelCause(ctx)
	s.mu.events, s.seen = newTimeline(began, o.Events), lookout.New(&snapshot{})
	if err := s.prepare(); err != nil {
		return nil, nil, errors.Join(err, s.close())
	}
	watch, cancel := context.WithCancel(ctx)
	s.unwatch = cancel
	s.watcher.Go(func() { s.watch(watch) })
	return s, ctx, nil
}

func (s *stage) prepare() (err error) {
	if s.dir, err = filepath.Abs(s.dir); err != nil {
		return err
	}
	for _, dir := range []string{s.notes(), s.path("state"), s.path("emergency")} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return err
		}
	}
	if s.log, err = os.Create(s.path("holdfast.log")); err != nil {
		return err
	}
	s.admin = admin.NewClient(s.socket())
	if s.host, s.guard, err = child.OwnHost(); err != nil {
		return err
	}
	if s.primary, err = s.backend("primary", "14317"); err != nil {
		return err
	}
	s.secondary, err = s.backend("secondary", "24317")
	return err
}

func (s *stage) backend(name, port string) (*mockbackend.Backend, error) {
	return mockbackend.Start(mockbackend.Options{Name: name, GRPC: net.JoinHostPort(s.host, port), Dir: s.notes()})
}

func (s *stage) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}
func (s *stage) notes() string   { return s.path("notes") }
func (s *stage) socket() string  { return s.path("state", admin.SocketName) }
func (s *stage) otlp() string    { return net.JoinHostPort(s.host, "4317") }
func (s *stage) metrics() string { return net.JoinHostPort(s.host, "8888") }

// event tells something now. It may be called by several goroutines.
func (s *stage) event(format string, args ...any) {
	s.tell(event{at: time.Now(), who: "demo", text: fmt.Sprintf(format, args...)})
}

func (s *stage) tell(e event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.events.add(e)
}

// doubt notes that something which belongs to the scenario did not happen: the run goes on, and cannot pass.
func (s *stage) doubt(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.doubts = append(s.doubts, ledger.Finding{Quantity: "scenario", Text: text})
	s.event("DOUBT: %s", text)
}

// begin begins a life of the collector and waits until it is ready.
func (s *stage) begin(ctx context.Context) error {
	args := []string{"run", "--config", s.path("config.yaml"), "--implicit-health=off", "--state-dir", s.path("state")}
	c, err := child.Start(ctx, s.o.Binary, args, nil, s.log, func(l child.Line) {
		if e, ok := story(&l); ok {
			s.tell(e)
		}
	}, nil)
	if err != nil {
		return err
	}
	s.child = c
	s.lives++
	return nil
}

// close ends everything that still runs. It is idempotent.
func (s *stage) close() error {
	s.fail(context.Canceled)
	if s.load != nil {
		_, _ = s.load.wait() // it was cancelled; its own end said how it went
	}
	if s.child != nil {
		s.child.Kill()
	}
	if s.unwatch != nil {
		s.unwatch()
	}
	s.watcher.Wait()
	err := s.stopBackends()
	if s.guard != nil {
		_ = s.guard.Close() // it was open, or is closed already
	}
	if s.log != nil {
		_ = s.log.Close() // as above
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.events.close()
	return err
}

func (s *stage) stopBackends() error {
	var errs []error
	for _, b := range []*mockbackend.Backend{s.primary, s.secondary} {
		if b != nil {
			errs = append(errs, b.Stop())
		}
	}
	return errors.Join(errs...)
}

// load is a load under way.
type load struct {
	end  chan struct{}
	once sync.Once
	done sync.WaitGroup
	sum  loadgen.Summary
	err  error
}

// send begins to send numbered telemetry, until the load is stopped.
func (s *stage) send(ctx context.Context, o loadgen.Options) {
	l := &load{end: make(chan struct{})}
	o.Run, o.Dir, o.To, o.Want, o.Stop = s.run, s.notes(), []string{"grpc://" + s.otlp()}, "any", l.end
	o.Producers, o.Items, o.ItemBytes, o.Rate = producers, requestItems, itemBytes, itemsPerSecond
	o.Progress = func(a ledger.Attempt, r ledger.Result) {
		if r.State == ledger.Acked {
			s.acked.Add(a.Last - a.First + 1)
		}
	}
	l.done.Go(func() { l.sum, l.err = loadgen.Run(ctx, o) })
	s.load = l
}

// stop ends the load: what was begun gets its answer.
func (l *load) stop() (loadgen.Summary, error) {
	l.once.Do(func() { close(l.end) })
	return l.wait()
}

func (l *load) wait() (loadgen.Summary, error) {
	l.done.Wait()
	return l.sum, l.err
}
