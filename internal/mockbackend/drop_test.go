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
