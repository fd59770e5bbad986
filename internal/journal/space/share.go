// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package space

import (
	"fmt"
	"path"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// Words of queue.FullError.Limit.
const (
	limitCap     = "max_file_size_mib"
	limitJournal = "max_size"
	limitFree    = "min_free_mib"
)

// granting is how long an allocation that was granted may take to show in the volume's free space.
const granting = time.Second

// Share is one journal's part of the directory. Its methods may be called from any goroutine.
type Share struct {
	space *Space
	dir   string // pipelines/<name>
	// The rest is guarded by space.mu.
	pipeline string
	books    books
}

// books are what is known of a journal's bytes.
//
// Booked, not counted: a grant is in used before its file is there, and what was given back leaves when its file is
// gone. So used is at least what is on disk, and the recount (recount.go) tells apart what is on its way and what drifted.
type books struct {
	open bool // somebody holds the Share; else the directory was only found
	head bool

	used    int64 // bytes
	granted int64 // all that was ever granted and given back; they only grow
	given   int64
	counted Bytes // what the last recount found

	before  int64 // granted when the last recount began
	missing int64 // what the last recount missed, less what was given back since

	seg      vfs.Info // seg/ as first seen; Inode 0 = not seen yet
	detached error
}

// Pipeline is whose journal it is.
func (h *Share) Pipeline() string {
	h.space.mu.Lock()
	defer h.space.mu.Unlock()
	return h.pipeline
}

// Room asks to allocate n bytes for this journal. After nil they are booked until Gave, also if the allocation fails:
// then the caller gives them back. A limit that denies is a *queue.FullError, in bytes: Used + n would be above Max.
//
//	max_size           used, of this journal
//	max_file_size_mib  used, of everything under the directory, and what is kept for the other heads' shares
//	min_free_mib       what is not free on the volume, of all but min_free
//
// ErrDetached says that the directory is not ours any more. Any other error is the disk's, and may pass.
//
// The disk is asked each time: four names and the volume. What was granted within the last second is taken off the
// free space, as the files may not be there yet.
func (h *Share) Room(n int64) error {
	s := h.space
	if err := s.check(h); err != nil {
		return err
	}
	volume, err := s.disk.Usage(s.dir)
	if err != nil {
		return fmt.Errorf("free space of %q: %w", s.dir, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n = max(n, 0)
	if err := s.roomLocked(h, n, volume); err != nil {
		return err
	}
	h.books.used += n
	h.books.granted += n
	return nil
}

// roomLocked is section 10's rule. h is nil for the RESERVE.
func (s *Space) roomLocked(h *Share, n int64, volume vfs.Usage) error {
	switch {
	case s.mu.closed:
		return queue.ErrClosed
	case s.mu.detached != nil:
		return s.mu.detached
	case h != nil && h.books.detached != nil:
		return h.books.detached
	}
	b := &s.mu.bounds
	if h != nil && b.maxJournal > 0 && h.books.used+n > b.maxJournal {
		return &queue.FullError{Limit: limitJournal, Used: h.books.used, Max: b.maxJournal}
	}
	if taken := s.usedLocked() + s.keptLocked(h); taken+n > b.cap {
		return &queue.FullError{Limit: limitCap, Used: taken, Max: b.cap}
	}
	now := time.Now() // not Settings.Now: a wall clock orders nothing
	free := volume.Free
	if now.Sub(s.mu.grantedAt) < granting {
		free = min(free, s.mu.expected)
	}
	if free-n < b.minFree {
		return &queue.FullError{Limit: limitFree, Used: volume.Total - free, Max: volume.Total - b.minFree}
	}
	s.mu.grantedAt, s.mu.expected = now, free-n
	s.mu.volume = volume
	return nil
}

// keptLocked is what others than h may still claim: sum over k≠h of max(0, share_k - used_k).
func (s *Space) keptLocked(h *Share) int64 {
	kept, share := int64(0), s.shareLocked()
	for _, k := range s.mu.journals {
		if k != h && k.books.head {
			kept += max(0, share-k.books.used)
		}
	}
	return kept
}

// shareLocked is the share of each head. More heads than were announced divide the cap further.
func (s *Space) shareLocked() int64 {
	heads := 0
	for _, k := range s.mu.journals {
		if k.books.head {
			heads++
		}
	}
	return s.mu.bounds.share(max(heads, s.mu.bounds.heads))
}

// Book books n bytes whatever the limits say, for what must be written because more would be lost without it: a
// rescue that took the RESERVE's place. Gave gives them back as well.
func (h *Share) Book(n int64) {
	s := h.space
	s.mu.Lock()
	defer s.mu.Unlock()
	n = max(n, 0)
	h.books.used += n
	h.books.granted += n
	s.mu.expected -= n
}

// Gave says that n bytes of this journal were freed: a file was cut or removed, or never made.
func (h *Share) Gave(n int64) {
	s := h.space
	s.mu.Lock()
	defer s.mu.Unlock()
	n = max(n, 0)
	h.books.used = max(0, h.books.used-n)
	h.books.given += n
	h.books.missing = max(0, h.books.missing-n) // the recount may have missed just these
	s.mu.expected += n
}

// Used is how many bytes are booked for this journal.
func (h *Share) Used() int64 {
	h.space.mu.Lock()
	defer h.space.mu.Unlock()
	return h.books.used
}

// Over is how many bytes this journal has above its share; below it, the negative number it may still claim. A tail
// has no share: all it has is above.
func (h *Share) Over() int64 {
	s := h.space
	s.mu.Lock()
	defer s.mu.Unlock()
	if !h.books.head {
		return h.books.used
	}
	return h.books.used - s.shareLocked()
}

// Bytes is what this journal has, by kind: as booked in all, the kinds other than segments as last counted.
func (h *Share) Bytes() Bytes {
	h.space.mu.Lock()
	defer h.space.mu.Unlock()
	return h.books.bytes()
}

// Close says that the journal is not open any more, or about to be removed: nothing is kept for it. What it left on
// disk still counts.
func (h *Share) Close() {
	h.space.mu.Lock()
	defer h.space.mu.Unlock()
	h.books.open, h.books.head = false, false
}

// Share is the part of one pipeline's journal. It begins with what the journal has on disk. Asked again for a journal
// that is open, it is the same one, and only whether it is a head changes.
func (s *Space) Share(pipeline string, head bool) *Share {
	name := layout.Escape(pipeline)
	s.mu.Lock()
	h := s.mu.journals[name]
	if h == nil {
		h = s.newShare(name)
		s.mu.journals[name] = h
	}
	opened := h.books.open
	h.pipeline = pipeline
	h.books.open, h.books.head = true, head
	if !opened {
		h.books.seg, h.books.detached = vfs.Info{}, nil
	}
	s.mu.Unlock()
	if !opened {
		h.noteCount(h.Recount())
		_ = s.check(h) // sees seg/ for the first time; what is wrong the next Room says
	}
	return h
}

// newShare is a journal in the directory of that name.
func (s *Space) newShare(name string) *Share {
	pipeline, ok := layout.Unescape(name)
	if !ok {
		pipeline = name
	}
	return &Share{space: s, pipeline: pipeline, dir: path.Join(s.dir, layout.Pipelines, name)}
}
