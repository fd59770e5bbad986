// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package mockbackend

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
)

// rule is a fault that was set.
type rule struct {
	*Fault
	id    uint64
	since time.Time
	hits  atomic.Uint64
	// Of capacity.
	bucket struct {
		sync.Mutex
		tokens float64
		at     time.Time
	}

	ended bool            // guarded by rules.mu: its line was written
	poke  chan<- struct{} // tells the director that the fault has had its hits
}

// active reports whether the fault is in force, and when that may change; zero: never.
func (r *rule) active(now time.Time) (bool, time.Time) {
	from := r.since.Add(r.After)
	if now.Before(from) {
		return false, from
	}
	var end time.Time
	if r.For > 0 {
		end = from.Add(r.For)
		if !now.Before(end) {
			return false, time.Time{}
		}
	}
	if r.exhausted() {
		return false, time.Time{}
	}
	if r.Kind != "flap" {
		return true, end
	}
	period := r.up + r.down
	at := now.Sub(from) % period
	next := now.Add(period - at)
	down := at >= r.up
	if !down {
		next = now.Add(r.up - at)
	}
	if !end.IsZero() && end.Before(next) {
		next = end
	}
	return down, next
}

// over reports whether the fault will never be in force again.
func (r *rule) over(now time.Time) bool {
	return r.For > 0 && !now.Before(r.since.Add(r.After+r.For)) || r.exhausted()
}

func (r *rule) exhausted() bool { return r.Count > 0 && r.hits.Load() >= r.Count }

// what is the fault in force: a flap's is the one it switches on and off.
func (r *rule) what() *Fault {
	if r.Kind == "flap" {
		return r.inner
	}
	return r.Fault
}

// hit counts a hit; false if the fault has had all it may have.
func (r *rule) hit() bool {
	n := r.hits.Add(1)
	switch {
	case r.Count == 0 || n < r.Count:
		return true
	case n > r.Count:
		r.hits.Add(^uint64(0))
		return false
	}
	select {
	case r.poke <- struct{}{}:
	default:
	}
	return true
}

// for1 reports whether the fault is for this request: signal, and share by a seeded hash.
func (r *rule) for1(s item.Signal, hash func() float64) bool {
	f := r.what()
	if !f.forSignal(s) || !r.forSignal(s) {
		return false
	}
	share := r.Share
	if f != r.Fault { // a flap's
		share *= f.Share
	}
	return share >= 1 || hash() < share
}

// take takes n items out of a bucket; wait is how long they have to wait if there are not enough.
func (r *rule) take(now time.Time, n int, debt bool) (wait time.Duration) {
	f, b := r.what(), &r.bucket
	b.Lock()
	defer b.Unlock()
	rate := float64(f.number)
	if b.at.IsZero() {
		b.tokens = f.burst
	} else {
		b.tokens = min(f.burst, b.tokens+now.Sub(b.at).Seconds()*rate)
	}
	b.at = now
	// A request larger than the bucket would wait for ever: it needs a full one.
	if need := min(float64(n), f.burst); b.tokens < need {
		wait = time.Duration((need - b.tokens) / rate * float64(time.Second))
		if !debt {
			return wait
		}
	}
	b.tokens -= float64(n)
	return wait
}

// share01 maps a request to [0, 1), always the same for the same content and seed. The beginning of a request of the
// ledger's holds its name.
func share01(seed uint64, body []byte) float64 {
	h := fnv.New64a()
	_, _ = h.Write(strconv.AppendUint(nil, seed, 10))
	_, _ = h.Write(body[:min(len(body), 512)])
	_, _ = h.Write(strconv.AppendInt(nil, int64(len(body)), 10))
	x := h.Sum64()
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	return float64((x^x>>33)>>11) / (1 << 53)
}

// rules are the faults of a backend, in order.
type rules struct {
	mu     sync.Mutex
	list   []*rule
	nextID uint64
	// current is list for readers on the request path.
	current atomic.Pointer[[]*rule]
	changed chan struct{} // tells the director; one is enough
}

func (s *rules) all() []*rule {
	if p := s.current.Load(); p != nil {
		return *p
	}
	return nil
}

