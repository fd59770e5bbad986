// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"slices"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/app/sources"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// A request that panics is evidence against what runs, unless that happened with what a rollback leads to.
func TestAPanickingRequestIsFatalEvidenceIfItIsNew(t *testing.T) {
	a, err := New(Options{Telemetry: telemetry.Nop()})
	ok(t, err)
	g := a.now()
	if s := g.Sample(); len(s.Fatal) > 0 {
		t.Errorf("fatal without a panic: %q", s.Fatal)
	}
	g.panics.Note("receivers/otlp: index out of range")
	if s := g.Sample(); !slices.Equal(s.Fatal, []string{"a request panicked: receivers/otlp: index out of range"}) {
		t.Errorf("fatal is %q", s.Fatal)
	}
	next := a.generation(&sources.Offer{Config: g.cfg, Plan: g.plan}, g)
	next.base = g
	next.panics.Note("receivers/otlp: index out of range")
	if s := next.Sample(); len(s.Fatal) > 0 {
		t.Errorf("what panicked before is held against the next one: %q", s.Fatal)
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
