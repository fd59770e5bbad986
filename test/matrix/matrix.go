// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Command matrix plays backend faults against both seeds' failover configurations, as they are written, and prints one
// table: what was acknowledged and lost, how soon data went to the next level, how soon it came home.
//
// It stands beside the product: the collector is the real binary as a process; load and backends are in this one, notes
// are taken outside of the process under test, and the ledger judges. It believes what the collector says of itself only
// where nothing else can be asked: that its queue is empty, when an attempt was refused, and when its log says it
// switched. A promise that is not kept is an error, and so is a run that shows nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/test/seedbed"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "matrix:", err)
		os.Exit(1)
	}
}

// runLimit bounds one run, whatever goes wrong in it.
const runLimit = 4 * time.Minute

// options are the flags.
type options struct {
	binary, root, dir, out string
	keep                   bool
	parallel               int
	match                  *regexp.Regexp
}

func run(ctx context.Context) error {
	var o options
	only := flag.String("run", "", "only the cases whose name matches this expression; -list shows them")
	list := flag.Bool("list", false, "print the names of all cases")
	flag.StringVar(&o.binary, "holdfast", "bin/holdfast", "the holdfast binary")
	flag.StringVar(&o.root, "root", ".", "the repository")
	flag.StringVar(&o.dir, "dir", "bin", "where the temporary directory is made")
	flag.StringVar(&o.out, "out", "", "a document whose table is replaced; empty: the table is only printed")
	flag.BoolVar(&o.keep, "keep", false, "keep logs, queues and notes of all runs; else only of those that failed")
	flag.IntVar(&o.parallel, "parallel", 8, "runs at the same time; they mostly wait; alone (1), nothing is taken off for want of a processor")
	backlog := flag.Int64("recover", 0, "instead of the cases: a backlog of so many MiB into a primary that takes only so much")
	capacity := flag.Int("capacity", 10000, "what that primary takes, in items per second; a fifth of it goes on arriving")
	batch := flag.Int("batch", 1000, "items of its batches; 8192 is what the guide's configuration makes")
	flag.Parse()
	var err error
	if o.match, err = regexp.Compile(*only); err != nil {
		return err
	}
	if *list {
		for _, c := range cases() {
			fmt.Printf("%-38s %s\n", c.name(), c.note)
		}
		return nil
	}
	if o.binary, err = filepath.Abs(o.binary); err != nil {
		return err
	}
	if o.dir, err = filepath.Abs(o.dir); err != nil {
		return err
	}
	if o.dir, err = os.MkdirTemp(o.dir, "matrix-"); err != nil {
		return err
	}
	if *backlog > 0 {
		return o.tidy(o.recovery(ctx, *backlog<<20, *capacity, *batch))
	}
	began := time.Now()
	t := table{binary: o.binary, results: o.play(ctx)}
	if err := ctx.Err(); err != nil {
		return errors.Join(err, os.RemoveAll(o.dir))
	}
	progress("%d cases in %s", len(t.results), time.Since(began).Round(time.Second))
	fmt.Print(t.String())
	if o.out != "" {
		if err := t.replaceIn(o.out); err != nil {
			return err
		}
	}
	return o.tidy(t.verdict())
}

// tidy removes what was written, unless it is asked for or needed.
func (o *options) tidy(err error) error {
	if err != nil || o.keep {
		progress("logs, queues and notes are in %s", o.dir)
		return err
	}
	return os.RemoveAll(o.dir)
}

// play plays all cases, several at a time, the longest first.
func (o *options) play(ctx context.Context) []*result {
	var todo []scenario
	for _, c := range cases() {
		if o.match.MatchString(c.name()) {
			todo = append(todo, c)
		}
	}
	controls := map[seedbed.Seed]*control{seedbed.A: {}, seedbed.B: {}}
	out := make([]*result, len(todo))
	slots := make(chan struct{}, max(o.parallel, 1))
	var wg sync.WaitGroup
	for i, c := range todo {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			out[i] = o.one(ctx, &result{scenario: c, raw: o.parallel == 1}, controls[c.seed])
			progress("%s", out[i])
		})
	}
	wg.Wait()
	return out
}

// control is a seed's run without a fault, made once.
type control struct {
	once    sync.Once
	verdict *ledger.Verdict
	err     error
}

func (o *options) one(ctx context.Context, r *result, good *control) *result {
	ctx, cancel := context.WithTimeout(ctx, runLimit)
	defer cancel()
	good.once.Do(func() {
		good.verdict, good.err = seedbed.Control(ctx, seedbed.Options{Binary: o.binary, Root: o.root, Seed: r.seed,
			Dir: filepath.Join(o.dir, "control-"+string(r.seed))})
	})
	r.began = time.Now()
	if r.err = good.err; r.err != nil {
		return r
	}
	dir := filepath.Join(o.dir, strings.Map(plain, r.name()))
	if r.err = os.Mkdir(dir, 0o750); r.err != nil {
		return r
	}
	b, err := seedbed.New(seedbed.Options{Binary: o.binary, Root: o.root, Dir: dir, Seed: r.seed})
	if err != nil {
		r.err = err
		return r
	}
	r.err = errors.Join(r.play(ctx, b, good.verdict), b.Close())
	if p := b.Process(); p != nil {
		_ = os.WriteFile(filepath.Join(dir, "collector.log"), []byte(p.Output()), 0o600) // for who wants to read it
	}
	if r.ok() && !o.keep {
		_ = os.RemoveAll(dir) // the whole directory is removed later
	}
	r.took = time.Since(r.began)
	return r
}

// plain keeps what is good in a file's name.
func plain(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
		return r
	}
	return '-'
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}
