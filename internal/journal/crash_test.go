// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// story is what a test did to a journal, for comparing it with what a crash left. A record is known by its number in
// the story, which stands in its body.
type story struct {
	t   *testing.T
	end func() // of the script, before the journal is closed; may be nil
	mu  sync.Mutex
	// The rest is guarded by mu.
	chapter
}

// chapter is a story up to a moment.
type chapter struct {
	changes  int                     // to the story so far
	tried    int                     // records that were appended, answered or not
	accepted map[int]bool            // answered with nil
	refused  map[int]bool            // answered with an error
	live     map[string]bool         // destinations attached
	owed     map[string]map[int]bool // accepted while attached, not resolved for sure
	done     map[string]map[int]bool // resolved; true: for so long that a slot must say it
}

func newStory(t *testing.T) *story {
	return &story{t: t, chapter: chapter{
		accepted: map[int]bool{}, refused: map[int]bool{}, live: map[string]bool{}, owed: map[string]map[int]bool{},
		done: map[string]map[int]bool{},
	}}
}

// now is a copy of the story as it stands.
func (s *story) now() chapter {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := chapter{changes: s.changes, tried: s.tried, accepted: maps.Clone(s.accepted), refused: maps.Clone(s.refused),
		live: maps.Clone(s.live), owed: map[string]map[int]bool{}, done: map[string]map[int]bool{}}
	for name, owed := range s.owed {
		c.owed[name] = maps.Clone(owed)
	}
	for name, done := range s.done {
		c.done[name] = maps.Clone(done)
	}
	return c
}

// bodyOf is a record's bytes: its number, over and over.
func bodyOf(n, size int) []byte {
	return bytes.Repeat(binary.BigEndian.AppendUint64(nil, uint64(n)), max(1, size/8))
}

// numberOf reads it again; false: the bytes are not what was appended.
func numberOf(b []byte) (int, bool) {
	if len(b) < 8 || len(b)%8 != 0 {
		return 0, false
	}
	n := int(binary.BigEndian.Uint64(b))
	return n, bytes.Equal(b, bodyOf(n, len(b)))
}

// change begins one; unlocking mu ends it.
func (s *story) change() {
	s.mu.Lock()
	s.changes++
}

// append appends one record of size bytes and n%5+1 items.
func (s *story) append(j *journal.Journal, size int) error {
	s.change()
	s.tried++
	n := s.tried
	to := slices.Collect(maps.Keys(s.live))
	s.mu.Unlock()
	body := bodyOf(n, size)
	err := j.Append(context.Background(), queue.Record{
		Tag: 1, Items: uint32(n%5 + 1), Size: uint32(len(body)), Meta: []byte("meta"), Body: body,
	})
	s.change()
	defer s.mu.Unlock()
	if err != nil {
		s.refused[n] = true
		return err
	}
	s.accepted[n] = true
	for _, name := range to {
		if _, quick := s.done[name][n]; !quick { // it may have been delivered before it was answered
			s.owed[name][n] = true
		}
	}
	return nil
}

func (s *story) attach(j *journal.Journal, name string) queue.Cursor {
	c := j.Attach(name)
	s.change()
	defer s.mu.Unlock()
	s.live[name] = true
	if s.owed[name] == nil {
		s.owed[name] = map[int]bool{}
	}
	return c
}

func (s *story) detach(j *journal.Journal, name string) {
	s.change()
	delete(s.live, name)
	s.mu.Unlock()
	j.Detach(name)
}

// forget: nothing is owed any more, from before the call on.
func (s *story) forget(j *journal.Journal, name string) {
	s.change()
	delete(s.live, name)
	delete(s.owed, name)
	s.mu.Unlock()
	j.Forget(name)
}

// take leases what is there, up to max records.
func (s *story) take(c queue.Cursor, max int64) []queue.Delivered { return s.takeFrom(c, max, 0) }

// takeFrom leases what was appended from a number on, if there is something.
func (s *story) takeFrom(c queue.Cursor, max int64, from queue.Seq) []queue.Delivered {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	got, err := c.Take(ctx, queue.Want{Sizer: queue.Bytes, MaxBytes: max, From: from, Joins: func(_, _ *queue.Record) bool { return true }})
	if f := c.Fill(); err != nil && !errors.Is(err, queue.ErrClosed) && f.Records > f.Leased {
		s.t.Errorf("take: %v, with %+v", err, f)
	}
	return got
}

