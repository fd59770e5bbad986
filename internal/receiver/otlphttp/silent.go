// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlphttp

import (
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
)

// silent are the connections of which nothing of a request was read yet. net/http's Shutdown waits 5 s for each to say
// something; who stops need not. The zero value is empty.
type silent struct {
	mu struct {
		sync.Mutex
		open     map[net.Conn]struct{}
		stopping bool // who comes now is not let in
	}
}

// note is the server's ConnState hook.
func (s *silent) note(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case state != http.StateNew:
		delete(s.mu.open, c)
	case s.mu.stopping:
		_ = c.Close() // its reader finds out
	default:
		if s.mu.open == nil {
			s.mu.open = map[net.Conn]struct{}{}
		}
		s.mu.open[c] = struct{}{}
	}
}

// cut closes them, and those that come later.
func (s *silent) cut() {
	s.mu.Lock()
	s.mu.stopping = true
	closing := slices.Collect(maps.Keys(s.mu.open))
	s.mu.Unlock()
	for _, c := range closing {
		_ = c.Close() // as above
	}
}
