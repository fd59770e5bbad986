// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package queuetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// patience is how long a test waits for what must come. The time is virtual.
const patience = 24 * time.Hour

// rig is a queue under test and what the test knows about it.
type rig struct {
	*testing.T
	q      queue.Queue
	roster queue.Roster
	can    Capabilities

	mu struct {
		sync.Mutex
		sent []*sent
		out  []lease
	}
}

// sent is a record of the test. Its identity is the first eight bytes of the body.
type sent struct {
	id       int
	key      string
	items    uint32
	size     uint32
	accepted bool
	frees    atomic.Int32
}

// lease is one record handed out and not resolved by its handle.
type lease struct {
	cursor queue.Cursor
	got    queue.Delivered
}

func newRig(t *testing.T, q queue.Queue, can Capabilities) *rig {
	t.Helper()
	roster, ok := q.(queue.Roster)
	if !ok {
		t.Fatalf("%T is no queue.Roster", q)
	}
	return &rig{T: t, q: q, roster: roster, can: can}
}

// attach prepares name with limit and returns its first handle.
func (r *rig) attach(name string, limit ...queue.Limit) queue.Cursor {
	r.Helper()
	d := queue.Destination{Name: name, Exporters: []string{name}}
	if len(limit) > 0 {
		d.Limit = limit[0]
	}
	r.prepare(d)
	return r.q.Attach(name)
}

func (r *rig) prepare(d queue.Destination) {
	r.Helper()
	if err := r.roster.Prepare(d); err != nil {
		r.Fatalf("prepare %q: %v", d.Name, err)
	}
}

const bodyBytes = 24

// record makes a record whose bytes say which one it is and that are spoilt by Free.
func (r *rig) record(items, size uint32, key string) (queue.Record, *sent) {
	r.mu.Lock()
	s := &sent{id: len(r.mu.sent) + 1, key: key, items: items, size: size}
	r.mu.sent = append(r.mu.sent, s)
	r.mu.Unlock()
	rec := queue.Record{Tag: uint8(s.id), Items: items, Size: size, Meta: []byte(key), Body: s.body()}
	rec.Free = func() {
		s.frees.Add(1)
		for _, b := range [][]byte{rec.Meta, rec.Body} {
			for i := range b {
				b[i] = 0xdd
			}
		}
	}
	return rec, s
}

func (s *sent) body() []byte {
	b := bytes.Repeat([]byte{byte(s.id)}, bodyBytes)
	binary.BigEndian.PutUint64(b, uint64(s.id))
	return b
}

// tryAppend appends one record and returns its identity.
func (r *rig) tryAppend(ctx context.Context, items, size uint32, key string) (int, error) {
	rec, s := r.record(items, size, key)
	err := r.q.Append(ctx, rec)
	r.mu.Lock()
	s.accepted = err == nil
	r.mu.Unlock()
	return s.id, err
}

// add appends a record that must be accepted.
func (r *rig) add(items, size uint32, key string) int {
	r.Helper()
	id, err := r.tryAppend(context.Background(), items, size, key)
	if err != nil {
		r.Fatalf("append: %v", err)
	}
	return id
}

// addMany appends n records of one item and one byte and returns the first identity.
func (r *rig) addMany(n int, key string) int {
	r.Helper()
	first := r.add(1, 1, key)
	for range n - 1 {
		r.add(1, 1, key)
	}
	return first
}

// note books what a Take returned and checks that it is what was sent.
func (r *rig) note(cursor queue.Cursor, got []queue.Delivered) {
	r.Helper()
	for i, d := range got {
		r.intact(d)
		if i > 0 && d.Seq <= got[i-1].Seq {
			r.Errorf("number %d comes after %d", d.Seq, got[i-1].Seq)
		}
		r.mu.Lock()
		r.mu.out = append(r.mu.out, lease{cursor: cursor, got: d})
		r.mu.Unlock()
	}
}

// intact checks that d is, byte by byte, what was appended.
func (r *rig) intact(d queue.Delivered) {
	r.Helper()
	s := r.sentOf(d)
	if s == nil {
		r.Errorf("number %d holds bytes nobody sent, or that were freed: %x", d.Seq, d.Body)
		return
	}
	if !bytes.Equal(d.Body, s.body()) || string(d.Meta) != s.key || d.Items != s.items || d.Size != s.size || d.Tag != uint8(s.id) {
		r.Errorf("record %d came back changed: %+v", s.id, d)
	}
}

