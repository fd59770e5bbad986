// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc_test

import (
	"bytes"
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/otlpgrpc"
)

// loud is large enough to be lent and not copied.
const loud = 1 << 20

func TestBytesThatMayStillBeReadAreNeverUsedAgain(t *testing.T) {
	hold := make(chan struct{})
	addr := h2server(t, func(*h2stream) { <-hold })
	t.Cleanup(func() { close(hold) })
	e := start(t, addr, func(c *otlpgrpc.Config) { c.Timeout = 50 * time.Millisecond })
	buf := make([]byte, loud)
	for range 5 {
		var kept atomic.Bool
		r := request(buf)
		r.Keep = func() { kept.Store(true) }
		if v := send(t, e, r); v.Kind == exporter.Delivered {
			t.Fatalf("verdict %+v", v)
		}
		if kept.Load() {
			buf = make([]byte, loud) // as a door does: the old memory is left to the garbage collector
			continue
		}
		clear(buf) // the race detector sees a library that still reads
	}
}

func TestBytesOfDeliveredRequestsComeBack(t *testing.T) {
	b := newBackend(t, "")
	var arrived atomic.Int64
	b.reply(func(_ context.Context, g got) ([]byte, error) {
		if len(g.body) == 2*loud && bytes.Equal(g.body[:loud], bytes.Repeat(g.body[:1], loud)) {
			arrived.Add(1)
		}
		return nil, nil
	})
	e := start(t, b.addr, nil)
	kept := 0
	one, two := make([]byte, loud), make([]byte, loud)
	const n = 50
	for i := range n {
		for j := range one {
			one[j], two[j] = byte(i), byte(i)
		}
		r := request(one, two)
		r.Keep = func() { kept++ }
		check(t, "lent", send(t, e, r), exporter.Deliver())
	}
	if arrived.Load() != n {
		t.Errorf("%d of %d requests arrived as they were sent", arrived.Load(), n)
	}
	if kept > n/5 {
		t.Errorf("%d of %d requests' memory did not come back", kept, n)
	}
}
