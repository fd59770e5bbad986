// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package loadgen_test

import (
	"bytes"
	"testing"

	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
	"github.com/holdfast-telemetry/holdfast/internal/loadgen"
)

// request is what pdata's requests of all signals can do.
type request interface {
	UnmarshalProto([]byte) error
	UnmarshalJSON([]byte) error
	MarshalProto() ([]byte, error)
}

// TestRequestsAreWhatTheReferenceDecoderReads: nothing in a request of ours is unknown to it or lost by it, and both
// forms are the same to it.
func TestRequestsAreWhatTheReferenceDecoderReads(t *testing.T) {
	for _, s := range item.Signals {
		m := &loadgen.Maker{Run: "trip", BaseMicro: tripBase, ItemBytes: 50, PoisonEvery: 3}
		for n := uint64(1); n <= 12; n++ {
			q := loadgen.Batch{Signal: s, Producer: 2, Request: n, First: 21, Last: 20 + n}
			fresh := func() request {
				switch s {
				case item.Traces:
					r := ptraceotlp.NewExportRequest()
					return &r
				case item.Logs:
					r := plogotlp.NewExportRequest()
					return &r
				}
				r := pmetricotlp.NewExportRequest()
				return &r
			}
			binary, text := fresh(), fresh()
			wire := m.Proto(nil, q)
			if err := binary.UnmarshalProto(wire); err != nil {
				t.Fatalf("%s: %v", s, err)
			}
			if err := text.UnmarshalJSON(m.JSON(nil, q)); err != nil {
				t.Fatalf("%s: %v", s, err)
			}
			a, err := binary.MarshalProto()
			if err != nil {
				t.Fatal(err)
			}
			b, err := text.MarshalProto()
			if err != nil {
				t.Fatal(err)
			}
			// The decoder writes empty fields that were not there; it must not write less.
			if len(a) < len(wire) || !bytes.Equal(a, b) {
				t.Errorf("%s, %d items: %d bytes made, %d read, %d from JSON", s, n, len(wire), len(a), len(b))
			}
			if p, ok := binary.(*pmetricotlp.ExportRequest); ok {
				checkKinds(t, p.Metrics(), n)
			}
		}
	}
}

// checkKinds: every point is there, and a request of five and more has all five kinds.
func checkKinds(t *testing.T, m pmetric.Metrics, n uint64) {
	t.Helper()
	if uint64(m.DataPointCount()) != n {
		t.Errorf("%d points of %d", m.DataPointCount(), n)
	}
	kinds := make(map[pmetric.MetricType]bool)
	list := m.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics()
	for i := range list.Len() {
		kinds[list.At(i).Type()] = true
	}
	if n >= 5 && len(kinds) != 5 {
		t.Errorf("%d kinds of metrics in %d points", len(kinds), n)
	}
}
