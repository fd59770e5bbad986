// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package seedbed runs the seeds' failover configurations as they are written: the real binary as a process between a
// numbered load and two backends that can be told what to do wrong, over any number of its lives, judged by the ledger.
//
// It stands around the product, for tests that drive real processes (test/e2e, test/matrix). Only addresses and paths of
// a configuration are redirected, on the command line; the backends speak TLS with certificates the process trusts,
// because the seeds verify. What the seeds leave out so that all three signals flow is added in a file beside them. Load
// and backends are in the caller's process, which is never the victim. It promises to leave no process and no listener
// behind after Close, and refuses to know what is right: callers judge.
package seedbed

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/loadgen"
	"github.com/holdfast-telemetry/holdfast/internal/mockbackend"
)

// Names of the places in the ledger's notes.
const (
	Primary   = "primary"
	Secondary = "secondary"
	Emergency = "emergency"
)

// guardPort marks a loopback address as taken by one bed. No configuration listens there.
const guardPort = "65001"

// Options say what is run.
type Options struct {
	Binary string // of holdfast
	Root   string // of the repository: the seeds are in test/compat/seeds
	Dir    string // an empty directory; everything is written below it
	Seed   Seed
	Sets   []string // further KEY=VALUE, behind the redirections
	More   string   // further configuration, YAML, behind the seed's
	// CountOnly backends take no notes, and no ledger can judge.
	CountOnly bool
}

// Bed is one collector between a load and two backends. Its methods are for one goroutine, unless they say otherwise.
type Bed struct {
	o                  Options
	Host               string // a loopback address of its own: every port is free
	Primary, Secondary *mockbackend.Backend
	Lives              int

	args  []string
	guard net.Listener
	p     *Process
	loads []*Load
}

// New starts the backends; no collector runs yet.
func New(o Options) (*Bed, error) {
	b := &Bed{o: o}
	if err := b.prepare(); err != nil {
		return nil, errors.Join(fmt.Errorf("seedbed: %w", err), b.Close())
	}
	return b, nil
}

func (b *Bed) prepare() (err error) {
	if b.o.Dir, err = filepath.Abs(b.o.Dir); err != nil {
		return err
	}
	for _, dir := range []string{b.Notes(), b.state()} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return err
		}
	}
	if b.Host, b.guard, err = ownHost(); err != nil {
		return err
	}
	if b.Primary, err = b.sink(Primary, "14317"); err != nil {
		return err
	}
	if b.Secondary, err = b.sink(Secondary, "24317"); err != nil {
		return err
	}
	ca := append(append([]byte{}, b.Primary.CA()...), b.Secondary.CA()...)
	if err := os.WriteFile(b.ca(), ca, 0o600); err != nil {
		return err
	}
	b.args, err = b.configure()
	return err
}

func (b *Bed) sink(name, port string) (*mockbackend.Backend, error) {
	o := mockbackend.Options{Name: name, GRPC: net.JoinHostPort(b.Host, port), TLS: true, CountOnly: b.o.CountOnly}
	if !b.o.CountOnly {
		o.Dir = b.Notes()
	}
	return mockbackend.Start(o)
}

// ownHost finds a loopback address that no other bed uses while the guard is open.
func ownHost() (string, net.Listener, error) {
	for range 100 {
		host := fmt.Sprintf("127.%d.%d.%d", 10+rand.IntN(90), rand.IntN(256), 1+rand.IntN(254)) //nolint:gosec // no secret
		if guard, err := net.Listen("tcp", net.JoinHostPort(host, guardPort)); err == nil {     //nolint:noctx // at once
			return host, guard, nil
		}
	}
	return "", nil, errors.New("no loopback address is free")
}

// Notes is the directory of the ledger's notes.
func (b *Bed) Notes() string { return filepath.Join(b.o.Dir, "notes") }

// Queue is the directory of the collector's queue.
func (b *Bed) Queue() string { return filepath.Join(b.o.Dir, "queue") }

// EmergencyFiles are the files of seed A's last level, whatever they are called by now.
func (b *Bed) EmergencyFiles() []string {
	files, _ := filepath.Glob(filepath.Join(b.o.Dir, "emergency", "telemetry*.jsonl")) // the pattern is good
	return files
}

func (b *Bed) state() string     { return filepath.Join(b.o.Dir, "state") }
func (b *Bed) ca() string        { return filepath.Join(b.o.Dir, "ca.pem") }
func (b *Bed) door() string      { return net.JoinHostPort(b.Host, "4317") }
func (b *Bed) metrics() string   { return net.JoinHostPort(b.Host, "8888") }
func (b *Bed) emergency() string { return filepath.Join(b.o.Dir, "emergency", "telemetry.jsonl") }

// Close ends everything that still runs. It is idempotent.
func (b *Bed) Close() error {
	for _, l := range b.loads {
		l.cancel()
		l.done.Wait()
	}
	if b.p != nil {
		b.p.Kill()
	}
	var errs []error
	for _, s := range b.sinks() {
		errs = append(errs, s.Stop())
	}
	if b.guard != nil {
		_ = b.guard.Close() // it was open, or is closed already
	}
	return errors.Join(errs...)
}

func (b *Bed) sinks() []*mockbackend.Backend {
	var out []*mockbackend.Backend
	for _, s := range []*mockbackend.Backend{b.Primary, b.Secondary} {
		if s != nil {
			out = append(out, s)
		}
	}
	return out
}

// Load is a load under way.
type Load struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
	sum    loadgen.Summary
	err    error
}

// Load sends to the collector in the background. Without a number of requests it goes on until it is stopped. What got no
// answer is sent again, over restarts of the collector.
func (b *Bed) Load(o loadgen.Options) *Load {
	if !b.o.CountOnly {
		o.Dir = b.Notes()
	}
	if o.Want == "" {
		o.Want = "any"
	}
	if o.To == nil {
		o.To = []string{"grpc://" + b.door()}
	}
	if o.Requests == 0 && o.For == 0 {
		o.For = time.Hour
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &Load{cancel: cancel}
	l.done.Go(func() { l.sum, l.err = loadgen.Run(ctx, o) })
	b.loads = append(b.loads, l)
	return l
}

// Stop ends the load and says what was sent.
func (l *Load) Stop() (loadgen.Summary, error) {
	l.cancel()
	return l.Wait()
}

// Wait waits for the load's own end.
func (l *Load) Wait() (loadgen.Summary, error) {
	l.done.Wait()
	return l.sum, l.err
}

// Control is a short run without a fault on a bed of its own, which has to pass: else a run with one proves nothing.
func Control(ctx context.Context, o Options) (*ledger.Verdict, error) {
	b, err := New(o)
	if err != nil {
		return nil, err
	}
	defer b.Close() //nolint:errcheck // what matters was judged
	if err := b.Start(ctx); err != nil {
		return nil, err
	}
	if _, err := b.Load(loadgen.Options{Run: "control", Requests: 5, Producers: 1, Items: 200, ItemBytes: 100}).Wait(); err != nil {
		return nil, err
	}
	if err := b.Drained(ctx); err != nil {
		return nil, err
	}
	v, _, err := b.Judge(ctx, ledger.Options{})
	if err == nil && v.Outcome != ledger.Pass {
		err = fmt.Errorf("control run:\n%s", v.Text())
	}
	return v, err
}
