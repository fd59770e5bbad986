// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc

import "time"

// SetBodyTimeout shortens the time for bodies; it is called before Start.
func (s *Server) SetBodyTimeout(d time.Duration) { s.bodyTimeout = d }

// SetConnectionTimeout shortens the time for handshake and preface; it is called before Start.
func (s *Server) SetConnectionTimeout(d time.Duration) { s.connTimeout = d }

// Reading is the number of messages being read.
func (s *Server) Reading() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for a := range s.mu.acts {
		a.reading.mu.Lock()
		for r := a.reading.mu.first; r != nil; r = r.next {
			n++
		}
		a.reading.mu.Unlock()
	}
	return n
}
