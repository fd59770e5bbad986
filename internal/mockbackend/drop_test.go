// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package mockbackend_test

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/loadgen"
	"github.com/holdfast-telemetry/holdfast/internal/mockbackend"
)

// knock dials an address and returns whether its handshake got no answer.
func knock(t *testing.T, addr string) (dropped bool) {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, 100*time.Millisecond)
	if err == nil {
		_ = c.Close()
		return false
	}
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Fatalf("dial: %v", err)
	}
	return true
}

func TestDropAnswersNoHandshakeAndSilencesLiveConnections(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	for scheme, to := range targets(b) {
		addr := strings.TrimPrefix(to, scheme+"://")
		live, err := net.DialTimeout("tcp", addr, limit)
		if err != nil {
			t.Fatal(err)
		}
		defer live.Close()
		for range 2 {
			if a := ask(t, to, nil); a[0].State != ledger.Acked {
				t.Fatalf("%s: before: %+v", scheme, a)
			}
			if _, err := b.AddFault("drop"); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				if !knock(t, addr) {
					t.Errorf("%s: a connection was taken", scheme)
				}
			}
			answers := ask(t, to, func(o *loadgen.Options) { o.Timeout = 200 * time.Millisecond })
			if answers[0].State == ledger.Acked {
				t.Errorf("%s: meanwhile: %+v", scheme, answers)
			}
			if s := b.State(); s.Faults[0].Hits == 0 || s.Error != "" {
				t.Errorf("%s: %+v", scheme, s)
			}
			if err := b.SetFaults(); err != nil {
				t.Fatal(err)
			}
			if knock(t, addr) {
				t.Errorf("%s: nothing is taken afterwards", scheme)
			}
		}
		if a := ask(t, to, nil); a[0].State != ledger.Acked {
			t.Errorf("%s: after: %+v", scheme, a)
		}
	}
}

func TestABackendThatDropsCanBeStopped(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	if _, err := b.AddFault("drop"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := b.Stop(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > limit/2 {
		t.Errorf("took %s", took)
	}
}

func TestFaultsAreInForceWhenTheyAreSet(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	addr := b.GRPCAddr()
	for range 50 {
		if err := b.SetFaults("slow:1s", "refuse,for=1h"); err != nil {
			t.Fatal(err)
		}
		if c, err := net.DialTimeout("tcp", addr, limit); err == nil {
			_ = c.Close()
			t.Fatal("a connection was taken")
		}
		if err := b.SetFaults(); err != nil {
			t.Fatal(err)
		}
		c, err := net.DialTimeout("tcp", addr, limit)
		if err != nil {
			t.Fatalf("afterwards: %v", err)
		}
		_ = c.Close()
	}
}

// A client that is out of time never gets the answer that a slow backend owes it later.
func TestASlowBackendIsNotQuickerForAClientThatGivesUp(t *testing.T) {
	t.Parallel()
	b := start(t, func(o *mockbackend.Options) { o.Faults = []string{"slow:2s"} })
	answers := ask(t, targets(b)["grpc"], func(o *loadgen.Options) {
		o.Timeout, o.OnUnknown = 50*time.Millisecond, ledger.ModeDrop
		o.Requests, o.Inflight = 40, 20
	})
	for _, a := range answers {
		if a.State == ledger.Acked || a.Code != "DEADLINE_EXCEEDED" {
			t.Fatalf("%+v", a)
		}
	}
}