func (s *rules) publishLocked() {
	list := append([]*rule(nil), s.list...)
	s.current.Store(&list)
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// AddFault sets one more fault, behind those that are set, and returns its id. It is in force when AddFault returns.
func (b *Backend) AddFault(text string) (uint64, error) {
	f, err := ParseFault(text)
	if err != nil {
		return 0, err
	}
	b.rules.mu.Lock()
	defer b.rules.mu.Unlock()
	if b.stopped() {
		return 0, ErrStopped
	}
	id := b.addLocked(f)
	b.rules.publishLocked()
	b.applyLocked(time.Now())
	return id, nil
}

// SetFaults replaces all faults; they are in force when it returns. If one cannot be read nothing is changed.
func (b *Backend) SetFaults(texts ...string) error {
	faults := make([]*Fault, 0, len(texts))
	var errs []error
	for _, text := range texts {
		f, err := ParseFault(text)
		faults, errs = append(faults, f), append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	b.rules.mu.Lock()
	defer b.rules.mu.Unlock()
	if b.stopped() {
		return ErrStopped
	}
	now := time.Now()
	b.endLocked(now, func(*rule) bool { return true })
	for _, f := range faults {
		b.addLocked(f)
	}
	b.rules.publishLocked()
	b.applyLocked(time.Now()) // not before they were set
	return nil
}

// RemoveFault ends a fault by its id; false if there is none.
func (b *Backend) RemoveFault(id uint64) bool {
	b.rules.mu.Lock()
	defer b.rules.mu.Unlock()
	now := time.Now()
	n := len(b.rules.list)
	b.endLocked(now, func(r *rule) bool { return r.id == id })
	b.rules.publishLocked()
	b.applyLocked(now)
	return len(b.rules.list) < n
}

func (b *Backend) addLocked(f *Fault) uint64 {
	b.rules.nextID++
	b.rules.list = append(b.rules.list, &rule{Fault: f, id: b.rules.nextID, since: time.Now(), poke: b.rules.changed})
	return b.rules.nextID
}

// endLocked removes rules, and writes the line of each.
func (b *Backend) endLocked(now time.Time, which func(*rule) bool) {
	var left []*rule
	for _, r := range b.rules.list {
		if !which(r) {
			left = append(left, r)
			continue
		}
		b.record(r, now)
	}
	b.rules.list = left
}

// record writes what a fault did into faults.jsonl, once.
func (b *Backend) record(r *rule, now time.Time) {
	if r.ended || b.o.Dir == "" {
		return
	}
	from := r.since.Add(r.After)
	if now.Before(from) {
		return // it never began
	}
	if end := from.Add(r.For); r.For > 0 && end.Before(now) {
		now = end
	}
	r.ended = true
	b.note(ledger.AppendFault(b.o.Dir, ledger.Fault{T0: from.UnixMicro(), T1: now.UnixMicro(), Where: b.o.Name, Fault: r.Text,
		Hits: r.hits.Load()}))
}

// direct is the goroutine that opens and closes doors when time comes, and ends what is over.
func (b *Backend) direct() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		b.rules.mu.Lock()
		next := b.applyLocked(time.Now())
		b.rules.mu.Unlock()
		timer.Reset(next)
		select {
		case <-timer.C:
		case <-b.rules.changed:
		case <-b.stop:
			return
		}
	}
}

// applyLocked puts into force what works on listeners and connections, and returns when to look again.
func (b *Backend) applyLocked(now time.Time) time.Duration {
	next := time.Duration(math.MaxInt64)
	soon := func(t time.Time) {
		if !t.IsZero() {
			next = min(next, max(t.Sub(now), time.Millisecond))
		}
	}
	var refuse, odd, silent, drop *rule
	for _, r := range b.rules.list {
		active, change := r.active(now)
		soon(change)
		if r.over(now) {
			b.record(r, now)
		}
		if !active {
			continue
		}
		switch r.what().Kind {
		case "refuse":
			refuse = r
		case "blackhole":
			silent = r
		case "drop":
			silent, drop = r, r
		case "answer":
			odd = r
		}
	}
	b.silent.set(silent != nil)
	for _, d := range b.doors {
		if err := d.refuse(refuse); err != nil {
			b.note(err)
			soon(now.Add(reopenEvery))
		}
		b.note(d.drop(drop))
		d.divert(odd)
		soon(d.ageConns(now, b.rules.list))
	}
	return next
}

// note keeps the first thing that went wrong in the backend itself; State shows it.
func (b *Backend) note(err error) {
	if err == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.err == nil {
		b.mu.err = fmt.Errorf("sink %s: %w", b.o.Name, err)
	}
}
