// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package fan lets a receiver feed several pipelines of one signal.
//
// It stands between a door, which has one Sink per signal, and the pipelines. Every pipeline gets the same bytes, which live
// until the last of them has let go. It knows neither doors nor pipelines.
package fan

import (
	"context"
	"slices"
	"sync/atomic"

	"github.com/holdfast-telemetry/holdfast/internal/admission"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
)

// Sink is the sinks of several pipelines as one. Its answer is a success when all of them took the payload. After a refusal
// by one, a repetition reaches the others twice.
type Sink []receiver.Sink

// New returns the sink for sinks, which must not be empty.
func New(sinks []receiver.Sink) receiver.Sink {
	if len(sinks) == 1 {
		return sinks[0]
	}
	return Sink(sinks)
}

// Admit implements receiver.Sink: every pipeline may refuse, the budget is asked once.
func (f Sink) Admit(n int64) (*admission.Grant, error) {
	for _, s := range f[1:] {
		probe, err := s.Admit(0)
		if err != nil {
			return nil, err
		}
		probe.Release()
	}
	return f[0].Admit(n)
}

// MetadataKeys implements receiver.Sink.
func (f Sink) MetadataKeys() []string {
	var keys []string
	for _, s := range f {
		keys = append(keys, s.MetadataKeys()...)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// Accept implements receiver.Sink.
func (f Sink) Accept(ctx context.Context, p *otlp.Payload) (receiver.Result, error) {
	// One holder per pipeline and one for this call, so that the bytes outlive a refusal half way.
	holders := atomic.Int64{}
	holders.Store(int64(len(f)) + 1)
	free := p.Free
	release := func() {
		if holders.Add(-1) == 0 && free != nil {
			free()
		}
	}
	var res receiver.Result
	for i, s := range f {
		part := *p
		part.Free = release
		r, err := s.Accept(ctx, &part)
		if err != nil {
			if i == 0 {
				return res, err // nobody else holds it: the bytes and p.Free stay the caller's
			}
			// The caller keeps p after an error and releases it once; that is this call's holder. The pipelines
			// not reached give theirs back.
			p.Free = release
			for range len(f) - i {
				release()
			}
			return res, err
		}
		if r.Rejected > res.Rejected {
			res = r
		}
	}
	p.Free = nil
	release()
	return res, nil
}

var _ receiver.Sink = Sink(nil)