func (r *rig) sentOf(d queue.Delivered) *sent {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(d.Body) != bodyBytes {
		return nil
	}
	id := binary.BigEndian.Uint64(d.Body)
	if id == 0 || id > uint64(len(r.mu.sent)) {
		return nil
	}
	return r.mu.sent[id-1]
}

// idOf is the identity of a record that was handed out.
func idOf(d queue.Delivered) int { return int(binary.BigEndian.Uint64(d.Body)) }

func idsOf(got []queue.Delivered) []int {
	ids := make([]int, len(got))
	for i, d := range got {
		ids[i] = idOf(d)
	}
	return ids
}

func seqsOf(got []queue.Delivered) []queue.Seq {
	seqs := make([]queue.Seq, len(got))
	for i, d := range got {
		seqs[i] = d.Seq
	}
	return seqs
}

// take returns a batch that must come.
func (r *rig) take(c queue.Cursor, w queue.Want) []queue.Delivered {
	r.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	got, err := c.Take(ctx, w)
	if err != nil {
		r.Fatalf("take: %v", err)
	}
	if len(got) == 0 {
		r.Fatal("take returned no record and no error")
	}
	r.note(c, got)
	return got
}

// taken checks that the next batch is exactly these records.
func (r *rig) taken(c queue.Cursor, w queue.Want, ids ...int) []queue.Delivered {
	r.Helper()
	got := r.take(c, w)
	if !slices.Equal(idsOf(got), ids) {
		r.Fatalf("took %s, want %s", brief(idsOf(got)), brief(ids))
	}
	return got
}

// nothing checks that there is no batch now. It lets an instant of virtual time pass.
func (r *rig) nothing(c queue.Cursor, w queue.Want) {
	r.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Nanosecond)
	defer cancel()
	got, err := c.Take(ctx, w)
	r.note(c, got)
	if !errors.Is(err, context.DeadlineExceeded) {
		r.Fatalf("took %s, %v; want to wait", brief(idsOf(got)), err)
	}
}

// resolve ends leases that c took.
func (r *rig) resolve(c queue.Cursor, o queue.Outcome, got ...queue.Delivered) {
	r.Helper()
	for _, d := range got {
		r.intact(d)
	}
	r.letGo(c, got)
	if err := c.Resolve(o, seqsOf(got)...); err != nil {
		r.Fatalf("resolve: %v", err)
	}
}

// letGo forgets leases; the test must not look at their bytes again.
func (r *rig) letGo(c queue.Cursor, got []queue.Delivered) {
	r.mu.Lock()
	defer r.mu.Unlock()
	gone := make(map[queue.Seq]bool, len(got))
	for _, d := range got {
		gone[d.Seq] = true
	}
	r.mu.out = slices.DeleteFunc(r.mu.out, func(l lease) bool { return l.cursor == c && gone[l.got.Seq] })
}

func (r *rig) ack(c queue.Cursor, got ...queue.Delivered) {
	r.Helper()
	r.resolve(c, queue.Outcome{Kind: queue.Ack}, got...)
}

// drain acks all there is.
func (r *rig) drain(c queue.Cursor) (records int) {
	r.Helper()
	for c.Fill().Records > 0 {
		got := r.take(c, all)
		records += len(got)
		r.ack(c, got...)
	}
	return records
}

// finish closes the queue, lets go of what is leased and counts: one Free for each record accepted, none for the others.
func (r *rig) finish() {
	r.Helper()
	r.balanced()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := r.q.Close(ctx); err != nil {
		r.Errorf("close: %v", err)
	}
	for _, l := range r.mu.out {
		r.intact(l.got)
		if err := l.cursor.Resolve(queue.Outcome{Kind: queue.Release}, l.got.Seq); err != nil {
			r.Errorf("release after close: %v", err)
		}
	}
	synctest.Wait()
	for _, s := range r.mu.sent {
		want := int32(0)
		if s.accepted {
			want = 1
		}
		if n := s.frees.Load(); n != want {
			r.Errorf("record %d was freed %d times, want %d", s.id, n, want)
		}
	}
}

// together joins everything, sameKey what has the same metadata, each as one record per batch.
func together(_, _ *queue.Record) bool       { return true }
func sameKey(first, next *queue.Record) bool { return bytes.Equal(first.Meta, next.Meta) }

var (
	single = queue.Want{}                                    // one record, at once
	all    = queue.Want{Sizer: queue.Items, Joins: together} // what is there
	later  = queue.Want{Sizer: queue.Items, Joins: together, Min: 1 << 40, Linger: 100 * time.Millisecond}
)