// resolve ends leases; final outcomes are noted before the call, since a crash may find them done or not.
func (s *story) resolve(c queue.Cursor, name string, o queue.Outcome, got ...queue.Delivered) error {
	final := o.Kind == queue.Ack || o.Kind == queue.Dead || o.Kind == queue.Drop
	seqs := make([]queue.Seq, len(got))
	s.change()
	if s.done[name] == nil {
		s.done[name] = map[int]bool{}
	}
	for i, d := range got {
		seqs[i] = d.Seq
		n, ok := numberOf(d.Body)
		if !ok {
			s.t.Errorf("%s got bytes nobody appended: %.16x…", name, d.Body)
		}
		if final {
			delete(s.owed[name], n)
			s.done[name][n] = false
		}
	}
	s.mu.Unlock()
	err := c.Resolve(o, seqs...)
	if err != nil { // of Dead; it is offered again
		s.change()
		defer s.mu.Unlock()
		for _, d := range got {
			n, _ := numberOf(d.Body)
			delete(s.done[name], n)
		}
	}
	return err
}

// settle lets the journal write what it knows: what is resolved does not come again.
func (s *story) settle() {
	pass(1100 * time.Millisecond)
	s.change()
	defer s.mu.Unlock()
	for _, done := range s.done {
		for n := range done {
			done[n] = true
		}
	}
}

// survivors opens what a crash left and says what is wrong with it: for each destination of the chapter all that is
// owed must come, nothing that was not appended may, and the books must balance. exact: nothing that was accepted may
// be missing (a kill, or a synced journal).
func survivors(disk vfs.FS, was chapter, change ...func(*journal.Options)) string {
	s, err := journal.OpenStore(context.Background(), disk, options(change...))
	if err != nil {
		return fmt.Sprintf("open the store: %v", err)
	}
	defer s.Close(context.Background())
	var wanted []queue.Destination
	for _, name := range slices.Sorted(maps.Keys(was.live)) {
		wanted = append(wanted, queue.Destination{Name: name, Exporters: []string{name}, Stored: true})
	}
	j, err := s.Head("traces", 1, wanted)
	if err != nil {
		return fmt.Sprintf("open the journal: %v", err)
	}
	defer j.Close(context.Background())
	for _, name := range slices.Sorted(maps.Keys(was.owed)) {
		c, err := cursorOf(j, name, was.live[name])
		if err != nil {
			if len(was.owed[name]) > 0 {
				return fmt.Sprintf("%s has no cursor: %v", name, err)
			}
			continue
		}
		got, wrong := drain(c)
		if wrong != "" {
			return name + ": " + wrong
		}
		for n := range was.owed[name] {
			if !got[n] {
				return fmt.Sprintf("%s: record %d was acknowledged and does not come; %d others do\n%s", name, n, len(got), books(j))
			}
		}
		for n := range got {
			if n > was.tried {
				return fmt.Sprintf("%s: record %d was never appended", name, n)
			}
			if was.done[name][n] {
				return fmt.Sprintf("%s: record %d was resolved long ago and comes again", name, n)
			}
		}
	}
	return unbalanced(j)
}

// cursorOf is the handle for a destination, by an heir if it is parked.
func cursorOf(j *journal.Journal, name string, live bool) (queue.Cursor, error) {
	if live {
		return j.Attach(name), nil
	}
	return j.Inherit(name, "heir of "+name)
}

// drain takes and acks all there is. It returns the records that came.
func drain(c queue.Cursor) (got map[int]bool, wrong string) {
	got = map[int]bool{}
	for c.Fill().Records > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		batch, err := c.Take(ctx, queue.Want{Joins: func(_, _ *queue.Record) bool { return true }})
		cancel()
		if err != nil && c.Fill().Records == 0 { // what was left could not be read, and is lost
			return got, ""
		}
		if err != nil {
			return got, fmt.Sprintf("take: %v, with %+v left", err, c.Fill())
		}
		for _, d := range batch {
			n, ok := numberOf(d.Body)
			if !ok {
				return got, fmt.Sprintf("number %d holds bytes nobody appended: %.16x…", d.Seq, d.Body)
			}
			if got[n] {
				return got, fmt.Sprintf("record %d came twice", n)
			}
			got[n] = true
			if err := c.Resolve(queue.Outcome{Kind: queue.Ack}, d.Seq); err != nil {
				return got, fmt.Sprintf("ack: %v", err)
			}
		}
	}
	return got, ""
}

// unbalanced says whose books do not add up.
func unbalanced(j *journal.Journal) string {
	for _, d := range j.Snapshot().Destinations {
		c := d.Counts
		sum := c.Delivered + c.Rejected + c.Queued + c.Parked
		for _, n := range c.Dropped {
			sum += n
		}
		if d.Imbalance != 0 || c.Accepted != sum {
			return fmt.Sprintf("the books of %s do not balance by %d: %s", d.Name, d.Imbalance, books(j))
		}
	}
	return ""
}

