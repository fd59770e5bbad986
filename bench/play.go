// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/holdfast-telemetry/holdfast/bench/load"
	"github.com/holdfast-telemetry/holdfast/bench/sink"
)

const (
	// warmup is how long is sent before the measurement begins: connections, pools and heap have their size then.
	warmup = time.Second
	// drainTimeout bounds the wait for what is queued after the producer has ended.
	drainTimeout = 60 * time.Second
	// settle is how long no item may arrive before the sinks' counts are taken for final.
	settle = 300 * time.Millisecond
	// cacheMisses counts the records that Holdfast's queue did not have in memory any more when it was their turn.
	cacheMisses = "holdfast_journal_cache_misses_total"
)

// length says how long a run takes.
type length struct{ sending, quiet time.Duration }

// A result is what one run has shown.
type result struct {
	cpu       time.Duration // of the measured part: while sending, until drained
	wall      time.Duration // of sending
	items     int64         // acknowledged in the measured part
	resident  int64         // bytes, at the end
	peak      int64         // bytes, of the whole run
	payload   int64         // bytes of the acknowledged requests on the wire, in the measured part
	written   int64         // bytes to storage, in the measured part
	read      int64         // bytes from storage, in the measured part
	misses    int64         // records the queue read back, of the whole run, as Holdfast says; −1 = it does not
	refused   int64         // requests sent again
	acked     int64         // items of the whole run
	unknown   int64         // items without a definite answer
	delivered []int64       // items, of the whole run, by sink
}

// lost and extra compare what was acknowledged with what each sink has. What was never answered may have arrived.
func (r result) lost() int64 {
	worst := int64(0)
	for _, d := range r.delivered {
		worst = max(worst, r.acked-d)
	}
	return worst
}

func (r result) extra() int64 {
	worst := int64(0)
	for _, d := range r.delivered {
		worst = max(worst, d-r.acked-r.unknown)
	}
	return worst
}

// perMillion is CPU-seconds per million items.
func (r result) perMillion() float64 { return r.cpu.Seconds() / float64(r.items) * 1e6 }

func (r result) writtenPerByte() float64 { return float64(r.written) / float64(max(r.payload, 1)) }

// reads is what was read from storage: as the kernel counts it, and as Holdfast's queue does, if it does.
func (r result) reads() string {
	text := fmt.Sprintf("%.1f MB", mega(r.read))
	if r.misses >= 0 {
		text += fmt.Sprintf(" (%d records)", r.misses)
	}
	return text
}

func (r result) String() string {
	if r.items == 0 {
		return fmt.Sprintf("%.1f MB resident, %.1f MB peak", mega(r.resident), mega(r.peak))
	}
	text := fmt.Sprintf("%.2f CPU-s per million items, %.0f k items/s, %.0f MB peak, written %.3f per byte, read %s, "+
		"acknowledged %d, at the sinks %d", r.perMillion(), float64(r.items)/r.wall.Seconds()/1e3, mega(r.peak),
		r.writtenPerByte(), r.reads(), r.acked, r.delivered)
	if r.refused > 0 {
		text += fmt.Sprintf(", %d requests refused and sent again", r.refused)
	}
	if r.lost() > 0 {
		text += fmt.Sprintf(" LOST %d", r.lost())
	}
	if r.extra() > 0 {
		text += fmt.Sprintf(" EXTRA %d", r.extra())
	}
	return text
}

func mega(n int64) float64 { return float64(n) / 1e6 }

// play runs one system once through a case.
func play(ctx context.Context, c benchCase, s system, where string, l length, logs bool) (r result, err error) {
	configuration, err := configurations.ReadFile("cases/" + c.files[s.file])
	if err != nil {
		return r, err
	}
	dir, err := os.MkdirTemp(where, "run-")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(dir)

	var sinks []*sink.Sink
	var addrs []string
	for range c.sinks {
		k, err := sink.Start()
		if err != nil {
			return r, err
		}
		defer k.Stop()
		sinks, addrs = append(sinks, k), append(addrs, k.Addr())
	}
	p, err := launch(ctx, s, configuration, dir, addrs, logs)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()

	if c.load.InFlight == 0 {
		if err := rest(ctx, p, l.quiet); err != nil {
			return r, err
		}
		u, err := p.usage()
		r.resident, r.peak, r.cpu = u.resident, u.peak, u.cpu
		return r, err
	}
	return measure(ctx, c, p, sinks, l.sending)
}

func measure(ctx context.Context, c benchCase, p *process, sinks []*sink.Sink, sending time.Duration) (r result, err error) {
	l, err := load.New(p.in, c.load)
	if err != nil {
		return r, err
	}
	defer l.Close()
	if _, err := send(ctx, l, sinks, warmup); err != nil {
		return r, fmt.Errorf("%w\n%s", err, p.log)
	}
	before, err := p.usage()
	if err != nil {
		return r, err
	}
	counted := l.Counts()
	if r.wall, err = send(ctx, l, sinks, sending); err != nil {
		return r, fmt.Errorf("%w\n%s", err, p.log)
	}
	after, err := p.usage()
	if err != nil {
		return r, fmt.Errorf("%w\n%s", err, p.log)
	}
	counts := l.Counts()
	r.cpu, r.written, r.read = after.cpu-before.cpu, after.written-before.written, after.read-before.read
	r.items, r.refused = counts.Acked-counted.Acked, counts.Refused-counted.Refused
	r.payload = r.items / int64(c.load.Spans) * int64(l.RequestBytes())
	if r.misses, err = p.sum(ctx, cacheMisses); err != nil {
		return r, err
	}
	r.resident, r.peak = after.resident, after.peak
	r.acked, r.unknown = counts.Acked, counts.Unknown
	for _, k := range sinks {
		r.delivered = append(r.delivered, k.Items())
	}
	if r.items == 0 {
		return r, fmt.Errorf("nothing was acknowledged\n%s", p.log)
	}
	return r, nil
}

// send lets the producer run for d and waits until the sinks have what was acknowledged, or no longer move. It returns
// how long the producer ran, its last answers included.
func send(ctx context.Context, l *load.Loader, sinks []*sink.Sink, d time.Duration) (time.Duration, error) {
	began := time.Now()
	limit, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	if err := l.Run(limit); err != nil {
		return 0, err
	}
	took := time.Since(began)
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	return took, drain(ctx, l.Counts().Acked, sinks)
}

// drain waits until nothing has arrived at any sink for a while, and everything acknowledged is there or the time is up.
// What is missing then is for the caller to report.
func drain(ctx context.Context, acked int64, sinks []*sink.Sink) error {
	limit := time.Now().Add(drainTimeout)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	last, moved := int64(-1), time.Now()
	for {
		sum, complete := int64(0), true
		for _, k := range sinks {
			n := k.Items()
			sum, complete = sum+n, complete && n >= acked
		}
		now := time.Now()
		if sum != last {
			last, moved = sum, now
		}
		if complete && now.Sub(moved) >= settle || now.After(limit) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// rest waits, and notices when the process ends.
func rest(ctx context.Context, p *process, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-p.done:
		return fmt.Errorf("ended while idle: %w\n%s", errors.Join(p.err), p.log)
	case <-time.After(d):
		return nil
	}
}
