// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Command compare plays the same faults against the reference collector and against Holdfast, with a public guide's
// configuration, and prints one table: what was acknowledged, what arrived, what was lost.
//
// Both are real processes. Load, backend and judgement are `holdfast load`, `sink` and `ledger verify`, processes of
// their own outside of what is tested: items are numbered, and the ledger compares what the senders were told with what
// the backend stored. Nothing here believes what a collector says about itself, except that its queue is empty.
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
)

func main() {
	ownMounts()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := compare(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

// runLimit bounds one run of one system, whatever goes wrong in it.
const runLimit = 100 * time.Second

func compare(ctx context.Context) error {
	var (
		reference = flag.String("reference", "bin/reference", "the reference collector (make bench builds it)")
		holdfast  = flag.String("holdfast", "../bin/holdfast", "the holdfast binary: tested, and load, sink and ledger of both")
		guideFile = flag.String("guide", "../test/compat/seeds/000-02-pod-crash-recovery-with-persistent-queues.yaml",
			"the public guide's configuration")
		only   = flag.String("run", "", "only the faults whose name matches this expression")
		system = flag.String("system", "", "only the systems whose name matches this expression")
		where  = flag.String("dir", "bin", "where the temporary directory is made")
		keep   = flag.Bool("keep", false, "keep configurations, logs and notes")
	)
	flag.Parse()
	match, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	matchSystem, err := regexp.Compile(*system)
	if err != nil {
		return err
	}
	guide, err := os.ReadFile(*guideFile)
	if err != nil {
		return err
	}
	systems, err := prepare(ctx, *reference, *holdfast, matchSystem)
	if err != nil {
		return err
	}
	parent, err := filepath.Abs(*where)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(parent, "compare-")
	if err != nil {
		return err
	}
	if *keep {
		progress("everything is kept in %s", dir)
	} else {
		defer os.RemoveAll(dir)
	}
	tools, err := filepath.Abs(*holdfast)
	if err != nil {
		return err
	}
	t := &table{systems: systems}
	for i, s := range scenarios {
		if !match.MatchString(s.name) {
			continue
		}
		t.add(s, play(ctx, s, systems, tools, string(guide), filepath.Join(dir, fmt.Sprint(i+1))))
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	fmt.Print(t)
	return t.verdict()
}

// play runs all systems through one scenario, at the same time: each has its own load and backend.
func play(ctx context.Context, s scenario, systems []system, tools, guide, dir string) []outcome {
	ctx, cancel := context.WithTimeout(ctx, runLimit)
	defer cancel()
	progress("%s", s.name)
	out := make([]outcome, len(systems))
	var wg sync.WaitGroup
	for i, sys := range systems {
		wg.Go(func() {
			began := time.Now()
			r := &run{scenario: s, system: sys, tools: tools, guide: guide, dir: filepath.Join(dir, strings.ReplaceAll(sys.name, ", ", "-"))}
			var skip *skipped
			if err := r.play(ctx); errors.As(err, &skip) {
				out[i] = outcome{skipped: skip.why}
			} else if err != nil {
				out[i] = outcome{err: fmt.Errorf("%w\n%s", err, r.logTail())}
			} else {
				out[i] = r.out
			}
			progress("%s, %s, %.0f s: %s", s.name, sys.name, time.Since(began).Seconds(), out[i])
		})
	}
	wg.Wait()
	return out
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}

// skipped is why a scenario cannot be played on this machine.
type skipped struct{ why string }

func (s *skipped) Error() string { return s.why }
