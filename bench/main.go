// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Command bench runs Holdfast and the reference collector side by side and prints one table.
//
// Each case is played in rounds that alternate between the two, with the same producer, the same sinks and, where the
// case can be said in both, the same file. What counts is CPU time per item; a run in which what was acknowledged is not
// what arrived prints LOST or EXTRA and fails.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := bench(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(ctx context.Context) error {
	var (
		quick     = flag.Bool("quick", false, "one short round per case: a first look, not a measurement")
		rounds    = flag.Int("rounds", 3, "rounds per case; in each every system runs once")
		seconds   = flag.Duration("for", 5*time.Second, "how long each run sends")
		quiet     = flag.Duration("quiet", 10*time.Second, "how long an idle run waits before it is sampled")
		only      = flag.String("run", "", "only the cases whose name matches this expression")
		reference = flag.String("reference", "bin/reference", "the reference collector; built if it is not there")
		candidate = flag.String("holdfast", "", "a holdfast binary; built from the sources beside if empty")
		where     = flag.String("dir", "bin", "where temporary directories are made: on the disk that is meant")
		accept    = flag.Bool("accept", false, "fail when a target of the release is missed")
		logs      = flag.Bool("logs", false, "let the collectors log to stderr")
	)
	flag.Parse()
	if *quick {
		*rounds, *seconds, *quiet = 1, 2*time.Second, 3*time.Second
	}
	match, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	systems, err := prepare(ctx, *reference, *candidate)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(*where, 0o755); err != nil {
		return err
	}
	if *where, err = filepath.Abs(*where); err != nil {
		return err
	}
	table := newTable(systems, *where)
	for _, c := range cases {
		if !match.MatchString(c.name) {
			continue
		}
		for round := range *rounds {
			for i, s := range systems {
				r, err := play(ctx, c, c.system(i, systems), *where, length{sending: *seconds, quiet: *quiet}, *logs)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", c.name, c.label(i, systems), err)
				}
				progress("%s, round %d of %d, %s: %s", c.name, round+1, *rounds, c.label(i, systems), r)
				table.add(c, s, r)
			}
		}
	}
	fmt.Print(table)
	missed := table.missed()
	for _, m := range missed {
		progress("target missed: %s", m)
	}
	if err := table.verdict(); err != nil || !*accept {
		return err
	}
	if len(missed) > 0 {
		return fmt.Errorf("%d targets missed", len(missed))
	}
	return nil
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}
