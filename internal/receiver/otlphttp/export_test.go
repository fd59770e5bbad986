// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlphttp

import (
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

// SetPace changes how slowly a body may come; it is called before Start.
func (s *Server) SetPace(total, start time.Duration, rate int) { s.pace = pace{total, start, rate} }

// Reading is the number of bodies being read.
func (s *Server) Reading() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for a := range s.mu.acts {
		a.reading.mu.Lock()
		n += len(a.reading.mu.all)
		a.reading.mu.Unlock()
	}
	return n
}

// MeasureJSON is what is asked of a text before it is read.
func MeasureJSON(text []byte) (int, error) { return measureJSON(text) }

// Translate turns a request in JSON into wire bytes.
func Translate(s otlp.Signal, text []byte) ([]byte, error) {
	if _, err := measureJSON(text); err != nil {
		return nil, err
	}
	return translators[s].Translate(text)
}

// Leaving is the number of acts whose clients are asked to leave.
func (s *Server) Leaving() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for a := range s.mu.acts {
		if a.leaving.Load() {
			n++
		}
	}
	return n
}
