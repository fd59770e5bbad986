// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// honest sends one span after the other, over gRPC and HTTP by turns, each until it is acknowledged. To be refused for
// a while is part of life; to be cut off, or refused for good, is not.
type honest struct {
	stop context.CancelFunc
	done chan struct{}
	mu   struct {
		sync.Mutex
		acked   []string
		refused int
		wrongs  []error
		changed chan struct{}
	}
}

func startHonest(t *testing.T, host string) *honest {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	h := &honest{stop: cancel, done: make(chan struct{})}
	h.mu.changed = make(chan struct{})
	conn := dial(t, host+":4317", nil)
	tr := &http.Transport{}
	sendHTTP := func(ctx context.Context, name string) error {
		body := wire(t, spans([]string{name}))
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+host+":4318/v1/traces", bytes.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", protobufType)
		resp, err := tr.RoundTrip(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		switch {
		case resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") != "":
			return status.Error(codes.Unavailable, "503")
		case resp.StatusCode != http.StatusOK:
			return errors.New(resp.Status)
		}
		return err
	}
	go func() {
		defer close(h.done)
		defer tr.CloseIdleConnections()
		again := time.NewTicker(20 * time.Millisecond)
		defer again.Stop()
		for i := 0; ctx.Err() == nil; i++ {
			name := "honest-" + strconv.Itoa(i)
			for ctx.Err() == nil {
				attempt, cancel := context.WithTimeout(ctx, patience)
				var err error
				if i%2 == 0 {
					err = export(attempt, conn, []string{name})
				} else {
					err = sendHTTP(attempt, name)
				}
				cancel()
				if ctx.Err() == nil {
					h.note(name, err)
				}
				select {
				case <-again.C:
				case <-ctx.Done():
				}
				if err == nil {
					break
				}
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-h.done })
	return h
}

func (h *honest) note(name string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err == nil:
		h.mu.acked = append(h.mu.acked, name)
	case status.Code(err) == codes.Unavailable && !strings.Contains(err.Error(), "connection"):
		h.mu.refused++
	default:
		h.mu.wrongs = append(h.mu.wrongs, err)
	}
	close(h.mu.changed)
	h.mu.changed = make(chan struct{})
}

func (h *honest) counts() (acked, refused int, wrongs []error, changed <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.mu.acked), h.mu.refused, slices.Clone(h.mu.wrongs), h.mu.changed
}
