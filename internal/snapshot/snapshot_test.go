// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package snapshot_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/snapshot"
)

func TestACopyThatNeverComesHoldsUpNobodyAndIsBegunOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		var begun atomic.Int32
		d := snapshot.NewDesk("first", func() string {
			begun.Add(1)
			<-stuck
			return "second"
		})
		began := time.Now()
		for range 3 {
			go d.Take(t.Context(), time.Second)
		}
		got, waited := d.Take(t.Context(), time.Second)
		if took := time.Since(began); took != time.Second {
			t.Errorf("answered after %s", took)
		}
		if got != "first" || waited != time.Second {
			t.Errorf("got %q, overdue for %s", got, waited)
		}
		if n := begun.Load(); n != 1 {
			t.Errorf("%d copies were begun for four who asked", n)
		}
		close(stuck)
		if err := d.Wait(context.Background()); err != nil {
			t.Fatal(err)
		}
		if got, waited := d.Take(t.Context(), time.Second); got != "second" || waited != 0 {
			t.Errorf("afterwards %q, overdue for %s", got, waited)
		}
	})
}

func TestWhoLeavesIsNotHeldUpAndIsToldThatTheCopyIsOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		d := snapshot.NewDesk(1, func() int { <-stuck; return 2 })
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if got, waited := d.Take(ctx, time.Hour); got != 1 || waited <= 0 {
			t.Errorf("got %d, overdue for %s", got, waited)
		}
		bounded, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := d.Wait(bounded); err == nil {
			t.Error("waiting for a copy that does not come ended well")
		}
		close(stuck)
		if err := d.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestTheLastCopyIsShownWithItsAgeUntilTheNextIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		block := make(chan struct{})
		var calls atomic.Int32
		s := snapshot.NewDesk("", func() string {
			if calls.Add(1) == 2 {
				<-block
			}
			return "running"
		})
		if h, overdue := s.Take(t.Context(), 800*time.Millisecond); h != "running" || overdue != 0 {
			t.Errorf("first: %q, overdue %s", h, overdue)
		}
		began := time.Now()
		h, overdue := s.Take(t.Context(), 800*time.Millisecond)
		if took := time.Since(began); took >= time.Second || overdue < took {
			t.Errorf("took %s, overdue %s", took, overdue)
		}
		if h != "running" {
			t.Errorf("the last snapshot is forgotten: %q", h)
		}
		time.Sleep(40 * time.Second) // virtual
		if _, overdue := s.Take(t.Context(), 800*time.Millisecond); overdue < 40*time.Second || calls.Load() != 2 {
			t.Errorf("overdue %s after %d calls", overdue, calls.Load())
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Wait(ctx); err == nil {
			t.Error("does not wait for the one being taken")
		}
		close(block)
		synctest.Wait()
		if err := s.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		if _, overdue := s.Take(t.Context(), 800*time.Millisecond); overdue != 0 || calls.Load() != 3 {
			t.Errorf("afterwards: overdue %s after %d calls", overdue, calls.Load())
		}
	})
}
