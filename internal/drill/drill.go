// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package drill plays an outage against a real Holdfast process and lets the ledger judge.
//
// It stands outside the product: it starts the binary as a child, backends and load in its own process, takes a backend
// away and gives it back, waits until the queues are empty, and compares the notes of all sides. Nothing on the data
// path knows it. Everything listens on loopback, in a directory of its own, and is gone when Run returns.
package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/loadgen"
	"github.com/holdfast-telemetry/holdfast/internal/mockbackend"
)

const (
	readyTimeout = 20 * time.Second
	// drainTimeout bounds the wait for empty queues after the load ended.
	drainTimeout = 60 * time.Second
	stopTimeout  = 30 * time.Second
	// controlTime is how long the run without a fault lasts.
	controlTime = 3 * time.Second
	// quiet is how long the backends are watched after the last item.
	quiet = 3 * time.Second
	// itemsPerSecond is modest, so that a laptop shows the outage and not its own limits.
	itemsPerSecond = 20_000
)

// Options say what to play.
type Options struct {
	Binary string        // the program to start
	Dir    string        // where configuration, logs and notes go; it must exist
	Load   time.Duration // how long telemetry is sent; the outage takes its second quarter and third
	Events io.Writer     // one line per event
}

// Outage plays a fan-out to two backends of which one is refused for a third of the time, after a short control run
// without the fault, and returns the ledger's verdict.
func Outage(ctx context.Context, o Options) (*ledger.Verdict, error) {
	d := &drill{o: o, began: time.Now()}
	d.event("control: the same without an outage, %s", controlTime)
	control, err := d.run(ctx, "control", controlTime, false)
	if err != nil {
		return nil, fmt.Errorf("control run: %w", err)
	}
	if control.Outcome != ledger.Pass {
		return control, nil
	}
	d.control = control
	d.event("control: %s", control.Outcome)
	return d.run(ctx, "outage", o.Load, true)
}

type drill struct {
	o       Options
	began   time.Time
	control *ledger.Verdict
}

func (d *drill) event(format string, args ...any) {
	fmt.Fprintf(d.o.Events, "%6.1f s  %s\n", time.Since(d.began).Seconds(), fmt.Sprintf(format, args...))
}

// run plays one run in a directory of its own.
func (d *drill) run(ctx context.Context, name string, length time.Duration, outage bool) (*ledger.Verdict, error) {
	dir := filepath.Join(d.o.Dir, name)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	primary, err := mockbackend.Start(mockbackend.Options{Name: "primary", GRPC: "127.0.0.1:0", Dir: dir})
	if err != nil {
		return nil, err
	}
	defer primary.Stop() //nolint:errcheck // stopped below, where the error counts
	secondary, err := mockbackend.Start(mockbackend.Options{Name: "secondary", GRPC: "127.0.0.1:0", Dir: dir})
	if err != nil {
		return nil, err
	}
	defer secondary.Stop() //nolint:errcheck // stopped below, where the error counts

	child, err := d.start(ctx, dir, primary.GRPCAddr(), secondary.GRPCAddr())
	if err != nil {
		return nil, err
	}
	defer child.kill()
	if outage {
		d.event("holdfast runs (pid %d), OTLP on %s, metrics on http://%s/metrics", child.pid(), child.otlp, child.metrics)
	}
	metrics, err := d.play(ctx, dir, name, length, outage, child, primary)
	if err != nil {
		return nil, err
	}
	code, err := child.stop(stopTimeout)
	if err != nil {
		return nil, err
	}
	if outage {
		d.event("holdfast stopped, exit code %d", code)
	}
	if err := errors.Join(primary.Stop(), secondary.Stop()); err != nil {
		return nil, err
	}
	return d.judge(dir, metrics)
}

// play sends, takes the primary away and gives it back, and returns the product's own books when all is quiet.
func (d *drill) play(ctx context.Context, dir, run string, length time.Duration, outage bool, c *child, primary *mockbackend.Backend) (*ledger.Metrics, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if outage {
		d.event("load: %d items/s of traces, metrics and logs for %s", itemsPerSecond, length)
		script := make(chan struct{})
		go func() { // ends with ctx, and is waited for
			defer close(script)
			d.script(ctx, length, c, primary)
		}()
		defer func() { <-script }()
		defer cancel()
	}
	sum, err := loadgen.Run(ctx, loadgen.Options{
		Run: run, Dir: dir, To: []string{"grpc://" + c.otlp}, For: length, Rate: itemsPerSecond,
		Producers: 2, Items: 200, ItemBytes: 200, Want: "each:primary,secondary",
	})
	if err != nil {
		return nil, err
	}
	if outage {
		d.event("load ended: %d items acknowledged, answers p50 %.1f ms, p99 %.1f ms, max %.1f ms",
			sum.Acked, sum.P50, sum.P99, sum.Max)
	}
	m, err := d.awaitEmpty(ctx, c)
	if err != nil {
		return nil, err
	}
	if outage {
		d.event("backlog drained, everything is quiet")
	}
	return m, nil
}

// script is the outage.
func (d *drill) script(ctx context.Context, length time.Duration, c *child, primary *mockbackend.Backend) {
	if !wait(ctx, length/4) {
		return
	}
	id, err := primary.AddFault("refuse")
	if err != nil {
		d.event("primary could not be stopped: %v", err)
		return
	}
	d.event("OUTAGE: primary refuses connections")
	for range 3 {
		if !wait(ctx, length/9) {
			return
		}
		d.event("during the outage: %s", c.summary(ctx))
	}
	primary.RemoveFault(id)
	d.event("primary is back; %s", c.summary(ctx))
}

func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// awaitEmpty waits until the product says that nothing is queued and nothing has arrived for a while.
func (d *drill) awaitEmpty(ctx context.Context, c *child) (*ledger.Metrics, error) {
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	for emptySince := (time.Time{}); ; {
		m, err := c.books(ctx)
		if err != nil {
			return nil, err
		}
		var queued, accepted int64
		for _, b := range m.Books() {
			queued += b.Queued
			accepted += b.Accepted
		}
		switch {
		case queued > 0 || accepted == 0:
			emptySince = time.Time{}
		case emptySince.IsZero():
			emptySince = time.Now()
		case time.Since(emptySince) > quiet:
			return m, nil
		}
		if !wait(ctx, 100*time.Millisecond) {
			return nil, fmt.Errorf("%d items are still queued after %s", queued, drainTimeout)
		}
	}
}

func (d *drill) judge(dir string, m *ledger.Metrics) (*ledger.Verdict, error) {
	notes, err := ledger.Read(dir)
	if err != nil {
		return nil, err
	}
	v, err := ledger.Verify(notes, ledger.Options{
		Metrics: m, QuietFor: quiet, Control: d.control, NoControl: d.control == nil,
	})
	if err != nil {
		return nil, err
	}
	return v, v.Write(dir)
}

var client = &http.Client{Timeout: 5 * time.Second}
