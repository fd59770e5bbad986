// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package page

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// errOver is why a stream ends that did nothing wrong.
var errOver = errors.New("over")

// stream is /events: a status every second, as server-sent events. The events of the log come with the first one, and
// with each one after something happened. A stream ends with its reader, with the page, and if a write takes too long.
func (p *Page) stream(w http.ResponseWriter, r *http.Request) {
	select {
	case p.streams <- struct{}{}:
		defer func() { <-p.streams }()
	default:
		w.Header().Set("Retry-After", "5")
		http.Error(w, "too many streams at once", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	if r.Method == http.MethodHead {
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	out := &stream{page: p, w: w, control: http.NewResponseController(w)}
	if out.control.SetReadDeadline(time.Time{}) != nil { // the server's is that of a request, and would end the stream
		return
	}
	tick := time.NewTicker(p.set.Every)
	defer tick.Stop()
	for err := out.open(); err == nil; {
		if err = out.send(ctx); err != nil {
			return
		}
		select {
		case <-tick.C:
		case <-p.closed:
			err = errOver
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
}

// stream is one reader.
type stream struct {
	page    *Page
	w       http.ResponseWriter
	control *http.ResponseController
	last    uint64 // event that was sent
}

// open says how long a browser waits before it comes back.
func (s *stream) open() error { return s.write("retry: 2000\n\n") }

func (s *stream) send(ctx context.Context) error {
	text, last, err := s.page.render(ctx, s.last)
	if err != nil {
		text, _ = json.Marshal(silence{err.Error()}) // a string can be shown
		s.last = 0
		return s.write(fmt.Sprintf("event: silent\ndata: %s\n\n", text))
	}
	s.last = last
	return s.write(fmt.Sprintf("event: status\ndata: %s\n\n", text)) // JSON has no line ends
}

func (s *stream) write(text string) error {
	if err := s.control.SetWriteDeadline(time.Now().Add(s.page.set.Patience)); err != nil {
		return err
	}
	if _, err := s.w.Write([]byte(text)); err != nil {
		return err
	}
	return s.control.Flush()
}
