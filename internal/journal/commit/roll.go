// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package commit

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// blank is a prepared segment: a file nobody has written to. A crash leaves it for recovery to remove.
type blank struct {
	id    uint64
	path  string
	file  vfs.File
	bytes int64 // as asked of Host.Room
}

// seg is a segment that is or was written. It is the flusher's until it is retired; the syncer uses w.Sync.
type seg struct {
	blank
	w         *segment.Writer
	head      *segment.Header // not changed any more
	version   uint64          // of the roster in it
	unsynced  bool            // mode
	published bool            // the Host knows it
	condemned bool
	retiring  bool // to be sealed when all of it is durable
	closed    bool
	jobs      int            // syncs ordered and not reported
	dropped   segment.Offset // end of what the system need not cache, or has to; whoever syncs knows
}

// remains are names of one file that is of no use and could not be removed yet.
type remains struct {
	names []string
	bytes int64
}

// place is where a record of so many bytes of frame can go: the active segment or, where that has no room or may not
// be appended to any more, a blank.
func (l *Log) place(frame int64) (*seg, *blank, error) {
	if a := l.f.active; a != nil && a.w.Next() == l.f.seq+1 && frame <= a.w.Free() {
		return a, nil, nil
	}
	l.orderSync() // of what is written: it does not wait for an allocation
	b, err := l.fresh(frame)
	return nil, b, err
}

// fresh is a blank with room for a group of so many bytes of frames: the prepared one, or one made now.
func (l *Log) fresh(frames int64) (*blank, error) {
	need := segment.FileBytes(frames)
	if b := l.pick(need, 0); b != nil {
		return b, nil
	}
	l.making <- struct{}{}
	defer func() { <-l.making }()
	if b := l.pick(need, 0); b != nil { // Tend was making one
		return b, nil
	}
	return l.allocate(max(need, l.segment.Load()), "")
}

// freshIfAny is such a blank for a roll that may be put off, or nil: then the group goes to a. One that was denied is
// not asked for again until Tend has prepared one.
func (l *Log) freshIfAny(a *seg, frames int64) *blank {
	if b := l.pick(segment.FileBytes(frames), 0); b != nil {
		l.f.denied = false
		return b
	}
	if l.f.denied {
		return nil
	}
	if frames+segment.BlockBytes <= a.w.Free() { // a sync takes the rest of a block
		l.orderSync()
	}
	b, err := l.fresh(frames)
	if err != nil {
		l.f.denied = true
		l.wantBlank()
		return nil
	}
	return b
}

// pick takes the first prepared segment that is large enough and whose id is above the given one.
func (l *Log) pick(bytes int64, above uint64) *blank {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, b := range l.mu.blanks {
		if b.bytes >= bytes && b.id > above {
			l.mu.blanks = append(l.mu.blanks[:i], l.mu.blanks[i+1:]...)
			return b
		}
	}
	return nil
}

// putBack keeps what was taken and not used; b may be nil.
func (l *Log) putBack(b *blank) {
	if b == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.blanks = append(l.mu.blanks, b)
}

func (l *Log) wantBlank() {
	l.mu.Lock()
	wanted := l.mu.wanting
	l.mu.wanting = true
	l.mu.Unlock()
	if !wanted {
		l.want()
	}
}

// allocate makes a blank of exactly so many bytes, its name with the given suffix. Its caller holds the making token.
func (l *Log) allocate(bytes int64, suffix string) (*blank, error) {
	start := time.Now()
	defer l.observe(Prepared, start)
	if err := l.set.Host.Room(bytes); err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.mu.id++
	id := l.mu.id
	l.mu.Unlock()
	path := layout.Segment(l.set.Dir, id)
	file, err := segment.Prepare(l.set.Disk, path+suffix, bytes)
	if err != nil {
		l.remove(remains{[]string{path + suffix}, bytes})
		return nil, fmt.Errorf("prepare segment %d: %w", id, err)
	}
	return &blank{id: id, path: path, file: file, bytes: bytes}, nil
}

