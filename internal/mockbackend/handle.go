// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package mockbackend

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
)

// call is a request that was read whole.
type call struct {
	conn        *conn
	protocol    string
	signal      item.Signal
	json        bool
	compression string
	wire        int
	body        []byte
	headers     func() map[string]string
}

// errMalformed says that a body is no request.
var errMalformed = errors.New("malformed request")

// handle decides about a request, stores and notes it, and waits as long as faults say. What is left is to answer, or
// not: the caller knows the protocol. release must be called when the answer is out.
func (b *Backend) handle(ctx context.Context, c *call) (*outcome, error) {
	c.conn.used()
	content, err := b.read(c)
	if err != nil {
		b.mu.Lock()
		b.mu.counts.malformed++
		b.mu.Unlock()
		return nil, err
	}
	o := b.decide(c, &content)
	stored := o.ok() && !o.forget
	if o.store != nil {
		stored = *o.store
	}
	b.keep(c, &content, o, stored)
	if o.delay > 0 || o.hang {
		b.dawdle(ctx, c, o)
	}
	return o, nil
}

// dawdle waits for the delay, or for the end of the request or the backend if it hangs. A client that has given up does not
// make a slow backend quicker: answering at its deadline would let the answer win now and then.
func (b *Backend) dawdle(ctx context.Context, c *call, o *outcome) {
	var over <-chan time.Time
	if !o.hang {
		t := time.NewTimer(o.delay)
		defer t.Stop()
		over = t.C
	}
	select {
	case <-over:
		return
	case <-ctx.Done():
	case <-b.stop:
		return
	}
	if over == nil || !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return
	}
	select {
	case <-over:
	case <-c.conn.closed:
	case <-b.stop:
	}
}

// read finds what a request holds. A backend that only counts looks no further than it must.
func (b *Backend) read(c *call) (item.Content, error) {
	if b.o.CountOnly && !c.json && !b.looksForPoison() {
		n, err := countItems(c.signal, c.body)
		if err != nil {
			return item.Content{}, fmt.Errorf("%w: %w", errMalformed, err)
		}
		return item.Content{Items: n}, nil
	}
	content, err := b.checker.Read(c.signal, c.json, c.body, nil)
	if err != nil {
		return item.Content{}, fmt.Errorf("%w: %w", errMalformed, err)
	}
	return content, nil
}

func (b *Backend) looksForPoison() bool {
	for _, r := range b.rules.all() {
		if r.what().Kind == "reject_marked" {
			return true
		}
	}
	return false
}

// keep counts and notes a request. Of a partial success the rejected part is not stored: what is marked, or, as the
// protocol does not say which, the last ones.
func (b *Backend) keep(c *call, content *item.Content, o *outcome, stored bool) {
	kept := content.Items
	if !stored {
		kept = 0
	} else if o.partial {
		kept -= o.rejected
	}
	if b.notes != nil {
		now := time.Now()
		taken, refused := *content, item.Content{}
		if stored && o.partial && o.rejected > 0 {
			taken, refused = split(content, o)
		}
		b.notes.Arrived(now, c.conn.id, c.signal, taken, stored, o.answer)
		b.notes.Arrived(now, c.conn.id, c.signal, refused, false, o.answer)
	}
	i := c.signal.Index()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.counts.requests[i]++
	b.mu.counts.items[i] += uint64(content.Items)
	b.mu.counts.stored[i] += uint64(kept)
	b.mu.answers[o.answer]++
	if !b.o.CountOnly || b.o.KeepBodies {
		b.rememberLocked(c, content, o, stored)
	}
	for w := range b.mu.waiters {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

// split parts a request into what is stored and what a partial success rejected.
func split(c *item.Content, o *outcome) (taken, refused item.Content) {
	taken = item.Content{Foreign: c.Foreign, Damaged: c.Damaged}
	left := uint64(c.Items - o.rejected)
	for _, r := range c.Ranges {
		switch n := uint64(r.Items()); {
		case o.poison && r.Flags&item.Poison != 0, !o.poison && left == 0:
			refused.Ranges = append(refused.Ranges, r)
		case o.poison || n <= left:
			taken.Ranges = append(taken.Ranges, r)
			left -= min(n, left)
		default:
			head, tail := r, r
			head.Last = r.First + left - 1
			tail.First = head.Last + 1
			left = 0
			taken.Ranges, refused.Ranges = append(taken.Ranges, head), append(refused.Ranges, tail)
		}
	}
	return taken, refused
}
