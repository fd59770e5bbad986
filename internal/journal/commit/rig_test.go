// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package commit_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal/commit"
	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/queue/window"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

const (
	dir          = "/j/seg"
	segmentBytes = 64 << 10
)

// rig is a Log on a disk, and the journal above it, played by the rig: it checks what a Host may rely on.
type rig struct {
	testing.TB
	mem  *vfs.Mem
	disk *vfs.Faulty
	log  *commit.Log
	set  commit.Settings

	mu        sync.Mutex
	version   uint64
	cursors   []uint64
	rosterErr error
	given     queue.Seq // by Roster
	published queue.Seq
	items     uint64
	durable   queue.Seq
	place     map[queue.Seq]uint64 // segment of each published number
	sealed    map[uint64]segment.Summary
	condemned map[uint64]int // index of the disk call at which it was told
	booked    int64
	max       int64 // what Room allows, 0 = all
	asked     int   // how often
	voided    int
	delivered bool // nobody is owed anything
	squeezed  int
	squeeze   func() bool // nil: there is no reserve
	records   map[int]*record
	next      int
	hits      int
	unweighed bool // an fstat failed: what a seal freed is not known
}

// record is one append and what became of it.
type record struct {
	id    int
	body  []byte
	items uint32
	entry *window.Entry
	err   error
	done  bool
}

func newRig(t testing.TB, synced bool, rules ...vfs.Rule) *rig {
	r := &rig{TB: t, mem: vfs.NewMem(0)}
	r.disk = vfs.NewFaulty(r.mem)
	r.cursors = []uint64{1, 2, 3}
	r.place, r.sealed, r.condemned = map[queue.Seq]uint64{}, map[uint64]segment.Summary{}, map[uint64]int{}
	r.records = map[int]*record{}
	r.must(r.disk.Mkdir("/j", 0o750))
	r.must(r.disk.Mkdir(dir, 0o750))
	r.must(r.disk.SyncDir("/"))
	r.must(r.disk.SyncDir("/j"))
	r.disk.Plan(rules...)
	r.disk.Watch(vfs.Watch{Before: func(c vfs.Call) {
		r.mu.Lock()
		defer r.mu.Unlock()
		hits := r.disk.Hits()
		r.unweighed = r.unweighed || hits > r.hits && strings.HasPrefix(c.Name, "fstat ")
		r.hits = hits
	}})
	r.set = commit.Settings{
		Disk: r.disk, Dir: dir, Journal: [16]byte{1, 2, 3}, Tag: 7, Synced: synced, SegmentBytes: segmentBytes, Host: r,
	}
	return r
}

// last is the number published last, safe the one known durable.
func (r *rig) last() queue.Seq {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.published
}

func (r *rig) safe() queue.Seq {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.durable
}

// placed is the segment a number was published in last.
func (r *rig) placed(seq queue.Seq) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.place[seq]
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *rig) open() *rig {
	r.log = commit.Open(r.set)
	r.Cleanup(func() { // of a test that failed: nothing runs on
		r.disk.Plan()
		_ = r.log.Close(context.Background())
	})
	return r
}

// opened is a rig whose Log is open and has tended once.
func opened(t testing.TB, synced bool) *rig {
	r := newRig(t, synced).open()
	r.log.Tend()
	return r
}

func (r *rig) close() {
	r.Helper()
	r.must(r.log.Close(context.Background()))
}

// make is a new record with a body nobody else has.
func (r *rig) make(size int) *record {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := &record{id: r.next, body: body(r.next, size), items: uint32(r.next%5) + 1}
	r.records[rec.id] = rec
	r.next++
	return rec
}

func body(id, size int) []byte {
	b := make([]byte, max(size, 12))
	rng := rand.NewPCG(uint64(id), 1)
	for i := 0; i+8 <= len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], rng.Uint64())
	}
	copy(b, "body")
	binary.LittleEndian.PutUint64(b[4:], uint64(id))
	return b
}

// add appends a record of so many bytes.
func (r *rig) add(size int) error { return r.addCtx(context.Background(), size) }

func (r *rig) addCtx(ctx context.Context, size int) error { return r.append(ctx, r.make(size)) }

