// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc/stats"
)

// watch notes how far one call got: nothing written, headers written, answered by the peer. A status alone does not
// tell those apart, and they are three different verdicts.
type watch struct {
	sent     atomic.Bool // of the attempt that counted: the stream's headers went out, so the body may have
	answered atomic.Bool // the peer ended the stream with a status of its own
	line     atomic.Pointer[line]
	read     atomic.Int64 // bytes read from the line when the stream began
	strikes  atomic.Int32 // strikes of the line when the stream began
}

type watchKey struct{}

// watcher fills watches.
type watcher struct{}

// TagRPC implements stats.Handler.
func (watcher) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC implements stats.Handler.
func (watcher) HandleRPC(ctx context.Context, s stats.RPCStats) {
	switch s := s.(type) {
	case *stats.Begin:
		// The library repeats an attempt of which the peer said that it did not look at it; only the last one counts.
		if w, ok := ctx.Value(watchKey{}).(*watch); ok {
			w.sent.Store(false)
			w.answered.Store(false)
		}
	case *stats.OutHeader:
		if w, ok := ctx.Value(watchKey{}).(*watch); ok {
			if a, ok := s.LocalAddr.(lineAddr); ok {
				w.line.Store(a.line)
				w.read.Store(a.line.read.Load())
				w.strikes.Store(a.line.strikes.Load())
			}
			w.sent.Store(true)
		}
	case *stats.InTrailer:
		if w, ok := ctx.Value(watchKey{}).(*watch); ok {
			w.answered.Store(true)
		}
	}
}

// TagConn implements stats.Handler.
func (watcher) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (watcher) HandleConn(context.Context, stats.ConnStats) {}

var _ stats.Handler = watcher{}
