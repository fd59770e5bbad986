// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package mockbackend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// maxControlBody bounds what the control API reads, in bytes.
	maxControlBody = 1 << 20
	// maxWait bounds POST /wait.
	maxWait = 10 * time.Minute
)

// controlServer is the control API: it changes faults and shows what arrived, to whoever may use this machine.
type controlServer struct {
	b    *Backend
	addr string
	http *http.Server
	done chan struct{}
	once sync.Once
}

// startControl listens on a unix socket (unix:PATH, or a path) or on a loopback address; nothing else is accepted, for
// the API asks nobody who they are.
func (b *Backend) startControl(addr string) (*controlServer, error) {
	l, err := listenControl(addr)
	if err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	c := &controlServer{b: b, addr: l.Addr().String(), done: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /state", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, b.State()) })
	mux.HandleFunc("PUT /faults", c.putFaults)
	mux.HandleFunc("POST /faults", c.postFault)
	mux.HandleFunc("DELETE /faults", func(w http.ResponseWriter, _ *http.Request) { writeResult(w, b.SetFaults()) })
	mux.HandleFunc("DELETE /faults/{id}", c.deleteFault)
	mux.HandleFunc("POST /wait", c.wait)
	mux.HandleFunc("GET /requests", c.requests)
	mux.HandleFunc("POST /reset", func(w http.ResponseWriter, _ *http.Request) {
		b.Reset()
		writeResult(w, nil)
	})
	c.http = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(c.done)
		_ = c.http.Serve(l) // ends with stop
	}()
	return c, nil
}

func listenControl(addr string) (net.Listener, error) {
	path, isUnix := strings.CutPrefix(addr, "unix:")
	if isUnix || filepath.IsAbs(addr) {
		if info, err := os.Stat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
			if conn, err := net.Dial("unix", path); err == nil { //nolint:noctx // returns at once
				return nil, errors.Join(fmt.Errorf("%q is in use", path), conn.Close())
			}
			_ = os.Remove(path) // of a process that is gone; if it stays, listening says so
		}
		return net.Listen("unix", path) //nolint:noctx // returns at once
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("%q is no loopback address and no unix socket", addr)
	}
	return net.Listen("tcp", addr) //nolint:noctx // returns at once
}

func (c *controlServer) stop() {
	c.once.Do(func() {
		_ = c.http.Close() // waits ended when the backend stopped
		<-c.done
	})
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(v) // the client is gone, or not
}

func writeResult(w http.ResponseWriter, err error) {
	if err != nil {
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
		return
	}
	writeJSON(w, http.StatusOK, struct{}{})
}

func readJSON(r *http.Request, v any) error {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxControlBody))
	if err != nil {
		return err
	}
	return json.Unmarshal(body, v)
}

func (c *controlServer) putFaults(w http.ResponseWriter, r *http.Request) {
	var texts []string
	if err := readJSON(r, &texts); err != nil {
		writeResult(w, fmt.Errorf(`a list is needed, such as ["refuse"]: %w`, err))
		return
	}
	writeResult(w, c.b.SetFaults(texts...))
}

func (c *controlServer) postFault(w http.ResponseWriter, r *http.Request) {
	var text string
	if err := readJSON(r, &text); err != nil {
		writeResult(w, fmt.Errorf(`a text is needed, such as "refuse": %w`, err))
		return
	}
	id, err := c.b.AddFault(text)
	if err != nil {
		writeResult(w, err)
		return
	}
	writeJSON(w, http.StatusOK, map[string]uint64{"id": id})
}

func (c *controlServer) deleteFault(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseUint(r.PathValue("id"), 10, 64)
	if err != nil || !c.b.RemoveFault(id) {
		writeJSON(w, http.StatusNotFound, map[string]string{"error": "no such fault"})
		return
	}
	writeResult(w, nil)
}

// wait waits until as many items were stored or received, by signal.
func (c *controlServer) wait(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Stored   SignalCounts `json:"stored"`
		Received SignalCounts `json:"received"`
		Timeout  string       `json:"timeout"`
	}
	timeout := 10 * time.Second
	err := readJSON(r, &q)
	if err == nil && q.Timeout != "" {
		timeout, err = time.ParseDuration(q.Timeout)
	}
	if err != nil {
		writeResult(w, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), min(timeout, maxWait))
	defer cancel()
	err = c.b.Await(ctx, func(s State) bool { return reached(s.Stored, q.Stored) && reached(s.Received, q.Received) })
	if err != nil {
		writeJSON(w, http.StatusRequestTimeout, c.b.State())
		return
	}
	writeJSON(w, http.StatusOK, c.b.State())
}

func reached(have, want SignalCounts) bool {
	for s, n := range want {
		if have[s] < n {
			return false
		}
	}
	return true
}

func (c *controlServer) requests(w http.ResponseWriter, r *http.Request) {
	n := 20
	if text := r.URL.Query().Get("last"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 0 {
			writeResult(w, fmt.Errorf("last=%q: a number is needed", text))
			return
		}
	}
	writeJSON(w, http.StatusOK, c.b.Requests(n))
}
