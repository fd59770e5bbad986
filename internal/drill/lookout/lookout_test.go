// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package lookout_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/drill/child"
	"github.com/holdfast-telemetry/holdfast/internal/drill/lookout"
)

func TestAWaitEndsWithTheLookTheLimitTheCollectorOrTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := lookout.New(0)
		var looking sync.WaitGroup
		defer looking.Wait()
		looking.Go(func() {
			for n := range 10 {
				time.Sleep(time.Second)
				l.See(n + 1)
			}
		})
		c := &child.Child{Done: make(chan struct{})}
		is := func(want int) func(int) bool { return func(n int) bool { return n == want } }
		began := time.Now()
		if err := l.Until(t.Context(), c, time.Minute, "three", is(3)); err != nil || time.Since(began) != 3*time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		var late *lookout.LateError
		if err := l.Until(t.Context(), c, 2500*time.Millisecond, "three again", is(3)); !errors.As(err, &late) ||
			err.Error() != "not within 2.5s: three again" {
			t.Errorf("what never comes: %v", err)
		}
		cause := errors.New("enough")
		ended, end := context.WithCancelCause(t.Context())
		end(cause)
		if err := l.Until(ended, c, time.Minute, "nothing", is(-1)); !errors.Is(err, cause) {
			t.Errorf("with its context: %v", err)
		}
		close(c.Done)
		var over *lookout.EndedError
		if err := l.Until(t.Context(), c, time.Minute, "nothing", is(-1)); !errors.As(err, &over) || over.What != "nothing" {
			t.Errorf("with the collector: %v", err)
		}
	})
}
