// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package mockbackend

import (
	"context"
	"maps"
	"strings"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
)

// perSignal counts by signal, in the order of item.Signals.
type perSignal [len(item.Signals)]uint64

// counts is what a backend counted since it started or was reset.
type counts struct {
	requests, items, stored perSignal
	malformed               uint64
}

// Request is one request as the backend remembers it.
type Request struct {
	Time        time.Time         `json:"time"`
	Conn        uint64            `json:"conn"`
	Protocol    string            `json:"protocol"` // grpc, http, http+json
	Signal      string            `json:"signal"`
	Headers     map[string]string `json:"headers"` // credentials masked
	Compression string            `json:"compression,omitempty"`
	WireBytes   int               `json:"wire_bytes"` // as it came; of gRPC the decoded size
	Bytes       int               `json:"bytes"`      // decoded
	Items       int               `json:"items"`
	First       string            `json:"first,omitempty"` // the identity of the first item that has one
	Last        string            `json:"last,omitempty"`
	Stored      bool              `json:"stored"`
	Answer      string            `json:"answer"`
	Body        []byte            `json:"-"` // with Options.KeepBodies; JSON as it came
}

// SignalCounts are counts by the word of a signal.
type SignalCounts map[string]uint64

func (p perSignal) words() SignalCounts {
	out := make(SignalCounts, len(p))
	for i, s := range item.Signals {
		out[s.String()] = p[i]
	}
	return out
}

// State is a snapshot of a backend.
type State struct {
	Name      string            `json:"name"`
	Requests  SignalCounts      `json:"requests"`
	Received  SignalCounts      `json:"received"` // items
	Stored    SignalCounts      `json:"stored"`   // items
	Malformed uint64            `json:"malformed"`
	Answers   map[string]uint64 `json:"answers"` // requests by answer
	Conns     ConnCounts        `json:"connections"`
	Faults    []FaultState      `json:"faults"`
	Error     string            `json:"error,omitempty"` // what went wrong in the backend itself
}

// ConnCounts count connections.
type ConnCounts struct {
	Open  int64 `json:"open"`
	Total int64 `json:"total"`
}

// FaultState is a fault that was set.
type FaultState struct {
	ID     uint64 `json:"id"`
	Text   string `json:"text"`
	Active bool   `json:"active"`
	Hits   uint64 `json:"hits"`
}

// State returns a snapshot.
func (b *Backend) State() State {
	now := time.Now()
	s := State{Name: b.o.Name, Conns: ConnCounts{Open: b.conns.open.Load(), Total: b.conns.total.Load()}, Faults: []FaultState{}}
	for _, r := range b.rules.all() {
		active, _ := r.active(now)
		s.Faults = append(s.Faults, FaultState{ID: r.id, Text: r.Text, Active: active, Hits: r.hits.Load()})
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	c := &b.mu.counts
	s.Requests, s.Received, s.Stored, s.Malformed = c.requests.words(), c.items.words(), c.stored.words(), c.malformed
	s.Answers = maps.Clone(b.mu.answers)
	if b.mu.err != nil {
		s.Error = b.mu.err.Error()
	}
	return s
}

// Requests returns up to n of the requests remembered last, oldest first.
func (b *Backend) Requests(n int) []Request {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := append(append([]Request{}, b.mu.requests[b.mu.next:]...), b.mu.requests[:b.mu.next]...)
	return all[max(0, len(all)-n):]
}

// Reset sets the counters to 0 and forgets requests; notes and faults stay.
func (b *Backend) Reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.counts = counts{}
	b.mu.answers = make(map[string]uint64)
	b.mu.requests, b.mu.next, b.mu.kept = nil, 0, 0
}

// Await waits until done says so of a snapshot; it is asked after every request. The error is ctx's.
func (b *Backend) Await(ctx context.Context, done func(State) bool) error {
	wake := make(chan struct{}, 1)
	b.mu.Lock()
	b.mu.waiters[wake] = struct{}{}
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		delete(b.mu.waiters, wake)
		b.mu.Unlock()
	}()
	for !done(b.State()) {
		select {
		case <-wake:
		case <-ctx.Done():
			return ctx.Err()
		case <-b.stop:
			return ErrStopped
		}
	}
	return nil
}

func (b *Backend) rememberLocked(c *call, content *item.Content, o *outcome, stored bool) {
	r := Request{Time: time.Now(), Conn: c.conn.id, Protocol: c.protocol, Signal: c.signal.String(), Headers: c.headers(),
		Compression: c.compression, WireBytes: c.wire, Bytes: len(c.body), Items: content.Items, Stored: stored, Answer: o.answer}
	if n := len(content.Ranges); n > 0 {
		first, last := content.Ranges[0], content.Ranges[n-1]
		r.First = string(item.AppendID(nil, first.Run.Label(), item.ID{Signal: c.signal, Producer: first.Producer, Seq: first.First}))
		r.Last = string(item.AppendID(nil, last.Run.Label(), item.ID{Signal: c.signal, Producer: last.Producer, Seq: last.Last}))
	}
	if b.o.KeepBodies && b.mu.kept+len(c.body) <= b.o.MaxRequestMemory {
		r.Body = c.body
		b.mu.kept += len(c.body)
	}
	if len(b.mu.requests) < maxRemembered {
		b.mu.requests = append(b.mu.requests, r)
		return
	}
	b.mu.kept -= len(b.mu.requests[b.mu.next].Body)
	b.mu.requests[b.mu.next] = r
	b.mu.next = (b.mu.next + 1) % maxRemembered
}

// secretHeaders are never shown.
var secretHeaders = []string{"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"}

// mask copies headers with credentials masked; names in lower case.
func mask(in map[string][]string) map[string]string {
	out := make(map[string]string, len(in))
	for k, v := range in {
		out[strings.ToLower(k)] = strings.Join(v, ", ")
	}
	for _, k := range secretHeaders {
		if _, ok := out[k]; ok {
			out[k] = "***"
		}
	}
	return out
}
