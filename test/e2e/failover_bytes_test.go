// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"slices"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
	"github.com/holdfast-telemetry/holdfast/internal/loadgen"
	"github.com/holdfast-telemetry/holdfast/internal/mockbackend"
)

// F13: a level gets the bytes that the level before it got and did not take. The backends keep them as they came.
func TestNextLevelGetsTheSameBytes(t *testing.T) {
	t.Parallel()
	ends := map[string]*mockbackend.Backend{}
	for name, faults := range map[string][]string{"primary": {"status:UNAVAILABLE"}, "secondary": nil} {
		b, err := mockbackend.Start(mockbackend.Options{Name: name, GRPC: "127.0.0.1:0", KeepBodies: true, Faults: faults})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = b.Stop() })
		ends[name] = b
	}
	p := ports(t, 2)
	collector(t, levels, map[string]string{"IN": p[0], "METRICS": p[1], "PRIMARY": ends["primary"].GRPCAddr(),
		"SECONDARY": ends["secondary"].GRPCAddr(), "DIR": t.TempDir()})
	const items = 20 * 100
	sum, err := loadgen.Run(t.Context(), loadgen.Options{Run: "bytes", To: []string{"grpc://127.0.0.1:" + p[0]}, Requests: 20,
		Producers: 1, Items: 100, Signals: []item.Signal{item.Traces}})
	if err != nil || sum.Acked != items {
		t.Fatalf("load: %+v, %v", sum, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := ends["secondary"].Await(ctx, func(s mockbackend.State) bool { return s.Stored["traces"] >= items }); err != nil {
		t.Fatalf("the secondary has %v: %v", ends["secondary"].State().Stored, err)
	}
	asked, moved := ends["primary"].Requests(1000), 0
	for _, r := range ends["secondary"].Requests(1000) {
		if slices.ContainsFunc(asked, func(a mockbackend.Request) bool { return len(a.Body) > 0 && bytes.Equal(a.Body, r.Body) }) {
			moved++
		}
	}
	refused := 0
	for _, a := range asked {
		if a.Items > 0 { // probes are empty
			refused++
		}
	}
	if moved == 0 || moved != refused {
		t.Errorf("%d batches were refused by the primary, %d of them came to the secondary as they were", refused, moved)
	}
}
