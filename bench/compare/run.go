// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"time"
)

const (
	readyTimeout = 20 * time.Second
	// calm is how long nothing may move after everything has arrived; patience is how long when something is missing:
	// longer than the guide's batch timeout (5 s), its longest backoff, and the probing of a backend that was gone.
	calm     = time.Second
	patience = 8 * time.Second
	// drainTimeout bounds the wait for an empty queue at the end of a run, settleTimeout before that.
	drainTimeout  = 40 * time.Second
	settleTimeout = 10 * time.Second
	// watched is how long the backend is watched after the collector has ended.
	watched = 2500 * time.Millisecond
)

// A run is one system in one scenario.
type run struct {
	scenario scenario
	system   system
	tools    string // the holdfast binary
	guide    string
	dir      string // of this run
	out      outcome

	notes     string // directory of the ledger's notes
	disk      string // mount point; empty = none
	in        string // where the collector listens
	metrics   string // where its metrics are
	children  guarded
	collector *child
	starts    int
	load      *child
	backend   *backend
}

// play is the run from beginning to verdict.
func (r *run) play(ctx context.Context) (err error) {
	defer r.children.killAll()
	r.notes = filepath.Join(r.dir, "notes")
	storage := filepath.Join(r.dir, "queue")
	if err := os.MkdirAll(r.notes, 0o755); err != nil {
		return err
	}
	if r.scenario.disk {
		disk, unmount, err := mountDisk(ctx, r.dir)
		if err != nil {
			return err
		}
		defer unmount()
		defer r.children.killAll() // before
		r.disk, storage = disk, filepath.Join(disk, "queue")
	}
	// The guide's directory is a volume that is there.
	if err := os.MkdirAll(storage, 0o755); err != nil {
		return err
	}
	if r.in, err = freeAddr(); err != nil {
		return err
	}
	if r.metrics, err = freeAddr(); err != nil {
		return err
	}
	if r.backend, err = r.startBackend(ctx); err != nil {
		return err
	}
	limit := r.scenario.limitMiB
	if limit == 0 {
		limit = guideLimitMiB
	}
	changes := r.scenario.changes
	if r.system.hardened != nil {
		changes = r.system.hardened
	}
	text, err := adapt(r.guide, places(r.in, r.backend.addr, r.metrics, storage), shortened, changes, []change{r.system.limit(limit)})
	if err != nil {
		return err
	}
	if err := os.WriteFile(r.config(), []byte(text), 0o644); err != nil {
		return err
	}
	if err := steps(ctx, r.start, func(ctx context.Context) error { return r.scenario.script(ctx, r) }, r.quiet, r.sent, r.stop,
		pause(watched)); err != nil {
		return err
	}
	if err := r.backend.stop(ctx); err != nil {
		return err
	}
	return r.judge(ctx)
}

func (r *run) config() string { return filepath.Join(r.dir, "config.yaml") }

// errDead says that the collector ended by itself.
var errDead = errors.New("the collector ended before it listened")

// start starts the collector and waits until it listens: both open their receivers last.
func (r *run) start(ctx context.Context) error {
	began := time.Now()
	c, err := spawn(r.dir, "collector", r.system.binary, append([]string{"--config", r.config()}, r.system.args...),
		[]string{"HOLDFAST_STATE_DIR=" + filepath.Join(r.dir, "state")})
	if err != nil {
		return err
	}
	r.children.add(c)
	r.collector = c
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		if conn, err := net.Dial("tcp", r.in); err == nil {
			conn.Close()
			break
		}
		if c.ended() {
			return errDead
		}
		if err := pause(20 * time.Millisecond)(ctx); err != nil {
			return fmt.Errorf("the collector does not listen: %w", err)
		}
	}
	if r.starts++; r.starts > 1 {
		return r.noteRestart(began)
	}
	return nil
}

// end ends the collector by a signal.
func (r *run) end(ctx context.Context, s syscall.Signal) error {
	began := time.Now()
	if err := r.collector.end(ctx, s); err != nil {
		if ctx.Err() != nil {
			return err
		}
		r.remark("had to be killed after " + endTime.String()) // it goes on: what is lost by that counts
	}
	if took := time.Since(began); took > time.Second && took < endTime {
		r.remark(fmt.Sprintf("took %.0f s to stop", took.Seconds()))
	}
	return nil
}

// remark adds something the table has to say of this run.
func (r *run) remark(text string) { r.out.remarks = append(r.out.remarks, text) }

func (r *run) fault(text string) step {
	return func(ctx context.Context) error { return r.backend.setFaults(ctx, text) }
}

// heal makes the backend well.
func (r *run) heal(ctx context.Context) error { return r.backend.setFaults(ctx) }

// makeRoom deletes what somebody else wrote.
func (r *run) makeRoom(context.Context) error { return os.Remove(ballast(r.disk)) }

var diskFull = regexp.MustCompile(`(?i)no space left|\bfull\b`)

// mustBeFull fails unless the collector has met the end of the disk: without that the run shows nothing.
func (r *run) mustBeFull(context.Context) error {
	text, err := os.ReadFile(r.collector.log)
	if err == nil && !diskFull.Match(text) {
		err = errors.New("the disk did not get full")
	}
	return err
}

// quiet waits for the end: the queue is empty, and everything acknowledged has arrived, or nothing new for long enough.
// Where the queue does not get empty, the table says so.
func (r *run) quiet(ctx context.Context) error {
	queued, err := r.still(ctx, drainTimeout)
	if queued > 0 {
		r.remark(fmt.Sprintf("%.0f requests still queued after %s", queued, drainTimeout))
	}
	return err
}

// settle gives the collector some time before something else is done.
func (r *run) settle(ctx context.Context) error {
	_, err := r.still(ctx, settleTimeout)
	return err
}

// still waits until nothing moves any more, and returns what is queued if that did not happen in time.
func (r *run) still(ctx context.Context, timeout time.Duration) (float64, error) {
	limit, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	last, moved := "", time.Now()
	for {
		queued, queuedErr := r.queued(ctx)
		stored, err := r.backend.stored(ctx)
		if err != nil {
			return 0, err
		}
		if now := fmt.Sprint(queued, stored); now != last {
			last, moved = now, time.Now()
		}
		still := time.Since(moved)
		if queuedErr == nil && queued == 0 {
			if sum, ended := r.summary(); ended && stored >= sum.Acked && still > calm || still > patience {
				return 0, nil
			}
		}
		if pause(100*time.Millisecond)(limit) != nil {
			return queued, errors.Join(ctx.Err(), queuedErr)
		}
	}
}

// logTail is what the collector said last.
func (r *run) logTail() string {
	var b bytes.Buffer
	for _, name := range []string{"collector", "load", "backend"} {
		if text := tail(filepath.Join(r.dir, name+".log")); text != "" {
			fmt.Fprintf(&b, "--- %s:\n%s\n", name, text)
		}
	}
	return b.String()
}
