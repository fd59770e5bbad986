// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/drill/words"
	"github.com/holdfast-telemetry/holdfast/internal/status"
)

// serve shows at addr how it goes, as text and as JSON, over all lives of the collector. The returned function ends that.
func (s *stage) serve(addr string) (stop func(), err error) {
	listener, err := net.Listen("tcp", addr) //nolint:noctx // returns at once
	if err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		n, _ := s.latest()
		h := w.Header()
		h.Set("Content-Type", "text/plain; charset=utf-8")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Refresh", "1") // a browser follows by itself
		fmt.Fprintf(w, "Where %s acknowledged items are:\n%s\n", words.Count(n.acked), n.picture())
		if n.status == nil {
			fmt.Fprintln(w, "The collector does not answer.")
			return
		}
		fmt.Fprint(w, status.Text(n.status))
	})
	mux.HandleFunc("GET /status.json", func(w http.ResponseWriter, _ *http.Request) {
		n, _ := s.latest()
		w.Header().Set("Content-Type", "application/json")
		if n.status == nil {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(n.status) // whoever asked has gone
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	done := make(chan struct{})
	go func() { // ends with the server, and is waited for
		defer close(done)
		_ = server.Serve(listener) // until it is closed
	}()
	s.event("status: http://%s/ and /status.json", listener.Addr())
	return func() {
		_ = server.Close() // nobody is left to tell
		<-done
	}, nil
}
