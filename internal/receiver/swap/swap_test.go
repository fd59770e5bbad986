// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package swap_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/admission"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/swap"
)

const patience = 20 * time.Second

// target counts who is inside and refuses once it is stopped.
type target struct {
	keys             []string
	wait             chan struct{} // nil = do not
	entered          chan struct{}
	stopped          atomic.Bool
	accepted, broken atomic.Int64
}

func (t *target) Admit(int64) (*admission.Grant, error) {
	if t.stopped.Load() {
		t.broken.Add(1)
	}
	return nil, nil
}

func (t *target) Accept(context.Context, *otlp.Payload) (receiver.Result, error) {
	if t.stopped.Load() {
		t.broken.Add(1)
		return receiver.Result{}, errors.New("stopped")
	}
	if t.wait != nil {
		close(t.entered)
		<-t.wait
	}
	if t.stopped.Load() {
		t.broken.Add(1)
	}
	t.accepted.Add(1)
	return receiver.Result{}, nil
}

func (t *target) MetadataKeys() []string { return append([]string(nil), t.keys...) }

func accept(t *testing.T, s receiver.Sink) {
	t.Helper()
	if _, err := s.Accept(t.Context(), &otlp.Payload{}); err != nil {
		t.Error(err)
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestWhoEnteredTheOldWayEndsThere(t *testing.T) {
	a := &target{wait: make(chan struct{}), entered: make(chan struct{})}
	b := &target{}
	s := swap.New(a)
	done := make(chan struct{})
	go func() { defer close(done); accept(t, s) }()
	<-a.entered
	left := s.Swap(b)
	accept(t, s)
	if a.accepted.Load() != 0 || b.accepted.Load() != 1 || s.Target() != receiver.Sink(b) {
		t.Errorf("%d and %d", a.accepted.Load(), b.accepted.Load())
	}
	if closed(left) {
		t.Error("the old target counts as left while a request is inside")
	}
	close(a.wait)
	select {
	case <-left:
	case <-time.After(patience):
		t.Fatal("nobody says that the old target was left")
	}
	<-done
	if a.accepted.Load() != 1 {
		t.Error("the request did not end where it entered")
	}
}

func TestAnIdleTargetIsLeftAtOnce(t *testing.T) {
	a, b := &target{}, &target{}
	s := swap.New(a)
	accept(t, s)
	if !closed(s.Swap(b)) || !closed(s.Swap(a)) {
		t.Error("nobody is inside")
	}
	accept(t, s)
	if a.accepted.Load() != 2 || b.accepted.Load() != 0 {
		t.Errorf("%d and %d", a.accepted.Load(), b.accepted.Load())
	}
}

func TestMetadataKeysFollowAndStayTheSameSlice(t *testing.T) {
	s := swap.New(&target{keys: []string{"x-a", "x-b"}})
	one, two := s.MetadataKeys(), s.MetadataKeys()
	if len(one) != 2 || &one[0] != &two[0] {
		t.Errorf("%v and %v", one, two)
	}
	s.Swap(&target{keys: []string{"x-c"}})
	if got := s.MetadataKeys(); len(got) != 1 || got[0] != "x-c" {
		t.Errorf("%v", got)
	}
}

func TestATargetThatWasLeftMayBeStopped(t *testing.T) {
	s := swap.New(&target{})
	var calls sync.WaitGroup
	end := make(chan struct{})
	var made atomic.Int64
	for range 4 {
		calls.Go(func() {
			for !closed(end) {
				if _, err := s.Admit(1); err != nil {
					t.Error(err)
				}
				accept(t, s)
				made.Add(1)
			}
		})
	}
	var all []*target
	for range 2000 {
		old := s.Target().(*target)
		<-s.Swap(&target{})
		old.stopped.Store(true)
		all = append(all, old)
	}
	close(end)
	calls.Wait()
	all = append(all, s.Target().(*target))
	var accepted int64
	for _, a := range all {
		accepted += a.accepted.Load()
		if a.broken.Load() != 0 {
			t.Fatalf("%d calls after the target was left", a.broken.Load())
		}
	}
	if accepted != made.Load() || accepted == 0 {
		t.Errorf("%d of %d calls arrived", accepted, made.Load())
	}
}

func BenchmarkAccept(b *testing.B) {
	s := swap.New(&target{})
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			s.Accept(context.Background(), nil)
		}
	})
}
