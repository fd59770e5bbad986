// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package queuetest

import (
	"context"
	"fmt"
	"slices"
	"testing/synctest"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// waiting is a Take or an Append on a goroutine of its own.
type waiting struct {
	r    *rig
	done chan struct{}
	got  []queue.Delivered
	err  error
}

func (r *rig) goTake(ctx context.Context, c queue.Cursor, w queue.Want) *waiting {
	x := &waiting{r: r, done: make(chan struct{})}
	go func() {
		defer close(x.done)
		x.got, x.err = c.Take(ctx, w)
		r.note(c, x.got)
	}()
	synctest.Wait()
	return x
}

func (r *rig) goAppend(ctx context.Context, items, size uint32) *waiting {
	x := &waiting{r: r, done: make(chan struct{})}
	go func() {
		defer close(x.done)
		_, x.err = r.tryAppend(ctx, items, size, "")
	}()
	synctest.Wait()
	return x
}

// ended says whether the call returned, once everything that can happen now has happened.
func (x *waiting) ended() bool {
	synctest.Wait()
	select {
	case <-x.done:
		return true
	default:
		return false
	}
}

// waits checks that the call has not returned.
func (x *waiting) waits() {
	x.r.Helper()
	if x.ended() {
		x.r.Fatalf("returned %s, %v; want to wait", brief(idsOf(x.got)), x.err)
	}
}

// returns checks that the call has returned, now.
func (x *waiting) returns() ([]queue.Delivered, error) {
	x.r.Helper()
	if !x.ended() {
		x.r.Fatal("still waits")
	}
	return x.got, x.err
}

// gives checks that the Take has returned exactly these records, now.
func (x *waiting) gives(ids ...int) []queue.Delivered {
	x.r.Helper()
	got, err := x.returns()
	if err != nil || !slices.Equal(idsOf(got), ids) {
		x.r.Fatalf("took %s, %v; want %s", brief(idsOf(got)), err, brief(ids))
	}
	return got
}

// brief shortens long lists of identities.
func brief(ids []int) string {
	if len(ids) > 20 {
		return fmt.Sprintf("%d records, %v … %v", len(ids), ids[:3], ids[len(ids)-3:])
	}
	return fmt.Sprint(ids)
}

// run is the identities first..first+n-1.
func run(first, n int) []int {
	ids := make([]int, n)
	for i := range ids {
		ids[i] = first + i
	}
	return ids
}
