// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlp_test

import (
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

func TestEverySignalHasAWordThatLeadsBackToIt(t *testing.T) {
	names := map[string]bool{}
	for _, s := range otlp.Signals {
		if back, ok := otlp.ParseSignal(s.String()); back != s || !ok {
			t.Errorf("%s leads to %s, %v", s, back, ok)
		}
		names[s.ItemName()] = true
	}
	if len(names) != len(otlp.Signals) || names[otlp.Signal(0).ItemName()] {
		t.Errorf("item names %v", names)
	}
	for _, word := range []string{"", "trace", "Traces", otlp.Signal(0).String()} {
		if s, ok := otlp.ParseSignal(word); ok {
			t.Errorf("%q is taken for %s", word, s)
		}
	}
}

func TestEncodingsHaveTheirNamesOnTheWire(t *testing.T) {
	for e, want := range map[otlp.Encoding]string{
		otlp.Identity: "identity", otlp.Gzip: "gzip", otlp.Zstd: "zstd", 9: "encoding(9)",
	} {
		if e.String() != want {
			t.Errorf("%q, want %q", e, want)
		}
	}
}

func TestMetadataIsEqualOnlyWithTheSameKeysAndValues(t *testing.T) {
	one := otlp.Metadata{{Key: "tenant", Values: []string{"a", "b"}}, {Key: "zone", Values: nil}}
	if !one.Equal(otlp.Metadata{{Key: "tenant", Values: []string{"a", "b"}}, {Key: "zone"}}) {
		t.Error("equal metadata is called different")
	}
	for _, other := range []otlp.Metadata{
		nil, one[:1], {{Key: "tenant", Values: []string{"a"}}, {Key: "zone"}},
		{{Key: "tenant", Values: []string{"b", "a"}}, {Key: "zone"}}, {{Key: "tenants", Values: []string{"a", "b"}}, {Key: "zone"}},
	} {
		if one.Equal(other) || other.Equal(one) {
			t.Errorf("%v is called equal", other)
		}
	}
	if v := one.Get("tenant"); len(v) != 2 || one.Get("Tenant") != nil {
		t.Errorf("tenant is %v", v)
	}
}

func TestAPayloadIsFreedOnce(t *testing.T) {
	freed := 0
	p := otlp.Payload{Free: func() { freed++ }}
	p.Release()
	p.Release()
	(&otlp.Payload{}).Release()
	if freed != 1 {
		t.Errorf("freed %d times", freed)
	}
}
