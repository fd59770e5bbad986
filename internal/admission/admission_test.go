// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/admission"
)

const (
	mib   = 1 << 20
	limit = 64 * mib
)

func mustAdmit(t *testing.T, g *admission.Gate, n int64) *admission.Grant {
	t.Helper()
	a, err := g.Admit(n)
	if err != nil {
		t.Fatalf("admit %d at %d of %d: %v", n, g.Used(), g.Limit(), err)
	}
	return a
}

func wantUsed(t *testing.T, g *admission.Gate, want int64) {
	t.Helper()
	if got := g.Used(); got != want {
		t.Errorf("%d bytes used, want %d", got, want)
	}
}

func TestWhatIsGrantedIsCountedUntilItIsReleased(t *testing.T) {
	g := admission.New(limit)
	a := mustAdmit(t, g, 10)
	b := mustAdmit(t, g, 20)
	if err := b.Grow(5); err != nil || b.Bytes() != 25 {
		t.Errorf("grow: %v, %d bytes", err, b.Bytes())
	}
	wantUsed(t, g, 35)
	b.Release()
	b.Release()
	wantUsed(t, g, 10)
	a.Release()
	wantUsed(t, g, 0)
	var none *admission.Grant
	none.Release()
}

func TestTheSmallestBudgetIs32MiB(t *testing.T) {
	if got := admission.New(1).Limit(); got != 32*mib {
		t.Errorf("%d", got)
	}
}

func TestARequestIsRefusedWhenTheBudgetIsSpent(t *testing.T) {
	g := admission.New(limit)
	for range 256 {
		mustAdmit(t, g, mib/4)
	}
	if _, err := g.Admit(1); !errors.Is(err, admission.ErrExhausted) {
		t.Errorf("%v", err)
	}
	wantUsed(t, g, limit)
}

func TestARefusedGrantKeepsWhatItHad(t *testing.T) {
	g := admission.New(limit)
	a := mustAdmit(t, g, 30*mib)
	mustAdmit(t, g, 20*mib)
	if err := a.Grow(20 * mib); !errors.Is(err, admission.ErrExhausted) || a.Bytes() != 30*mib {
		t.Errorf("%v, %d", err, a.Bytes())
	}
	wantUsed(t, g, 50*mib)
}

func TestARequestAboveTheBudgetIsServedAlone(t *testing.T) {
	g := admission.New(limit)
	a := mustAdmit(t, g, 2*limit)
	if err := a.Grow(limit); err != nil {
		t.Errorf("growing alone: %v", err)
	}
	if _, err := g.Admit(1); !errors.Is(err, admission.ErrExhausted) {
		t.Errorf("beside it: %v", err)
	}
	a.Release()
	b := mustAdmit(t, g, 1)
	if _, err := g.Admit(2 * limit); !errors.Is(err, admission.ErrExhausted) {
		t.Errorf("beside another: %v", err)
	}
	b.Release()
	wantUsed(t, g, 0)
}

func TestTheLastEighthIsForSmallRequests(t *testing.T) {
	g := admission.New(limit)
	mustAdmit(t, g, limit/2)
	growing := mustAdmit(t, g, limit/4)
	if _, err := g.Admit(limit / 4); !errors.Is(err, admission.ErrExhausted) {
		t.Errorf("a large request: %v", err)
	}
	if err := growing.Grow(limit/8 + 1); !errors.Is(err, admission.ErrExhausted) {
		t.Errorf("a large request that grows: %v", err)
	}
	if err := growing.Grow(limit / 8); err != nil {
		t.Errorf("up to the reserve: %v", err)
	}
	small := mustAdmit(t, g, mib/8)
	if err := small.Grow(mib / 8); err != nil {
		t.Errorf("a small request that grows: %v", err)
	}
	if err := small.Grow(1); !errors.Is(err, admission.ErrExhausted) {
		t.Errorf("one that is small no longer: %v", err)
	}
}

func TestUseNeverExceedsTheBudgetUnderContention(t *testing.T) {
	g := admission.New(32 * mib)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 2000 {
				a, err := g.Admit(3 * mib)
				if err != nil {
					continue
				}
				_ = a.Grow(2 * mib)
				if used := g.Used(); used > g.Limit() {
					t.Errorf("%d bytes used", used)
				}
				a.Release()
			}
		})
	}
	all.Wait()
	wantUsed(t, g, 0)
}

func TestDecodersAreAsManyAsThePlacesAndWhoWaitsGetsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := admission.New(limit)
		places := runtime.GOMAXPROCS(0)
		for range places {
			if err := g.AcquireDecoder(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		got := make(chan error)
		go func() { got <- g.AcquireDecoder(t.Context()) }()
		synctest.Wait()
		select {
		case err := <-got:
			t.Fatalf("one too many: %v", err)
		default:
		}
		g.ReleaseDecoder()
		if err := <-got; err != nil {
			t.Errorf("after a release: %v", err)
		}
	})
}

func TestWhoFindsNoDecoderIsRefusedAfterSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := admission.New(limit)
		for range runtime.GOMAXPROCS(0) {
			if err := g.AcquireDecoder(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		start := time.Now()
		if err := g.AcquireDecoder(t.Context()); !errors.Is(err, admission.ErrNoDecoder) {
			t.Errorf("%v", err)
		}
		if waited := time.Since(start); waited != 5*time.Second {
			t.Errorf("waited %s", waited)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := g.AcquireDecoder(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
}