func (r *rig) append(ctx context.Context, rec *record) error {
	meta := rec.body[:len(rec.body)/10]
	e := &window.Entry{Record: queue.Record{
		Tag: 7, Items: rec.items, Size: uint32(len(rec.body)), Meta: meta, Body: rec.body[len(meta):],
	}}
	err := r.log.Append(ctx, e)
	r.mu.Lock()
	defer r.mu.Unlock()
	rec.entry, rec.err, rec.done = e, err, true
	if err == nil && (e.Seq == 0 || e.Seq > r.published || e.Accepted.IsZero()) {
		r.Errorf("record %d was answered with number %d, %v, published up to %d", rec.id, e.Seq, e.Accepted, r.published)
	}
	if err == nil && r.set.Synced && e.Seq > r.durable {
		r.Errorf("record %d was answered with number %d, durable up to %d", rec.id, e.Seq, r.durable)
	}
	return err
}

// background appends and returns the channel of the result.
func (r *rig) background(ctx context.Context, size int) <-chan error {
	done := make(chan error, 1)
	rec := r.make(size)
	go func() { done <- r.append(ctx, rec) }()
	return done
}

func (r *rig) Roster(upTo queue.Seq) (uint64, []uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rosterErr != nil {
		return 0, nil, r.rosterErr
	}
	if upTo <= r.given {
		r.Errorf("numbers up to %d are given out, and up to %d were", upTo, r.given)
	}
	r.given = upTo
	return r.version, r.cursors, nil
}

func (r *rig) Publish(h *segment.Header, name string, sum segment.Summary, entries []*window.Entry, items uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if name != layout.Segment(dir, h.ID) {
		r.Errorf("segment %d is said to be in %s", h.ID, name)
	}
	for _, e := range entries {
		if e.Seq <= r.published || e.Seq > r.given {
			r.Errorf("number %d is published after %d, given out were %d", e.Seq, r.published, r.given)
		}
		r.published = e.Seq
		r.items += uint64(e.Items)
	}
	if n := len(entries); n > 0 && (sum.Last != entries[n-1].Seq || sum.ItemsEnd != items) {
		r.Errorf("published up to %d, items %d, in a segment up to %d, items %d", entries[n-1].Seq, items, sum.Last, sum.ItemsEnd)
	}
	if items != r.items {
		r.Errorf("published %d items, should be %d", items, r.items)
	}
	for s := sum.First; s <= sum.Last; s++ {
		if s > r.published {
			r.Errorf("segment %d holds %d, published are numbers up to %d", h.ID, s, r.published)
		}
		if r.place[s] <= h.ID {
			r.place[s] = h.ID
		}
	}
}

func (r *rig) Durable(seq queue.Seq, items uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if seq <= r.durable || seq > r.published || items > r.items || seq == r.published && items != r.items {
		r.Errorf("durable up to %d, items %d; before %d, published %d, items %d", seq, items, r.durable, r.published, r.items)
	}
	r.durable = seq
}

func (r *rig) Sealed(id uint64, sum segment.Summary) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, twice := r.sealed[id]; twice || sum.Last > r.durable || sum.Records == 0 {
		r.Errorf("segment %d sealed (before: %v) up to %d, durable %d", id, twice, sum.Last, r.durable)
	}
	r.sealed[id] = sum
}

func (r *rig) Void() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.given <= r.published {
		r.Errorf("void are numbers above %d, given out up to %d", r.published, r.given)
	}
	r.voided++
}

func (r *rig) Owed(first, last queue.Seq) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if first > last || last > r.published || first <= r.durable {
		r.Errorf("asked whether somebody is owed %d to %d, published up to %d, durable up to %d", first, last, r.published,
			r.durable)
	}
	return !r.delivered
}

func (r *rig) Condemned(id uint64, cause error) {
	calls := len(r.disk.Calls(""))
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, twice := r.condemned[id]; twice || cause == nil {
		r.Errorf("segment %d condemned (before: %v): %v", id, twice, cause)
	}
	r.condemned[id] = calls
}

func (r *rig) Room(n int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	if r.max > 0 && r.booked+n > r.max {
		return &queue.FullError{Limit: "max_size", Used: r.booked, Max: r.max}
	}
	r.booked += n
	return nil
}

func (r *rig) Gave(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.booked -= n; n < 0 || r.booked < 0 {
		r.Errorf("gave %d back, booked are %d", n, r.booked)
	}
}