// remove takes a file of no use off the disk, now or at a later Tend; its bytes are given back when it is gone. If a
// crash brings it back, recovery finds it empty, void or temporary.
func (l *Log) remove(r remains) {
	var left []string
	for _, name := range r.names {
		if err := l.set.Disk.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			left = append(left, name)
		}
	}
	if len(left) == 0 {
		l.set.Host.Gave(r.bytes)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.litter = append(l.mu.litter, remains{left, r.bytes})
}

// header is what all headers have in common.
func (l *Log) header(b *blank, base queue.Seq) segment.Header {
	return segment.Header{
		Journal: l.set.Journal, Tag: l.set.Tag, ID: b.id, Salt: salt(), BaseSeq: base,
		Created: l.set.Now().UnixNano(), FileBytes: b.bytes,
	}
}

func salt() uint32 {
	var b [4]byte
	for {
		rand.Read(b[:]) // never fails
		if s := binary.LittleEndian.Uint32(b[:]); s != 0 {
			return s
		}
	}
}

// begin makes b the active segment. The one before it is sealed when all of it is durable.
func (l *Log) begin(b *blank, base queue.Seq) (*seg, error) {
	f := &l.f
	h := l.header(b, base)
	h.PrevID, h.PrevLastSeq, h.PrevDurable = f.before.PrevID, f.acked, f.before.PrevDurable
	if f.prev != nil {
		h.PrevID, h.PrevDurable = f.prev.id, f.prev.w.Durable()
	}
	h.BaseItems, h.Cursors = f.items, f.cursors
	if !l.wantSynced() {
		h.Flags |= segment.FlagUnsynced
	}
	w, err := segment.NewWriter(b.file, h)
	if err != nil {
		l.putBack(b)
		return nil, err
	}
	l.activate(&seg{blank: *b, w: w, head: &h, version: f.roster, unsynced: h.Flags&segment.FlagUnsynced != 0})
	return f.active, nil
}

// activate makes a the active segment and retires the one before it.
func (l *Log) activate(a *seg) {
	if l.f.active != nil {
		l.retire(l.f.active)
	}
	l.f.active, l.f.denied = a, false
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.usable, l.mu.roll = true, false
}

func (l *Log) wantSynced() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.synced
}

// outdated says whether a segment should not be used on although there is room in it.
func (l *Log) outdated(a *seg) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return a.version != l.f.roster || a.unsynced == l.mu.synced || l.mu.roll
}

// leaveRoom asks for the next segment when half of this one is used.
func (l *Log) leaveRoom(a *seg) {
	if int64(a.w.Used()) >= a.bytes/2 {
		l.mu.Lock()
		none := len(l.mu.blanks) == 0
		l.mu.Unlock()
		if none {
			l.wantBlank()
		}
	}
}

// endLarge ends a segment that was made as large as what is in it: no other such record would find room there, and while
// it is active it could not go when this one is delivered. What waits for a rescue comes first.
func (l *Log) endLarge() {
	if a := l.f.active; a != nil && a.bytes > l.segment.Load() && !l.f.stranded {
		l.deactivate(a)
		l.retire(a)
	}
}

// retire lets go of a segment that is not written any more: it is sealed once all of it is durable.
func (l *Log) retire(s *seg) {
	s.retiring = true
	if s.unsynced {
		l.orderSync()
	}
	l.sealIfDurable(s)
}

func (l *Log) sealIfDurable(s *seg) {
	if !s.retiring || s.condemned || s.jobs > 0 || l.pins(s) {
		return
	}
	s.retiring = false
	l.mu.Lock()
	l.mu.retired = append(l.mu.retired, s)
	l.mu.Unlock()
	l.want()
}

// refusal is the state an error on the way to space leads to, and what an append is told.
func (l *Log) refusal(err error) (State, error) {
	var full *queue.FullError
	switch {
	case errors.As(err, &full):
		return Full, err
	case vfs.IsFull(err):
		full = &queue.FullError{Limit: "disk"}
		if u, err := l.set.Disk.Usage(l.set.Dir); err == nil {
			full.Used, full.Max = u.Total-u.Free, u.Total
		}
		return Full, fmt.Errorf("%w: %w", full, err)
	case errors.Is(err, queue.ErrDisk):
		return Broken, err
	}
	return Broken, fmt.Errorf("%w: %w", queue.ErrDisk, err)
}
