// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package fan_test

import (
	"context"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/admission"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/fan"
)

// scriptedSink takes or refuses; it frees what it takes when told to.
type scriptedSink struct {
	err  error
	held []*otlp.Payload
}

func (s *scriptedSink) Admit(int64) (*admission.Grant, error) { return nil, s.err }
func (s *scriptedSink) MetadataKeys() []string                { return nil }
func (s *scriptedSink) Accept(_ context.Context, p *otlp.Payload) (receiver.Result, error) {
	if s.err == nil {
		s.held = append(s.held, p)
	}
	return receiver.Result{}, s.err
}

func TestSharedPayloadIsFreedOnceAfterItsLastHolder(t *testing.T) {
	for name, refusing := range map[string]int{"all take it": -1, "the first refuses": 0, "the second refuses": 1, "the last refuses": 2} {
		t.Run(name, func(t *testing.T) {
			sinks := []*scriptedSink{{}, {}, {}}
			all := make([]receiver.Sink, len(sinks))
			for i, s := range sinks {
				if i == refusing {
					s.err = &receiver.Refusal{Code: receiver.Unavailable}
				}
				all[i] = s
			}
			freed := 0
			p := &otlp.Payload{Signal: otlp.Traces, Items: 1, Body: []byte("x"), Free: func() { freed++ }}
			if _, err := fan.New(all).Accept(context.Background(), p); (err != nil) != (refusing >= 0) {
				t.Fatalf("unexpected answer: %v", err)
			}
			for _, s := range sinks {
				for _, held := range s.held {
					if freed != 0 {
						t.Fatal("freed while a pipeline holds it")
					}
					held.Release()
				}
			}
			p.Release() // after a refusal the bytes are the caller's again; after a success this does nothing
			if freed != 1 {
				t.Errorf("freed %d times", freed)
			}
		})
	}
}
