// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package crash

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// start sets the appenders and consumers to work.
func (c *child) start() {
	for range c.Appenders {
		c.work.Go(c.appendAll)
	}
	for i, name := range c.Destinations {
		if how := c.Consumers[name]; how != "" {
			random := rand.New(rand.NewPCG(c.Seed, uint64(i))) //nolint:gosec // outcomes, not secrets
			c.work.Go(func() { c.consume(name, how, random) })
		}
	}
}

// appendAll appends records and tells the number of each that was acknowledged, or that it was refused and why.
func (c *child) appendAll() {
	for c.appending.pass(c.ctx) {
		if c.Bytes > 0 && c.bytes.Load() >= c.Bytes {
			c.filled.Do(func() { say("filled") })
			return
		}
		if c.Backlog > 0 && c.behind() {
			c.wait(time.Millisecond)
			continue
		}
		n := int(c.next.Add(1)) - 1
		r := recordOf(n, c.Size)
		size := int64(len(r.Body))
		err := c.journal.Append(c.ctx, r)
		switch {
		case err == nil && c.Bytes > 0:
			c.bytes.Add(size)
		case err == nil:
			say("a %d %d", n, ticks())
		default:
			say("x %d %d %s %s", n, ticks(), cause(err), oneLine(err))
			c.wait(10 * time.Millisecond)
		}
	}
}

// cause is the kind of a refusal in a word.
func cause(err error) string {
	var full *queue.FullError
	switch {
	case errors.As(err, &full):
		return "full:" + full.Limit
	case errors.Is(err, queue.ErrBusy):
		return "busy"
	case errors.Is(err, queue.ErrDisk):
		return "disk"
	case errors.Is(err, queue.ErrClosed):
		return "closed"
	case errors.Is(err, context.Canceled):
		return "canceled"
	}
	return "other"
}

func (c *child) behind() bool {
	for _, cur := range c.cursors {
		if cur.Fill().Records > int64(c.Backlog) {
			return true
		}
	}
	return false
}

func (c *child) wait(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.ctx.Done():
	}
}

func together(_, _ *queue.Record) bool { return true }

// consume takes what a destination is owed and resolves it, telling before and after:
//
//	all    acknowledges everything at once
//	most   acknowledges most, nacks some, releases some, holds some back for a while, rejects a few for good
//	lag    as most, but lets a backlog grow first
func (c *child) consume(name, how string, random *rand.Rand) {
	cur := c.journal.Attach(name)
	defer cur.Close()
	e := &eater{child: c, name: name, cur: cur, random: random, all: how == "all", letters: c.Letters}
	for c.consuming.pass(c.ctx) {
		if how == "lag" && cur.Fill().Records < int64(c.Backlog)/2 && !e.feasting {
			c.wait(5 * time.Millisecond)
			continue
		}
		e.feasting = cur.Fill().Records > int64(c.Backlog)/10
		if !e.meal() {
			return
		}
	}
}

// eater is one consumer at work.
type eater struct {
	*child
	name     string
	cur      queue.Cursor
	random   *rand.Rand
	all      bool
	feasting bool
	letters  int // dead letters it may still make
	held     []queue.Delivered
}

