// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package space

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// How the books and the disk are kept equal.
//
// Between two recounts a journal's books only move by Room and Gave. A recount walks the journal's directory while
// both go on, so what it finds is compared with what can be there, and only certain differences are corrected; a
// correction is added to the books, it never replaces them, so whatever was booked meanwhile stays booked.
//
//	found > used at the start + granted during the walk          more than can be explained: booked at once
//	found < used at the start - granted since the last recount   less than can be explained: taken off if the next
//	        - given back during the walk                         recount misses it too and no Gave came between
//
// Less may be found because a grant is not on disk yet, or because a file is gone and Gave comes later: the first is
// left out as long as it is younger than the last recount, the second is over by the next. So nothing is lost that is
// on its way for less than a round; what takes longer is missed for a round and then found again. Books that are too
// high for so long (or while a journal moves more than the drift in each round) deny early, which harms nobody; books
// that are too low would let the directory grow above its cap.

const (
	// walkShare: recounts that are not quick take at most one part in so many of the time.
	walkShare = 20
	quickWalk = 500 * time.Millisecond
)

// Bytes are allocated bytes by kind.
type Bytes struct {
	Segments int64
	Cursors  int64 // and other small things: LOCK, directories
	Dead     int64
	Bad      int64
	Reserve  int64
	Foreign  int64 // what is not ours
}

// Total is their sum.
func (b Bytes) Total() int64 { return b.Segments + b.Cursors + b.Dead + b.Bad + b.Reserve + b.Foreign }

// ByKind is b under the kinds' words.
func (b Bytes) ByKind() map[string]int64 {
	return map[string]int64{
		"segments": b.Segments, "cursors": b.Cursors, "dead": b.Dead, "bad": b.Bad, "reserve": b.Reserve,
		"foreign": b.Foreign,
	}
}

// bytes spreads what is booked over the kinds: what was not counted yet are segments.
func (b *books) bytes() Bytes {
	k := b.counted
	k.Reserve, k.Foreign = 0, 0
	small := k.Cursors + k.Dead + k.Bad
	k.Segments = b.used - small
	if k.Segments < 0 {
		k = Bytes{Segments: b.used}
	}
	return k
}

// usedLocked is everything under the directory, as booked.
func (s *Space) usedLocked() int64 {
	used := s.mu.reserve + s.mu.own + s.mu.foreign
	for _, h := range s.mu.journals {
		used += h.books.used
	}
	return used
}

