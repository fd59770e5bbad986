// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlphttp

import "time"

// SetPace changes how slowly a body may come; it is called before Start.
func (s *Server) SetPace(total, start time.Duration, rate int) { s.pace = pace{total, start, rate} }

// Reading is the number of bodies being read.
func (s *Server) Reading() int {
	s.reading.mu.Lock()
	defer s.reading.mu.Unlock()
	return len(s.reading.mu.all)
}