func books(j *journal.Journal) (text string) {
	for _, d := range j.Snapshot().Destinations {
		text += fmt.Sprintf("\t%s: state %d, %+v, %+v, imbalance %d\n", d.Name, d.State, d.Counts, d.Fill, d.Imbalance)
	}
	return text
}

// script is the fixed life of a journal that the crash tests cut short at every disk call: appends of all sizes, acks
// out of order, nacks, dead letters, every call of the roster, fresh records beside older ones, rolls, deletions, close.
func script(s *story, disk vfs.FS, change ...func(*journal.Options)) {
	store, err := journal.OpenStore(context.Background(), disk, options(change...))
	if err != nil {
		return // the crash tests see what is there; the fault tests ask for no more
	}
	defer store.Close(context.Background())
	j, err := store.Head("traces", 1, []queue.Destination{{Name: "a", Stored: true, Exporters: []string{"a"}}})
	if err != nil {
		return
	}
	defer j.Close(context.Background())
	a := s.attach(j, "a")
	for i := range 6 {
		s.append(j, 200+i*900)
	}
	got := s.take(a, 0)
	if len(got) > 3 {
		s.resolve(a, "a", queue.Outcome{Kind: queue.Ack}, got[1], got[3])
		s.resolve(a, "a", queue.Outcome{Kind: queue.Nack, Delay: time.Second}, got[0])
		s.resolve(a, "a", queue.Outcome{Kind: queue.Dead, Reason: "no"}, got[2])
	}
	pass(300 * time.Millisecond)
	if j.Prepare(queue.Destination{Name: "b", Exporters: []string{"b"}}) == nil {
		b := s.attach(j, "b")
		var wait sync.WaitGroup
		for range 4 {
			wait.Go(func() { s.append(j, 20<<10) })
		}
		wait.Wait()
		s.resolve(b, "b", queue.Outcome{Kind: queue.Ack}, s.take(b, 30<<10)...)
		s.detach(j, "b")
	}
	for range 4 {
		s.append(j, 30<<10)
		s.resolve(a, "a", queue.Outcome{Kind: queue.Ack}, s.take(a, 40<<10)...)
	}
	s.settle()
	if j.Prepare(queue.Destination{Name: "c", Exporters: []string{"c"}}) == nil {
		c := s.attach(j, "c")
		s.append(j, 100)
		s.take(c, 0) // leased when the crash comes
		s.append(j, 100<<10)
		s.forget(j, "c")
	}
	s.resolve(a, "a", queue.Outcome{Kind: queue.Ack}, s.take(a, 0)...)
	s.append(j, 500)
	s.append(j, 20<<10)
	fresh := a.Fill().Last + 1
	s.append(j, 500)
	s.append(j, 500)
	s.resolve(a, "a", queue.Outcome{Kind: queue.Ack}, s.takeFrom(a, 0, fresh)...) // beside what is older
	pass(300 * time.Millisecond)
	s.resolve(a, "a", queue.Outcome{Kind: queue.Ack}, s.take(a, 0)...)
	pass(300 * time.Millisecond)
	if s.end != nil {
		s.end()
	}
}

func small(o *journal.Options)    { o.Segments = 64 << 10 }
func unsynced(o *journal.Options) { o.FSync = false }

// Fault: P1 D7
func TestAcknowledgedRecordSurvivesACrashAtEveryStep(t *testing.T) {
	for name, mode := range map[string][]func(*journal.Options){"synced": {small}, "unsynced": {small, unsynced}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { crashEverywhere(t, mode) })
		})
	}
}

func crashEverywhere(t *testing.T, mode []func(*journal.Options)) {
	synced := len(mode) == 1
	mem := vfs.NewMem(1 << 40)
	disk := vfs.NewFaulty(mem)
	s := newStory(t)
	var all wrecks
	seeds := uint64(1)
	if long() {
		seeds = 8
	}
	if !synced {
		seeds = 0
	}
	all.at(disk, mem, s.now, seeds, func(vfs.Call) bool { return true })
	script(s, disk, mode...)
	disk.Watch(vfs.Watch{})
	reported := 0
	for _, w := range all.list {
		if wrong := survivors(w.disk, w.was, mode...); wrong != "" && reported < 5 {
			reported++
			t.Errorf("%s: %s", w.how, wrong)
		}
	}
	if len(s.refused) > 0 {
		t.Errorf("%d appends were refused on a good disk", len(s.refused))
	}
	t.Logf("%d crashes at %d calls", len(all.list), len(disk.Calls("")))
}
