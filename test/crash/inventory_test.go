// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package crash

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// reopened is a journal opened in this process, after the child's end.
type reopened struct {
	*journal.Journal
	store  *journal.Store
	order  order
	events []journal.Event
}

// reopen opens what a child left.
func reopen(o order) (*reopened, error) {
	r := &reopened{order: o}
	opts := o.options()
	opts.OnEvent = func(e journal.Event) { r.events = append(r.events, e) }
	var err error
	if r.store, err = journal.OpenStore(context.Background(), vfs.OS(), opts); err != nil {
		return nil, err
	}
	if r.Journal, err = r.store.Head("traces", 1, o.wanted()); err != nil {
		return nil, errors.Join(err, r.store.Close(context.Background()))
	}
	return r, nil
}

func (r *reopened) books() []books {
	snap := r.Snapshot()
	return booksOf(&snap)
}

// inventory opens what a child left, takes everything that is there, lets the story judge it, and closes in order.
func inventory(t *testing.T, o order, s *story) {
	t.Helper()
	r, err := reopen(o)
	if err != nil {
		t.Fatalf("reopen: %v", err)
	}
	found, err := takeAll(t.Context(), r.Journal, o.Destinations, o.Size)
	if err != nil {
		t.Errorf("inventory: %v", err)
	}
	s.judge(found)
	for _, wrong := range unbalanced(r.books(), s.forgiven()...) {
		t.Error(wrong)
	}
	s.booked(r.books())
	if err := r.store.Close(context.Background()); err != nil {
		t.Errorf("close: %v", err)
	}
	s.report(t)
}

// settle does what inventory does, and then acknowledges all of it: nothing is left. It returns how many dead letters
// there are.
func settle(t *testing.T, o order, s *story) (letters int) {
	t.Helper()
	inventory(t, o, s)
	r, err := reopen(o)
	if err != nil {
		t.Fatalf("reopen: %v", err)
	}
	defer r.store.Close(context.Background()) //nolint:errcheck // the end of the test
	for _, name := range o.Destinations {
		cur := r.Attach(name)
		for cur.Fill().Records > 0 {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			got, err := cur.Take(ctx, queue.Want{Sizer: queue.Bytes, MaxBytes: 1 << 20, Joins: together})
			cancel()
			if err != nil {
				t.Fatalf("take of %s: %v; left: %+v", name, err, cur.Fill())
			}
			seqs := make([]queue.Seq, len(got))
			for i := range got {
				seqs[i] = got[i].Seq
			}
			if err := cur.Resolve(queue.Outcome{Kind: queue.Ack}, seqs...); err != nil {
				t.Fatal(err)
			}
		}
		cur.Close()
	}
	s.drained()
	for _, wrong := range unbalanced(r.books(), s.forgiven()...) {
		t.Error(wrong)
	}
	limit := time.Now().Add(patience)
	for r.Snapshot().Segments > 0 && time.Now().Before(limit) { // the keeper deletes them
		pause(10 * time.Millisecond)
	}
	if n := r.Snapshot().Segments; n > 1 { // the active one stays
		t.Errorf("%d segments are left although everybody has resolved everything", n)
	}
	return int(r.Snapshot().DeadRecords)
}

// drained: everybody has resolved everything, and is told to close.
func (s *story) drained() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := s.low; n < len(s.items); n++ {
		for d := range s.items[n].fates {
			s.items[n].fates[d] = settled
		}
	}
}

// report fails the test for each promise that was broken so far.
func (s *story) report(t *testing.T) {
	t.Helper()
	for _, wrong := range s.broken() {
		t.Error(wrong)
	}
	s.mu.Lock()
	s.wrong = nil
	s.mu.Unlock()
}
