// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
)

// closedAfter reads until the other side closes, and returns how long that took.
func closedAfter(conn net.Conn, limit time.Duration) (time.Duration, error) {
	began := time.Now()
	if err := conn.SetReadDeadline(began.Add(limit)); err != nil {
		return 0, err
	}
	_, err := io.Copy(io.Discard, conn)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return 0, fmt.Errorf("still open after %s", limit)
	}
	return time.Since(began), nil // a reset is an end too
}

// slowAttack is what takes the door's timers: it runs beside the other attacks.
type slowAttack struct {
	f       *fortress
	done    sync.WaitGroup
	mu      sync.Mutex
	errs    []error
	closed  map[string]time.Duration // what → the latest
	stopped chan struct{}
}

// Timers of the door (faults, part C), with room for a machine that is busy.
const (
	headerLimit = 10 * time.Second
	bodyLimit   = 60 * time.Second
	slack       = 10 * time.Second
)

func (f *fortress) startSlow(t *testing.T) *slowAttack {
	t.Helper()
	s := &slowAttack{f: f, closed: map[string]time.Duration{}, stopped: make(chan struct{})}
	t.Cleanup(func() { close(s.stopped); s.done.Wait() })
	head := "POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Type: " + protobufType + "\r\n"
	for range 20 {
		s.watch("slow HTTP headers", f.raw(t, "4318"), headerLimit+slack, head, "X-Slow: ")
		s.watch("slow HTTP body", f.raw(t, "4318"), headerLimit+slack, head+"Content-Length: 10000\r\n\r\n", "x")
		s.watch("slow HTTP/2 preface", f.raw(t, "4317"), headerLimit+slack, "PRI * HT", "")
		s.watch("slow TLS handshake", f.raw(t, "5318"), headerLimit+slack, "\x16\x03\x01\x02", "")
		s.watch("idle after a request", f.raw(t, "4318"), bodyLimit+slack, head+"Content-Length: 0\r\n\r\n", "")
		s.slowCall()
	}
	for i := range 1000 {
		port := []string{"4317", "4318"}[i%2]
		s.watch("idle connections to "+port, f.raw(t, port), headerLimit+slack, "", "")
	}
	return s
}

// watch sends first, then drip every half second, and sees that the connection is closed in time.
func (s *slowAttack) watch(what string, conn net.Conn, limit time.Duration, first, drip string) {
	if _, err := io.WriteString(conn, first); err != nil {
		s.note(what, 0, err)
		return
	}
	closed := make(chan struct{})
	if drip != "" {
		s.done.Go(func() {
			tick := time.NewTicker(500 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
					if _, err := io.WriteString(conn, drip); err != nil {
						return
					}
				case <-closed:
					return
				case <-s.stopped:
					_ = conn.Close()
					return
				}
			}
		})
	}
	s.done.Go(func() {
		defer close(closed)
		took, err := closedAfter(conn, limit)
		s.note(what, took, err)
		_ = conn.Close()
	})
}

// slowCall begins a gRPC message and does not go on.
func (s *slowAttack) slowCall() {
	s.done.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), bodyLimit+slack)
		defer cancel()
		r, w := io.Pipe()
		defer w.Close()
		go func() { _, _ = w.Write([]byte{0, 0, 1, 0, 0, 'x'}) }() // ends with the pipe
		began := time.Now()
		a, err := s.f.call(ctx, "logs", "", r)
		if err == nil && a.code != codes.DeadlineExceeded {
			err = fmt.Errorf("answered %s %q, want DeadlineExceeded", a.code, a.text)
		}
		s.note("slow gRPC message", time.Since(began), err)
	})
}

func (s *slowAttack) note(what string, took time.Duration, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.errs = append(s.errs, fmt.Errorf("%s: %w", what, err))
	}
	s.closed[what] = max(s.closed[what], took)
}

// finish waits until everything slow was ended by the door.
func (s *slowAttack) finish(t *testing.T) {
	s.f.attack(t, "slow and idle connections, in the end", func(t *testing.T) {
		s.done.Wait()
		for what, took := range s.closed {
			t.Logf("%s: closed after %s at most", what, took.Round(100*time.Millisecond))
		}
		for i, err := range s.errs {
			if i == 5 {
				t.Errorf("and %d more", len(s.errs)-i)
				break
			}
			t.Error(err)
		}
	})
	if got := s.f.refusals(t)["timeout"]; got == 0 {
		t.Error(`holdfast_door_refused_total{reason="timeout"} did not move`)
	}
}
