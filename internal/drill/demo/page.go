// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/status"
	"github.com/holdfast-telemetry/holdfast/internal/status/page"
)

// pageEvents are how many events the child is asked for.
const pageEvents = 50

// errAway is what the page says of a collector that is dead.
var errAway = errors.New("the collector does not answer")

// serve shows at addr the collector's own page, over all its lives: what is between them is said plainly. The returned
// function ends that.
func (s *stage) serve(addr string) (stop func(), err error) {
	listener, err := net.Listen("tcp", addr) //nolint:noctx // returns at once
	if err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	p := page.New(page.Settings{Endpoint: addr, Status: func(context.Context) (status.Status, error) {
		n, _ := s.seen.Latest()
		if n.status == nil {
			return status.Status{}, errAway
		}
		return *n.status, nil
	}})
	server := &http.Server{Handler: p, ReadHeaderTimeout: 5 * time.Second}
	done := make(chan struct{})
	go func() { // ends with the server, and is waited for
		defer close(done)
		_ = server.Serve(listener) // until it is closed
	}()
	s.event("the page: http://%s/", listener.Addr())
	return func() {
		p.Close()
		_ = server.Close() // nobody is left to tell
		<-done
	}, nil
}
