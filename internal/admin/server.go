// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Request is what a route is asked.
type Request struct {
	Query url.Values
	Body  []byte // at most 1 MiB
}

// Decode reads the body's JSON object into v and refuses keys that v does not have.
func (r *Request) Decode(v any) error {
	d := json.NewDecoder(strings.NewReader(string(r.Body)))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return Refuse(http.StatusBadRequest, "read request: %v", err)
	}
	return nil
}

// Handler answers one route. It returns what becomes the JSON body, or an error: an *Error's code and text go to whoever
// asked, any other is 500. Handlers of several requests run at once; ctx ends with the route's time, with the client,
// and with Stop.
type Handler func(ctx context.Context, r *Request) (any, error)

// Route is one thing that can be asked.
type Route struct {
	Method, Path string
	Timeout      time.Duration // 0 = 10 s
	Handle       Handler
}

// Server is the door.
type Server struct {
	log     *zap.Logger
	mux     *http.ServeMux
	http    *http.Server
	path    string
	made    os.FileInfo // of the socket that is ours
	slots   chan struct{}
	ctx     context.Context // of requests
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// NewServer returns a door without routes that listens nowhere.
func NewServer(log *zap.Logger) *Server {
	s := &Server{log: log, mux: http.NewServeMux(), slots: make(chan struct{}, maxRequests)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Handle adds a route; two for one method and path are a defect and panic. Before Start.
func (s *Server) Handle(r Route) {
	if r.Timeout <= 0 {
		r.Timeout = answerTime
	}
	s.mux.HandleFunc(r.Method+" "+r.Path, func(w http.ResponseWriter, req *http.Request) { s.serve(w, req, &r) })
}

// Start listens at path. The error is ErrInUse if another process answers there; a socket that nobody listens at is
// replaced, anything else that has the name is left alone.
func (s *Server) Start(path string) error {
	l, made, err := listen(path)
	if err != nil {
		return fmt.Errorf("admin socket %q: %w", path, err)
	}
	s.path, s.made = path, made
	quiet, err := zap.NewStdLogAt(s.log, zap.DebugLevel)
	if err != nil {
		_ = l.Close() // the first error counts
		return fmt.Errorf("admin socket: %w", err)
	}
	s.http = &http.Server{
		Handler: s.mux, ReadHeaderTimeout: headTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeader, ErrorLog: quiet,
	}
	s.running.Go(func() {
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("Admin socket ended", zap.String("socket", path), zap.Error(err))
		}
	})
	return nil
}

// Path is where the door is; empty before Start.
func (s *Server) Path() string { return s.path }

// Stop takes no more requests, ends those that run, waits for them and removes the socket if it is still ours.
func (s *Server) Stop(ctx context.Context) error {
	s.cancel()
	if s.http == nil {
		return nil
	}
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.http.Close())
	}
	s.running.Wait()
	if now, e := os.Lstat(s.path); e == nil && os.SameFile(now, s.made) {
		err = errors.Join(err, os.Remove(s.path))
	}
	s.http = nil
	return err
}

func (s *Server) serve(w http.ResponseWriter, req *http.Request, route *Route) {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		answer(w, http.StatusServiceUnavailable, refusal{"too many requests at once"})
		return
	}
	ctx, cancel := context.WithTimeout(req.Context(), route.Timeout)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	deadline := http.NewResponseController(w)
	until := time.Now().Add(route.Timeout + headTime)
	if err := errors.Join(deadline.SetReadDeadline(until), deadline.SetWriteDeadline(until)); err != nil {
		answer(w, http.StatusInternalServerError, refusal{"set deadline: " + err.Error()})
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxBody))
	if err != nil {
		answer(w, http.StatusRequestEntityTooLarge, refusal{"read request: " + err.Error()})
		return
	}
	out, err := route.Handle(ctx, &Request{Query: req.URL.Query(), Body: body})
	if err != nil {
		answer(w, codeOf(err), refusal{err.Error()})
		return
	}
	answer(w, http.StatusOK, out)
}

func answer(w http.ResponseWriter, code int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		code, text = http.StatusInternalServerError, []byte(`{"error":"the answer cannot be shown"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write(append(text, '\n')) // who asked has gone
}