func (r *rig) Squeeze() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.squeezed++
	return r.squeeze != nil && r.squeeze()
}

// allocated is what the files in the directory take.
func (r *rig) allocated() (bytes int64) {
	entries, err := r.mem.ReadDir(dir)
	r.must(err)
	for _, e := range entries {
		info, err := r.mem.Stat(path.Join(dir, e.Name))
		r.must(err)
		bytes += info.Allocated
	}
	return bytes
}

// balanced says that what is booked is what the files take.
func (r *rig) balanced() {
	r.Helper()
	if bytes := r.allocated(); bytes != r.booked && !(r.unweighed && bytes < r.booked) {
		r.Errorf("booked are %d bytes, allocated %d", r.booked, bytes)
	}
}

// untouched says that no condemned segment was written or synced by a call that began after it was condemned.
func (r *rig) untouched() {
	r.Helper()
	for id, calls := range r.condemned {
		name := layout.Segment(dir, id)
		for _, c := range r.disk.Calls("")[calls:] {
			op, file, _ := strings.Cut(c.Name, " ")
			switch {
			case file != name || op == "close" || op == "remove" || op == "open" || op == "read" || op == "fstat":
			default:
				r.Errorf("call %d on a condemned file: %s", c.N, c.Name)
			}
		}
	}
}

// found is one frame that counts.
type found struct {
	segment.Frame
	header segment.Header
}

// read is what recovery would find on a disk: every number once, void ones not. It checks what is true of all
// directories.
func read(disk vfs.FS) (map[queue.Seq]found, error) {
	entries, err := disk.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	type part struct {
		header segment.Header
		frames []segment.Frame
	}
	var parts []part
	for _, e := range entries {
		id, ok := layout.SegmentID(e.Name)
		if !ok {
			if strings.HasSuffix(e.Name, layout.TempSuffix) {
				continue
			}
			return nil, fmt.Errorf("%s is no segment", e.Name)
		}
		name := path.Join(dir, e.Name)
		file, err := disk.OpenFile(name, vfs.Read, 0)
		if err != nil {
			return nil, err
		}
		in, err := segment.Inspect(file, name)
		if err != nil {
			return nil, err
		}
		if in.Class == segment.Sealed || in.Class == segment.Unsealed {
			if in.Header.ID != id {
				return nil, fmt.Errorf("%s says it is segment %d", name, in.Header.ID)
			}
			p := part{header: in.Header}
			rng := in.Range()
			rng.Bodies = true
			rd := segment.NewReader(file, rng)
			for {
				f, err := rd.Next()
				if corrupt := (*segment.CorruptError)(nil); errors.As(err, &corrupt) {
					continue
				}
				if err != nil {
					break
				}
				p.frames = append(p.frames, f)
			}
			parts = append(parts, p)
		}
		file.Close()
	}
	slices.SortFunc(parts, func(a, b part) int {
		return cmp.Or(cmp.Compare(a.header.BaseSeq, b.header.BaseSeq), cmp.Compare(a.header.ID, b.header.ID))
	})
	all := map[queue.Seq]found{}
	for i, p := range parts {
		for _, f := range p.frames {
			if i+1 < len(parts) && f.Seq > parts[i+1].header.PrevLastSeq {
				continue // void
			}
			all[f.Seq] = found{f, p.header}
		}
	}
	return all, nil
}

// view is what was answered at one moment.
type view struct {
	acked   []*record // by number
	durable queue.Seq
	settled bool // every append was answered; until then records may count that are not known to be acknowledged
}

func (r *rig) view() view {
	r.mu.Lock()
	defer r.mu.Unlock()
	v := view{durable: r.durable, settled: true}
	for _, rec := range r.records {
		if rec.done && rec.err == nil {
			v.acked = append(v.acked, rec)
		}
		v.settled = v.settled && rec.done
	}
	slices.SortFunc(v.acked, func(a, b *record) int { return cmp.Compare(a.entry.Seq, b.entry.Seq) })
	return v
}

// holds says that disk has every record that is answered nil and that need says must be there, byte for byte, with
// exact items before it; and none twice. It returns what is there.
func (r *rig) holds(disk vfs.FS, what string, need func(*record) bool) map[queue.Seq]found {
	r.Helper()
	return r.holdsView(r.view(), disk, what, need)
}

