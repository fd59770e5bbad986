// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package main records what monitoring would have seen of real outages: `make record-outage`.
//
// It runs the real binary many times over, each between a light load and backends that are told what to do wrong, plays
// one outage with each, all at the same time, and scrapes every process once a second. What it writes is for
// test/alerts, which plays it to Prometheus' rule engine: the series of the alert rules and the dashboard as they were,
// and a line for everything that was done, with its time. It stands outside the product, and refuses to know which alert
// is right. Two series are not what a process showed: `up`, which is whether a scrape was answered, and the kubelet's
// count of restarts by its name in kube-state-metrics, which is how often the recorder, who starts the processes here,
// started one again.
//
//	outage.go        what is run, and the clock
//	room.go          the file system of all processes
//	collector.go     one process: its directory, its address, its lives
//	scrape.go        one scrape, and the recording
//	scenes.go        the outages, one by one: backends, configurations, doors
//	scenes_disk.go   those of disks: full, damaged, moved away, slow, failing
//	scenes_starts.go those of processes that end, and of a build that is wrong
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// every is the time between two scrapes.
const every = time.Second

func main() {
	binary := flag.String("holdfast", "bin/holdfast", "the binary")
	root := flag.String("root", ".", "the repository: its rules and its dashboard say which series are kept")
	out := flag.String("out", "test/alerts/testdata/outage.gz", "where the recording goes")
	only := flag.String("only", "", "scenes to play, with commas; empty = all")
	scrapes := flag.Int("scrapes", 300, "how many")
	dir := flag.String("dir", "", "where the processes have their files; empty = a file system of its own, in memory")
	flag.Parse()
	if room := os.Getenv(inRoom); room != "" && *dir == "" {
		if err := enter(room); err != nil {
			fail(err)
		}
		*dir = room
	} else if *dir == "" {
		code, err := again()
		if err != nil {
			fail(err)
		}
		os.Exit(code)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := record(ctx, *binary, *root, *dir, *out, *only, *scrapes); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "outage:", err)
	os.Exit(1)
}

func record(ctx context.Context, binary, root, dir, out, only string, scrapes int) error {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return err
	}
	keep, err := seriesOf(root)
	if err != nil {
		return err
	}
	dir, err = os.MkdirTemp(dir, "holdfast-outage-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r := &recording{keep: keep, series: map[string][]string{}, more: make(chan struct{})}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stage := &stage{root: root, rec: r, failed: make(chan error, len(scenes))}
	var all []*collector
	var playing sync.WaitGroup
	defer func() {
		cancel()
		playing.Wait()
		for _, c := range all {
			c.close()
		}
	}()
	for i, s := range scenes {
		if only != "" && !slices.Contains(strings.Split(only, ","), s.name) {
			continue
		}
		c, err := newCollector(ctx, stage, s.name, binary, filepath.Join(dir, s.name), i+1)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		all = append(all, c)
		if err := s.set(c); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		playing.Go(func() {
			if err := s.play(c); err != nil && ctx.Err() == nil {
				stage.failed <- fmt.Errorf("%s: %w", s.name, err)
			}
		})
	}
	if err := stage.scrape(ctx, all, scrapes); err != nil {
		return err
	}
	return r.write(out)
}

// stage is where all scenes are played, with one clock.
type stage struct {
	root   string // the repository
	rec    *recording
	failed chan error // room for one of each scene
}

// scrape asks every process once a second, all at the same time.
func (s *stage) scrape(ctx context.Context, all []*collector, scrapes int) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := range scrapes {
		select {
		case <-tick.C:
		case err := <-s.failed:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
		texts := make([]string, len(all))
		var asking sync.WaitGroup
		for i, c := range all {
			asking.Go(func() { texts[i] = c.ask(ctx) })
		}
		asking.Wait()
		s.rec.add(n, all, texts)
		if n%20 == 0 {
			fmt.Fprintf(os.Stderr, "%d of %d scrapes\n", n, scrapes)
		}
	}
	return nil
}
