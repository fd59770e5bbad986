// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package mockbackend

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"google.golang.org/grpc/codes"

	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
)

// outcome is what a backend does about a request.
type outcome struct {
	answer   string // as it is noted
	code     codes.Code
	http     int
	message  string
	hint     string // retry_after
	rejected int
	partial  bool // say that some were rejected, or only the message
	delay    time.Duration
	hang     bool
	reset    bool
	odd      string // answer:KIND
	forget   bool
	store    *bool
	poison   bool // of a partial success: what is marked is rejected, not what stands last
	release  func()
}

func (o *outcome) ok() bool { return o.code == codes.OK && !o.hang && !o.reset && o.odd == "" }

// decide asks the faults in order: those that only slow down add up, the first that decides the answer does.
func (b *Backend) decide(c *call, content *item.Content) *outcome {
	o := &outcome{code: codes.OK, http: 200}
	now := time.Now()
	var share float64 = -1
	hash := func() float64 {
		if share < 0 {
			share = share01(b.o.Seed, c.body)
		}
		return share
	}
	decided := false
	for _, r := range b.rules.all() {
		active, _ := r.active(now)
		if !active || !r.for1(c.signal, hash) {
			continue
		}
		if b.slows(r, c, content.Items, o, now) || decided || !b.decides(r, c, content, o, now) {
			continue
		}
		decided = true
		o.store = r.what().Store
		if r.Store != nil {
			o.store = r.Store
		}
	}
	if o.answer == "" {
		o.answer = c.name(o)
	}
	return o
}

// name is how an answer is noted.
func (c *call) name(o *outcome) string {
	if c.protocol == "grpc" {
		return codeName(o.code)
	}
	return fmt.Sprint(o.http)
}

// slows reports whether a fault is one that only takes time, after it took it.
func (b *Backend) slows(r *rule, c *call, items int, o *outcome, now time.Time) bool {
	switch f := r.what(); {
	case f.Kind == "slow":
		if r.hit() {
			o.delay += f.low + time.Duration(share01(b.o.Seed+r.hits.Load(), c.body)*float64(f.high-f.low))
		}
		return true
	case f.Kind == "capacity" && f.over == "slow":
		if wait := r.take(now, items, true); wait > 0 && r.hit() {
			o.delay += wait
		}
		return true
	}
	return false
}

// decides reports whether a fault decides the answer, after it did.
func (b *Backend) decides(r *rule, c *call, content *item.Content, o *outcome, now time.Time) bool {
	f := r.what()
	switch f.Kind {
	case "status":
		if !r.hit() {
			return false
		}
		o.set(f.outcome, "status fault", f.retryAfter)
	case "partial":
		if !r.hit() {
			return false
		}
		o.partial, o.rejected, o.message = true, f.rejected(content.Items), "partial fault"
	case "reject_marked":
		n := marked(content)
		if n == 0 || !r.hit() {
			return false
		}
		if f.Value == "part" {
			o.partial, o.rejected, o.message, o.poison = true, n, "poison", true
			return true
		}
		o.set(outcomeSpec{codes.InvalidArgument, 400}, "poison", "")
	case "max_bytes":
		if int64(len(c.body)) <= f.number || !r.hit() {
			return false
		}
		o.set(outcomeSpec{codes.ResourceExhausted, 413}, fmt.Sprintf("request larger than max (%d vs. %d)", len(c.body), f.number), "")
	case "no_compression":
		if c.compression == "" || !r.hit() {
			return false
		}
		o.set(outcomeSpec{codes.Unimplemented, 415}, "compression "+c.compression+" is not supported", "")
	case "capacity":
		wait := r.take(now, content.Items, false)
		if wait <= 0 || !r.hit() {
			return false
		}
		if f.over == "reset" {
			o.reset, o.answer = true, "reset"
			return true
		}
		o.set(outcomeSpec{codes.ResourceExhausted, 429}, "capacity fault", max(wait, time.Millisecond).Round(time.Millisecond).String())
	case "inflight":
		if n := b.inflight.Add(1); n <= f.number || !r.hit() {
			prev := o.release
			o.release = func() {
				b.inflight.Add(-1)
				if prev != nil {
					prev()
				}
			}
			return false
		}
		b.inflight.Add(-1)
		o.set(outcomeSpec{codes.ResourceExhausted, 429}, "too many requests at once", "1s")
	case "hang":
		if !r.hit() {
			return false
		}
		o.hang, o.answer = true, "hang"
	case "reset":
		if f.Value == "accept" || !r.hit() {
			return false
		}
		o.reset, o.answer = true, "reset"
	case "answer":
		if !r.hit() {
			return false
		}
		o.odd, o.answer = f.Value, f.Value
	case "forget":
		if !r.hit() {
			return false
		}
		o.forget = true
	default:
		return false
	}
	return true
}

func (o *outcome) set(s outcomeSpec, message, hint string) {
	o.code, o.http, o.message, o.hint = s.code, s.http, message, hint
}

// marked counts the items that hold poison.
func marked(c *item.Content) (n int) {
	for _, r := range c.Ranges {
		if r.Flags&item.Poison != 0 {
			n += r.Items()
		}
	}
	return n
}

// codeName writes a code as the specification does: UNAVAILABLE.
func codeName(c codes.Code) string {
	var b strings.Builder
	for i, r := range c.String() {
		if i > 0 && unicode.IsUpper(r) && c != codes.OK {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToUpper(r))
	}
	return b.String()
}
