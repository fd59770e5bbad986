// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/test/seedbed"
)

// quickSeed are the delays of a seed's failover configuration at the pace of a test; nothing else of it changes.
func quickSeed(seed seedbed.Seed) []string {
	sets := []string{
		"processors::batch::timeout=200ms",
		"exporters::otlp/primary::timeout=2s",
		"exporters::otlp/secondary::timeout=2s",
		"exporters::otlp/primary::retry_on_failure::initial_interval=500ms",
		"exporters::otlp/secondary::retry_on_failure::initial_interval=500ms",
	}
	connectors := map[seedbed.Seed][]string{seedbed.A: {"failover/traces"}, seedbed.B: {"failover/traces", "failover/metrics"}}
	for _, c := range connectors[seed] {
		for _, set := range []string{"retry_interval=1s", "retry_gap=200ms", "all_down::probe_every=500ms"} {
			sets = append(sets, "connectors::"+c+"::"+set)
		}
	}
	return sets
}

// newBed makes a bed that shows its log when the test fails and is gone when it ends.
func newBed(t *testing.T, o seedbed.Options) *seedbed.Bed {
	t.Helper()
	o.Binary, o.Root, o.Dir = binary, "../..", t.TempDir()
	b, err := seedbed.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if t.Failed() && b.Process() != nil {
			t.Logf("output of the collector:\n%s", b.Process().Output())
		}
	})
	return b
}

// startedBed is newBed with a collector that is ready.
func startedBed(t *testing.T, o seedbed.Options) *seedbed.Bed {
	t.Helper()
	b := newBed(t, o)
	must(t, b.Start(limited(t)))
	return b
}

// goodRun is the control of a seed.
func goodRun(t *testing.T, o seedbed.Options) *ledger.Verdict {
	t.Helper()
	o.Binary, o.Root, o.Dir = binary, "../..", t.TempDir()
	v, err := seedbed.Control(limited(t), o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// limited ends with the test, and in any case after a generous time.
func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	t.Cleanup(cancel)
	return ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// until waits for something that the collector's own metrics say.
func until(t *testing.T, b *seedbed.Bed, what string, ok func(seedbed.Series) bool) {
	t.Helper()
	must(t, b.Until(t.Context(), patience, what, ok))
}

// sum adds up series; one that is not there fails the test.
func sum(t *testing.T, s seedbed.Series, name string, labels ...string) float64 {
	t.Helper()
	v, found := s.Sum(name, labels...)
	if !found {
		t.Fatalf("no series %s with %q", name, labels)
	}
	return v
}

func booksOf(t *testing.T, b *seedbed.Bed) seedbed.Series {
	t.Helper()
	s, err := b.Books(t.Context())
	must(t, err)
	return s
}

// levelAt waits until all signals go to a level.
func levelAt(t *testing.T, b *seedbed.Bed, level float64) {
	t.Helper()
	until(t, b, "all signals go to the level", func(s seedbed.Series) bool { return s.AllAt(level) })
}

// passes asks the ledger about a bed that is drained first, and accepts one verdict.
func passes(t *testing.T, b *seedbed.Bed, o ledger.Options) *ledger.Verdict {
	t.Helper()
	must(t, b.Drained(limited(t)))
	v, _, err := b.Judge(limited(t), o)
	must(t, err)
	t.Logf("%d lives of the process\n%s", b.Lives, v.Text())
	if v.Outcome != ledger.Pass {
		t.Error("the ledger does not pass")
	}
	return v
}

// after waits for a time that is part of a schedule; false if the process ends meanwhile.
func after(b *seedbed.Bed, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-b.Process().Done():
		return false
	}
}
