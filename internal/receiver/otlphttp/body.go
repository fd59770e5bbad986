// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlphttp

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/receiver/door"
)

// A body must come in at minRate bytes per second once slowStart is over (faults, part C).
const (
	slowStart = 10 * time.Second
	minRate   = 1 << 10
)

// extendBy is how much later a deadline must be to be worth setting.
const extendBy = 100 * time.Millisecond

// unknownPiece is how much room is asked for at first when the length of a body is not known.
const unknownPiece = 64 << 10

// pace says how slowly a body may come.
type pace struct {
	total time.Duration // for all of it; 0 = no bound
	start time.Duration // until then anything goes
	rate  int           // bytes per second afterwards
}

// deadline is the time by which the next byte must be there when n bytes arrived since the start.
func (p pace) deadline(start time.Time, n int) time.Time {
	d := p.start + time.Duration(n)*time.Second/time.Duration(p.rate)
	if p.total > 0 && d > p.total {
		d = p.total
	}
	return start.Add(d)
}

// read reads the body into req. It returns a *receiver.Refusal, ctx's error, a *door.SlowBody or errCutOff.
func (a *act) read(req *door.Request, maxBytes int, w http.ResponseWriter, r *http.Request) error {
	if r.ContentLength == 0 {
		return nil
	}
	b := &body{control: http.NewResponseController(w)}
	a.reading.add(b)
	defer a.reading.remove(b)
	err := a.pull(req, maxBytes, b, r)
	if err != nil && a.reading.wasCut(b) {
		return door.Stopping()
	}
	if err == nil {
		// The server goes on reading to notice that the client leaves; a deadline would look like that.
		a.reading.extend(b, time.Time{})
	}
	return err
}

func (a *act) pull(req *door.Request, maxBytes int, b *body, r *http.Request) error {
	start := time.Now()
	deadline := a.s.pace.deadline(start, 0)
	if !a.reading.extend(b, deadline) {
		return door.Stopping()
	}
	for {
		want := int(r.ContentLength) - req.Size()
		if r.ContentLength < 0 {
			// Room doubles, so that a large body is moved a few times only, and ends with the byte that is too many.
			if want = maxBytes + 1 - req.Size(); want > req.Size()+unknownPiece {
				want = max(unknownPiece, req.Size())
			}
		}
		if want == 0 {
			return nil
		}
		room, err := req.Room(want)
		if err != nil {
			return err
		}
		n, err := r.Body.Read(room)
		req.Filled(n)
		switch {
		case req.Size() > maxBytes:
			return door.TooLarge(maxBytes)
		case err == io.EOF:
			if r.ContentLength >= 0 && int64(req.Size()) < r.ContentLength {
				return errCutOff
			}
			return nil
		case err != nil:
			return bodyError(r.Context(), time.Since(start), err)
		}
		if next := a.s.pace.deadline(start, req.Size()); next.Sub(deadline) > extendBy {
			deadline = next
			if !a.reading.extend(b, deadline) {
				return door.Stopping()
			}
		}
	}
}

// bodyError is what an error of the connection means: our deadline, the client's end, or a broken connection. None of
// them is answered.
func bodyError(ctx context.Context, waited time.Duration, err error) error {
	var netErr net.Error
	switch {
	case errors.As(err, &netErr) && netErr.Timeout():
		return door.Slow(waited.Round(time.Second))
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return errCutOff
}

// body is a request's body being read.
type body struct {
	control *http.ResponseController
	cut     bool
}

// bodies are the bodies being read, so that they can be cut. The zero value is empty.
type bodies struct {
	mu struct {
		sync.Mutex
		cut bool
		all map[*body]struct{}
	}
}

func (bs *bodies) add(b *body) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	if bs.mu.all == nil {
		bs.mu.all = map[*body]struct{}{}
	}
	bs.mu.all[b] = struct{}{}
}

func (bs *bodies) remove(b *body) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	delete(bs.mu.all, b)
}

// extend sets the read deadline, unless bodies are cut; it reports whether it did.
func (bs *bodies) extend(b *body, deadline time.Time) bool {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	if bs.mu.cut {
		b.cut = true
		return false
	}
	b.control.SetReadDeadline(deadline)
	return true
}

// cut ends the reading of all bodies, now and later.
func (bs *bodies) cut() {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	bs.mu.cut = true
	for b := range bs.mu.all {
		b.cut = true
		b.control.SetReadDeadline(time.Unix(1, 0))
	}
}

func (bs *bodies) wasCut(b *body) bool {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	return b.cut
}