// Warden is one round of what has to be looked at from time to time, every 10 s: whether the directory is still the
// one that was opened, the volume's free space, and what is allocated. One caller at a time.
//
// ErrDetached says that the directory is not ours any more. Any other error is the disk's: what could not be looked at
// stays as it was in the books. Recounts that take long are made less often.
func (s *Space) Warden() error {
	if err := s.watch(); err != nil {
		s.note("warden", "the directory could not be looked at", err)
		return err
	}
	volume, err := s.disk.Usage(s.dir)
	now := time.Now()
	s.mu.Lock()
	if err == nil {
		s.mu.volume = volume
	}
	due := s.mu.took <= quickWalk || now.Sub(s.mu.walked) >= walkShare*s.mu.took
	s.mu.Unlock()
	if err == nil && due {
		err = s.recount()
	}
	s.note("warden", "the directory could not be looked at", err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.growth.add(now, s.usedLocked(), s.mu.volume.Free)
	return err
}

// watch checks identities, the journals' too.
func (s *Space) watch() error {
	if err := s.check(nil); err != nil {
		return err
	}
	var errs []error
	for _, h := range s.shares() {
		if err := s.check(h); err != nil && !errors.Is(err, ErrDetached) { // that one is the journal's own affair
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// shares are the journals somebody has open.
func (s *Space) shares() []*Share {
	s.mu.Lock()
	defer s.mu.Unlock()
	var open []*Share
	for _, h := range s.mu.journals {
		if h.books.open {
			open = append(open, h)
		}
	}
	return open
}

// recount walks the directory and corrects the books. After an error what it concerns stays as it was.
func (s *Space) recount() error {
	s.round.Lock()
	defer s.round.Unlock()
	began := time.Now()
	entries, err := s.disk.ReadDir(s.dir)
	if err != nil {
		return err
	}
	alien := &walker{disk: s.disk, device: s.id.Device, left: maxForeign}
	var own int64
	var errs []error
	for _, e := range entries {
		name := path.Join(s.dir, e.Name)
		switch {
		case e.Name == layout.LockFile:
			info, err := s.disk.Stat(name)
			errs = append(errs, ignoreGone(err))
			own += info.Allocated
		case e.Name == layout.Pipelines && e.Type.IsDir():
			bytes, err := s.recountJournals(alien)
			errs = append(errs, err)
			own += bytes
		case e.Name == layout.ReserveFile && e.Type.IsRegular():
		default:
			alien.add(name, e.Type)
		}
	}
	errs = append(errs, s.recountReserve())
	s.note("foreign", fmt.Sprintf("more than %d files under %q are not of the journal; the others do not count "+
		"towards the cap", maxForeign, s.dir), alien.err())
	if err := errors.Join(errs...); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.own, s.mu.foreign = own, alien.sum
	s.mu.walked, s.mu.took = began, time.Since(began)
	return nil
}

// recountReserve looks at RESERVE, which may have been removed by hand.
func (s *Space) recountReserve() error {
	s.ballast.Lock()
	defer s.ballast.Unlock()
	info, err := s.disk.Stat(s.reservePath())
	if err != nil && !isGone(err) {
		return err
	}
	if err != nil || !info.Mode.IsRegular() {
		info = vfs.Info{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.reserve = info.Allocated
	return nil
}

// recountJournals counts every journal there is; own is what pipelines/ itself takes.
func (s *Space) recountJournals(alien *walker) (own int64, err error) {
	dir := path.Join(s.dir, layout.Pipelines)
	info, err := s.disk.Stat(dir)
	if err != nil {
		return 0, ignoreGone(err)
	}
	entries, err := s.disk.ReadDir(dir)
	if err != nil {
		return 0, ignoreGone(err)
	}
	own = info.Allocated
	found := map[string]bool{}
	for _, e := range entries {
		switch name := path.Join(dir, e.Name); {
		case e.Type.IsDir():
			found[e.Name] = true
		case strings.HasSuffix(e.Name, layout.TempSuffix):
			info, err := s.disk.Stat(name)
			if err := ignoreGone(err); err != nil {
				return own, err
			}
			own += info.Allocated
		default:
			alien.add(name, e.Type)
		}
	}
	s.mu.Lock()
	for name := range found {
		if s.mu.journals[name] == nil {
			s.mu.journals[name] = s.newShare(name)
		}
	}
	var all []*Share
	for name, h := range s.mu.journals {
		if !found[name] && !h.books.open {
			delete(s.mu.journals, name) // nobody's, and gone
			delete(s.mu.notes, h.dir)
			continue
		}
		all = append(all, h)
	}
	s.mu.Unlock()
	for _, h := range all {
		h.noteCount(h.recount(alien))
	}
	return own, nil
}

// noteCount remembers that a journal could not be counted. The others go on: what is wrong with its directory is told
// by its recovery.
func (h *Share) noteCount(err error) {
	h.space.note(h.dir, fmt.Sprintf("%q could not be counted", h.dir), err)
}

// Recount counts what the journal has on disk and makes the books say that. It is for when nothing of this journal is
// allocated or freed at the same time: after its recovery.
func (h *Share) Recount() error {
	s := h.space
	s.round.Lock()
	defer s.round.Unlock()
	found, err := h.count(&walker{disk: s.disk, device: s.id.Device, left: maxForeign})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h.books.used, h.books.counted, h.books.missing = found.Total(), found, 0
	h.books.before = h.books.granted
	return nil
}

// recount corrects the books as told above. Its caller holds the round.
func (h *Share) recount(alien *walker) error {
	s, b := h.space, &h.books
	s.mu.Lock()
	used, granted, given := b.used, b.granted, b.given
	young := granted - b.before
	open := b.open
	b.before = granted
	s.mu.Unlock()
	found, err := h.count(alien)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		b.missing = 0
		return err
	}
	b.counted = found
	more := found.Total() - used - (b.granted - granted)
	less := used - young - (b.given - given) - found.Total()
	if !open && !b.open { // nobody moves it: the books are what is there
		b.used, b.missing = found.Total(), 0
		return nil
	}
	if more > 0 {
		b.used += more
	}
	sure := min(max(less, 0), b.missing)
	b.used = max(0, b.used-sure)
	b.missing = max(less, 0) - sure
	return nil
}

// count walks the journal's directory. What is not ours in it goes to alien.
func (h *Share) count(alien *walker) (Bytes, error) {
	s := h.space
	var found Bytes
	info, err := s.disk.Stat(h.dir)
	if err != nil {
		return found, ignoreGone(err)
	}
	entries, err := s.disk.ReadDir(h.dir)
	if err != nil {
		return found, ignoreGone(err)
	}
	found.Cursors = info.Allocated
	kinds := map[string]*int64{
		layout.Segments: &found.Segments, layout.Cursors: &found.Cursors, layout.Dead: &found.Dead, layout.Bad: &found.Bad,
	}
	for _, e := range entries {
		name := path.Join(h.dir, e.Name)
		kind := kinds[e.Name]
		switch {
		case kind != nil && e.Type.IsDir():
		case strings.HasSuffix(e.Name, layout.TempSuffix):
			kind = &found.Cursors
		default:
			alien.add(name, e.Type)
			continue
		}
		w := &walker{disk: s.disk, device: s.id.Device, left: -1}
		w.add(name, e.Type)
		if w.failed != nil {
			return found, w.failed
		}
		*kind += w.sum
	}
	return found, nil
}
