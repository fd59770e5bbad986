// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Command acceptance measures the journal against the disk it is on and prints the acceptance table of its
// specification (section 17).
//
// It stands beside the product, in its module because it measures one package alone; what runs whole processes side by
// side is bench. All figures are of this run on this machine: rounds alternate between the raw disk, a bare loop, the
// journal and, if its measuring program is given, the reference's file_storage, in directories next to each other.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	missed, err := accept(ctx)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "acceptance:", err)
		os.Exit(2)
	case missed > 0:
		fmt.Fprintf(os.Stderr, "acceptance: %d figures missed\n", missed)
		os.Exit(1)
	}
}

// options say how much is measured.
type options struct {
	dir     string // an empty directory on the disk that is meant
	bytes   int64  // payload of one measurement of appends
	backlog int64  // payload of the backlog that is opened and drained
	stock   string // program that measures the reference's file_storage; empty = left out
	stockIn time.Duration
}

func accept(ctx context.Context) (missed int, err error) {
	var (
		rounds  = flag.Int("rounds", 5, "rounds; in each everything is measured once")
		mib     = flag.Int64("mib", 128, "MiB of payload of each measurement of appends")
		backlog = flag.Int64("backlog-mib", 256, "MiB of the backlog that is opened and drained; a release measures 4096")
		where   = flag.String("dir", ".", "where the temporary directory is made: on the disk that is meant")
		stock   = flag.String("stock", "", "the program that measures the reference's file_storage (bench/stock)")
		stockIn = flag.Duration("stock-for", 2*time.Second, "how long each of its two measurements takes")
	)
	flag.Parse()
	parent, err := filepath.Abs(*where)
	if err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp(parent, "acceptance-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	o := options{dir: dir, bytes: *mib << 20, backlog: *backlog << 20, stock: *stock, stockIn: *stockIn}
	t := newTable(dir)
	for round := range *rounds {
		began := time.Now()
		if err := o.round(ctx, t, filepath.Join(dir, fmt.Sprint(round))); err != nil {
			fmt.Print(t) // what there is
			return 0, err
		}
		fmt.Fprintf(os.Stderr, "round %d of %d, %.0f s\n", round+1, *rounds, time.Since(began).Seconds())
	}
	fmt.Print(t)
	return len(t.missed()), nil
}

const (
	kib = 1 << 10
	// rawBytes is what the raw disk is given per write and sync.
	rawBytes = 800 * kib
	// recordBytes is the body of a record, unless a figure is about another.
	recordBytes = 100 * kib
)

// round measures everything once. Whatever a step leaves on the disk is removed before the next begins.
func (o options) round(ctx context.Context, t *table, dir string) error {
	for _, step := range []func(context.Context, *table, string) error{
		o.appends, o.written, o.beside, o.cold,
	} {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		if err := errors.Join(step(ctx, t, dir), os.RemoveAll(dir)); err != nil {
			return err
		}
	}
	return nil
}

// appends measures synced appends against the raw disk and a bare loop. Between them all lies as little time as can be, and
// the raw disk is measured before and after each: a disk that pays for what came before would flatter who is first.
func (o options) appends(ctx context.Context, t *table, dir string) error {
	var raw [3]measured
	disk := func(i int) (err error) {
		path := filepath.Join(dir, "raw")
		raw[i], err = writeRaw(path, o.bytes, rawBytes)
		return errors.Join(err, os.Remove(path))
	}
	if err := disk(0); err != nil {
		return err
	}
	eight, err := o.run(ctx, filepath.Join(dir, "8"), load{appenders: 8, size: recordBytes})
	if err != nil {
		return err
	}
	if err := disk(1); err != nil {
		return err
	}
	many, err := o.run(ctx, filepath.Join(dir, "64"), load{appenders: 64, size: recordBytes})
	if err != nil {
		return err
	}
	if err := disk(2); err != nil {
		return err
	}
	bare, err := writeBare(filepath.Join(dir, "bare"), o.bytes, recordBytes, eight.group())
	if err != nil {
		return err
	}
	t.add(figEight, eight.rate()/raw[0].and(raw[1]).rate())
	t.add(figMany, many.rate()/raw[1].and(raw[2]).rate())
	t.add(figCPU, eight.cpuPerByte()/bare.cpuPerByte())
	t.note("raw disk %.0f MB/s; 8 appenders %.0f MB/s in groups of %d; raw %.0f MB/s; 64 appenders %.0f MB/s in groups of %d; raw %.0f MB/s",
		raw[0].rate()/1e6, eight.rate()/1e6, eight.group(), raw[1].rate()/1e6, many.rate()/1e6, many.group(), raw[2].rate()/1e6)
	return nil
}

// written counts bytes at the border, on a healthy path: everything is delivered as it comes.
func (o options) written(ctx context.Context, t *table, dir string) error {
	var one float64
	for _, c := range []struct {
		figure       string
		size         int
		destinations int
	}{
		{figWritten16, 16 * kib, 1}, {figWritten100, recordBytes, 1}, {figThree, recordBytes, 3},
	} {
		r, err := o.run(ctx, filepath.Join(dir, c.figure), load{appenders: 8, size: c.size, destinations: c.destinations})
		if err != nil {
			return err
		}
		perByte := float64(r.disk.written.Load()) / float64(r.bytes)
		switch c.figure {
		case figThree:
			t.add(figThree, perByte/one)
		case figWritten100:
			one = perByte
			fallthrough
		default:
			t.add(c.figure, perByte)
		}
		t.add(figHealthyReads, float64(r.disk.read.Load()-r.opening))
	}
	return nil
}

// cold opens and drains a backlog that is only on the disk.
func (o options) cold(ctx context.Context, t *table, dir string) error {
	r, err := o.backlogged(ctx, dir)
	if err != nil {
		return err
	}
	t.add(figDrain, r.drain/r.sequential)
	t.add(figOpening, float64(r.opening)/float64(64<<20+40*kib*int64(r.segments)))
	t.note("sequential read %.0f MB/s, draining %.0f MB/s; opening read %.1f MB for %d segments, in %s", r.sequential/1e6,
		r.drain/1e6, float64(r.opening)/1e6, r.segments, r.opened.Round(time.Millisecond))
	return nil
}

// beside measures the journal and the reference's file_storage in turn, with as many who put.
func (o options) beside(ctx context.Context, t *table, dir string) error {
	if o.stock == "" {
		return nil
	}
	stock, err := o.runStock(ctx, filepath.Join(dir, "stock"))
	if err != nil {
		return err
	}
	put, err := o.run(ctx, filepath.Join(dir, "put"), load{appenders: 8, size: recordBytes})
	if err != nil {
		return err
	}
	cycle, err := o.run(ctx, filepath.Join(dir, "cycle"), load{appenders: 8, size: recordBytes, destinations: 1})
	if err != nil {
		return err
	}
	t.add(figPut, put.rate()/stock.Put)
	t.add(figCycle, cycle.rate()/stock.Cycle)
	t.note("file_storage %.1f MB/s put, %.1f MB/s put, delivered and acknowledged; journal %.0f and %.0f MB/s", stock.Put/1e6,
		stock.Cycle/1e6, put.rate()/1e6, cycle.rate()/1e6)
	return nil
}
