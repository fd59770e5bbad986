// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package receivertest

import (
	"bytes"
	"context"
	"io"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	"go.opentelemetry.io/collector/component"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/holdfast-telemetry/holdfast/internal/receiver"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// Patience is how long a test waits for what must happen.
const Patience = 20 * time.Second

// Rig is what a server under test was made of.
type Rig struct {
	T    testing.TB
	Sink *Sink
	Set  receiver.Settings
}

// NewRig makes settings for a server over the sink; change may be nil.
func NewRig(t testing.TB, sink *Sink, change func(*receiver.Settings)) Rig {
	r := Rig{T: t, Sink: sink, Set: Settings(sink)}
	if change != nil {
		change(&r.Set)
	}
	return r
}

// Ends stops the server, which may take a second, and checks that it gave back all that was granted to it.
func (r *Rig) Ends(stop func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := stop(ctx); err != nil {
		r.T.Error(err)
	}
	if used := r.Set.Admission.Used(); used != 0 {
		r.T.Errorf("%d bytes are still granted", used)
	}
}

// Value reads a series of the rig.
func (r *Rig) Value(name string, labels ...string) float64 {
	return Value(r.Set.Telemetry.Metrics, name, labels...)
}

// WantValue checks a series of the rig.
func (r *Rig) WantValue(want float64, name string, labels ...string) {
	r.T.Helper()
	if got := r.Value(name, labels...); got != want {
		r.T.Errorf("%s%v is %v, want %v", name, labels, got, want)
	}
}

// Logged gives a server a logger whose lines can be read.
func Logged(set *func(*receiver.Settings)) *observer.ObservedLogs {
	core, logs := observer.New(zap.DebugLevel)
	*set = func(s *receiver.Settings) {
		s.Telemetry = &telemetry.Telemetry{Logger: zap.New(core), Metrics: telemetry.NewRegistry()}
	}
	return logs
}

// Eventually waits for a condition that no event announces.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	limit := time.NewTimer(Patience)
	defer limit.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-limit.C:
			t.Fatalf("never happened: %s", what)
		case <-tick.C:
		}
	}
}

// Encoded compresses b as a client would; snappy is the format of HTTP clients, one block, and x-snappy-framed the one
// that gRPC clients call snappy.
func Encoded(t testing.TB, name string, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	switch name {
	case "gzip":
		w = gzip.NewWriter(&out)
	case "deflate", "zlib":
		w = zlib.NewWriter(&out)
	case "zstd":
		zw, err := zstd.NewWriter(&out)
		if err != nil {
			t.Fatal(err)
		}
		w = zw
	case "x-snappy-framed":
		w = snappy.NewBufferedWriter(&out)
	case "snappy":
		return snappy.Encode(nil, b)
	default:
		t.Fatalf("no such compression %q", name)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// Host offers extensions.
type Host map[component.ID]component.Component

// GetExtensions implements component.Host.
func (h Host) GetExtensions() map[component.ID]component.Component { return h }