// meal takes one batch. False: the queue is closed.
func (e *eater) meal() bool {
	ctx, cancel := context.WithTimeout(e.ctx, 50*time.Millisecond)
	got, err := e.cur.Take(ctx, queue.Want{Sizer: queue.Bytes, Max: 256 << 10, MaxBytes: 256 << 10, Joins: together})
	cancel()
	if err != nil {
		if e.ctx.Err() != nil || errors.Is(err, queue.ErrClosed) {
			return false
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			say("wrong take of %s: %s", e.name, oneLine(err))
		}
	}
	if len(e.held) > 500 || err != nil {
		e.resolve(queue.Outcome{Kind: queue.Ack}, e.held)
		e.held = nil
	}
	var acks, nacks, releases []queue.Delivered
	for _, d := range got {
		if _, err := numberOf(&d.Record, e.Size); err != nil {
			say("wrong %s was given %s", e.name, oneLine(err))
			continue
		}
		switch dice := e.random.IntN(100); {
		case e.all || dice < 85:
			acks = append(acks, d)
		case dice < 92:
			nacks = append(nacks, d)
		case dice < 96:
			releases = append(releases, d)
		case dice == 96 && e.letters > 0 && len(d.Body) < 4<<10:
			e.letters--
			e.resolve(queue.Outcome{Kind: queue.Dead, Reason: "refused by the test"}, []queue.Delivered{d})
		default:
			e.held = append(e.held, d)
		}
	}
	e.resolve(queue.Outcome{Kind: queue.Ack}, acks)
	e.resolve(queue.Outcome{Kind: queue.Nack, Delay: time.Duration(1+e.random.IntN(30)) * time.Millisecond}, nacks)
	e.resolve(queue.Outcome{Kind: queue.Release}, releases)
	return true
}

// resolve ends leases. What is final is told before, since a crash may find it done or not, and after.
func (e *eater) resolve(o queue.Outcome, list []queue.Delivered) {
	if len(list) == 0 {
		return
	}
	seqs := make([]queue.Seq, len(list))
	var numbers strings.Builder
	for i := range list {
		seqs[i] = list[i].Seq
		n, _ := numberOf(&list[i].Record, e.Size)
		fmt.Fprintf(&numbers, " %d %d", n, list[i].Seq)
	}
	final := o.Kind == queue.Ack || o.Kind == queue.Dead
	if final && e.Bytes == 0 {
		say("r %s%s", e.name, numbers.String())
	}
	err := e.cur.Resolve(o, seqs...)
	switch {
	case err != nil:
		say("u %s%s", e.name, numbers.String())
		say("unresolved %s: %s", e.name, oneLine(err))
	case o.Kind == queue.Dead:
		say("D %s %d%s", e.name, ticks(), numbers.String())
	case final && e.Bytes == 0:
		say("R %s %d%s", e.name, ticks(), numbers.String())
	}
}

// takeAll leases everything that every destination is owed, checks each byte of it and lets it go again: what is there,
// by destination and number. It needs a journal that nobody else takes from, with at most as many records as a cursor
// may lease.
func takeAll(ctx context.Context, j *journal.Journal, names []string, size int) (map[string]map[int]queue.Seq, error) {
	found := map[string]map[int]queue.Seq{}
	var errs []error
	for _, name := range names {
		list, err := takeAllOf(ctx, j.Attach(name), size)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		found[name] = list
	}
	return found, errors.Join(errs...)
}

func takeAllOf(ctx context.Context, cur queue.Cursor, size int) (map[int]queue.Seq, error) {
	defer cur.Close()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	list := map[int]queue.Seq{}
	var errs []error
	items := int64(0)
	for taken := int64(0); taken < cur.Fill().Records; { // what is leased counts, what cannot be read counts no more
		got, err := cur.Take(ctx, queue.Want{Sizer: queue.Bytes, MaxBytes: 1 << 20, Joins: together})
		if err != nil {
			return list, errors.Join(append(errs, fmt.Errorf("take: %w; %d records were there of %+v", err, taken, cur.Fill()))...)
		}
		for i := range got {
			taken++
			n, err := numberOf(&got[i].Record, size)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			if _, twice := list[n]; twice {
				errs = append(errs, fmt.Errorf("record %d is there twice, as %d and %d", n, list[n], got[i].Seq))
			}
			list[n] = got[i].Seq
			items += int64(itemsOf(n))
		}
	}
	if counted := cur.Fill().Items; counted != items {
		errs = append(errs, fmt.Errorf("the queue counts %d items, in its records are %d", counted, items))
	}
	return list, errors.Join(errs...)
}
