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

// guests counts open connections and knows those of which nothing of a request was read yet: net/http's Shutdown waits
// 5 s for each to say something; who stops need not. The zero value is empty.
type guests struct {
	mu struct {
		sync.Mutex
		open     int
		silent   map[net.Conn]struct{}
		stopping bool            // who comes now is not let in
		waiting  []chan struct{} // for nobody to be left
	}
}

// note is the server's ConnState hook.
func (g *guests) note(c net.Conn, state http.ConnState) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if state != http.StateNew {
		delete(g.mu.silent, c)
		if state == http.StateClosed || state == http.StateHijacked {
			g.mu.open--
			g.tellLocked()
		}
		return
	}
	g.mu.open++
	if g.mu.stopping {
		_ = c.Close() // its reader finds out
		return
	}
	if g.mu.silent == nil {
		g.mu.silent = map[net.Conn]struct{}{}
	}
	g.mu.silent[c] = struct{}{}
}

func (g *guests) tellLocked() {
	if g.mu.open > 0 {
		return
	}
	for _, c := range g.mu.waiting {
		close(c)
	}
	g.mu.waiting = nil
}

// gone returns what is closed once no connection is open.
func (g *guests) gone() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := make(chan struct{})
	g.mu.waiting = append(g.mu.waiting, c)
	g.tellLocked()
	return c
}

// cutSilent closes connections that have said nothing, and those that come later.
func (g *guests) cutSilent() {
	g.mu.Lock()
	g.mu.stopping = true
	closing := slices.Collect(maps.Keys(g.mu.silent))
	g.mu.Unlock()
	for _, c := range closing {
		_ = c.Close() // as above
	}
}
