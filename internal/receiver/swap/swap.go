// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package swap lets a receiver keep its server and its connections while what stands behind it changes.
//
// It stands between a door and the pipelines: a door has one Sink per signal for as long as it lives, and a reload
// swaps what the Sink leads to (reload, section 6, step 2). A request that entered the old way ends there. It promises
// that every call reaches one way or the other, never none. It knows neither doors nor pipelines.
//
// What it cannot change is which signals there are: a door makes its services and paths from the signals that have a
// sink when it is made. A receiver that gains or loses a signal is a changed one and needs a new server.
package swap

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/holdfast-telemetry/holdfast/internal/admission"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
)

// Sink is a receiver.Sink whose target can be exchanged. Its methods may be called from any goroutine.
type Sink struct{ now atomic.Pointer[way] }

// way is a target and who is on the way there.
type way struct {
	to     receiver.Sink
	keys   []string // of the metadata; the same slice every time, as receiver.Sink advises
	inside atomic.Int64
	closed atomic.Bool // nobody else comes this way, but for those who turn round
	once   sync.Once
	left   chan struct{} // closed when it is closed and nobody is inside
}

// New returns a sink that leads to a target.
func New(to receiver.Sink) *Sink {
	s := &Sink{}
	s.now.Store(newWay(to))
	return s
}

func newWay(to receiver.Sink) *way {
	return &way{to: to, keys: to.MetadataKeys(), left: make(chan struct{})}
}

// Swap makes every call that begins from now on go to another target. It cannot fail and waits for nothing; the channel
// is closed when the last call to the old target has returned, so that it can be stopped without refusing anybody. A
// body that is being read was admitted by the old target and will be handed to the new one.
func (s *Sink) Swap(to receiver.Sink) <-chan struct{} {
	old := s.now.Swap(newWay(to))
	old.closed.Store(true)
	old.tell()
	return old.left
}

// Target is where calls go now.
func (s *Sink) Target() receiver.Sink { return s.now.Load().to }

// Admit implements receiver.Sink.
func (s *Sink) Admit(n int64) (*admission.Grant, error) {
	w := s.enter()
	defer w.leave()
	return w.to.Admit(n)
}

// Accept implements receiver.Sink.
func (s *Sink) Accept(ctx context.Context, p *otlp.Payload) (receiver.Result, error) {
	w := s.enter()
	defer w.leave()
	return w.to.Accept(ctx, p)
}

// MetadataKeys implements receiver.Sink: those the target named when it became it.
func (s *Sink) MetadataKeys() []string { return s.now.Load().keys }

// enter counts the caller in. Who finds the way exchanged after being counted turns round: Swap may have looked before.
func (s *Sink) enter() *way {
	for {
		w := s.now.Load()
		w.inside.Add(1)
		if s.now.Load() == w {
			return w
		}
		w.leave()
	}
}

func (w *way) leave() {
	if w.inside.Add(-1) == 0 && w.closed.Load() {
		w.tell()
	}
}

// tell closes left if it is time.
func (w *way) tell() {
	if w.inside.Load() == 0 {
		w.once.Do(func() { close(w.left) })
	}
}

var _ receiver.Sink = (*Sink)(nil)