func (r *rig) holdsView(v view, disk vfs.FS, what string, need func(*record) bool) map[queue.Seq]found {
	r.Helper()
	all, err := read(disk)
	if err != nil {
		r.Errorf("%s: %v", what, err)
		return nil
	}
	items, before := r.set.At.Items, queue.Seq(0)
	for _, rec := range v.acked {
		f, ok := all[rec.entry.Seq]
		switch {
		case rec.entry.Seq == before:
			r.Errorf("%s: number %d was given twice", what, before)
		case !ok && !need(rec):
		case !ok:
			r.Errorf("%s: record %d, number %d, is gone", what, rec.id, rec.entry.Seq)
		case !bytes.Equal(slices.Concat(f.Meta, f.Body), rec.body) || len(f.Meta) != len(rec.body)/10:
			r.Errorf("%s: number %d is not record %d", what, rec.entry.Seq, rec.id)
		case f.ItemsBefore != items && v.settled:
			r.Errorf("%s: %d items before number %d, should be %d", what, f.ItemsBefore, rec.entry.Seq, items)
		}
		items, before = items+uint64(rec.items), rec.entry.Seq
	}
	seen := map[uint64]queue.Seq{}
	for seq, f := range all {
		b := slices.Concat(f.Meta, f.Body)
		id := binary.LittleEndian.Uint64(b[4:])
		if seen[id] != 0 {
			r.Errorf("%s: record %d has the numbers %d and %d", what, id, seq, seen[id])
		}
		seen[id] = seq
	}
	return all
}

func every(*record) bool { return true }

// refusedAreGone says that no record that was refused is among those found.
func (r *rig) refusedAreGone(all map[queue.Seq]found) {
	r.Helper()
	for seq, f := range all {
		b := slices.Concat(f.Meta, f.Body)
		if rec := r.records[int(binary.LittleEndian.Uint64(b[4:]))]; rec.done && rec.err != nil {
			r.Errorf("record %d was refused (%v) and is there as number %d", rec.id, rec.err, seq)
		}
	}
}

// names lists the files in the directory.
func (r *rig) names() (names []string) {
	entries, err := r.mem.ReadDir(dir)
	r.must(err)
	for _, e := range entries {
		names = append(names, e.Name)
	}
	return names
}

// header reads the header of a segment.
func (r *rig) header(id uint64) segment.Header {
	r.Helper()
	return r.inspect(id).Header
}

func (r *rig) inspect(id uint64) segment.Inspection {
	r.Helper()
	name := layout.Segment(dir, id)
	file, err := r.mem.OpenFile(name, vfs.Read, 0)
	r.must(err)
	defer file.Close()
	in, err := segment.Inspect(file, name)
	r.must(err)
	return in
}

// dataEnd is where the frame of that number ends in a segment.
func (r *rig) dataEnd(id uint64, seq queue.Seq) (end segment.Offset) {
	r.Helper()
	in := r.inspect(id)
	file, err := r.mem.OpenFile(in.Path, vfs.Read, 0)
	r.must(err)
	defer file.Close()
	_, err = in.Scan(file, func(f *segment.Frame) {
		if f.Seq == seq {
			end = f.End
		}
	})
	r.must(err)
	return end
}

func isFull(err error) bool {
	var full *queue.FullError
	return errors.As(err, &full)
}

// retryable says that err is one an append may be refused with.
func retryable(err error) bool {
	return isFull(err) || errors.Is(err, queue.ErrDisk) || errors.Is(err, queue.ErrBusy) || errors.Is(err, queue.ErrClosed)
}

var _ commit.Host = (*rig)(nil)

// headers counts the segments whose header has the flag.
func headers(disk vfs.FS, flag uint32) (n int) {
	entries, _ := disk.ReadDir(dir)
	for _, e := range entries {
		file, err := disk.OpenFile(path.Join(dir, e.Name), vfs.Read, 0)
		if err != nil || strings.HasSuffix(e.Name, layout.TempSuffix) {
			continue
		}
		if in, err := segment.Inspect(file, e.Name); err == nil && in.Header.Flags&flag != 0 {
			n++
		}
		file.Close()
	}
	return n
}

// pass lets virtual time pass, and what begins in it come to rest.
func pass(d time.Duration) {
	synctest.Wait()
	time.Sleep(d)
	synctest.Wait()
}
