// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package recovery

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// badCursor is a file in cur/ that is no cursor of this journal.
type badCursor struct {
	path string
	why  error
}

// lostPrefix begins the name of a cursor whose file and destination are both unknown; its hash follows.
const lostPrefix = "lost-"

var (
	errStranger  = errors.New("it belongs to another journal")
	errMisplaced = errors.New("it has another cursor's name")
)

// readCursors reads cur/.
func (l *look) readCursors() error {
	dir := path.Join(l.dir, layout.Cursors)
	entries, err := l.disk.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list cursors: %w", err)
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name)
		switch {
		case !e.Type.IsRegular():
		case strings.HasSuffix(e.Name, layout.TempSuffix):
			l.litter = append(l.litter, name)
		case strings.HasSuffix(e.Name, layout.CursorSuffix):
			if err := l.readCursor(name); err != nil {
				return err
			}
		}
	}
	l.identify()
	for _, c := range l.cursors {
		s := &c.Slot
		l.high = max(l.high, s.High, s.Resolved.High())
		if s.DurableSeq > l.durable.seq {
			l.durable.seq, l.durable.items = s.DurableSeq, s.DurableItems
		}
	}
	return nil
}

func (l *look) readCursor(name string) error {
	slot, err := cursor.Read(l.disk, name)
	var corrupt *cursor.CorruptError
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case errors.As(err, &corrupt):
		l.bad = append(l.bad, badCursor{name, corrupt.Cause})
	case errors.Is(err, syscall.EIO):
		l.bad = append(l.bad, badCursor{name, err})
	case err != nil:
		return fmt.Errorf("read cursor: %w", err)
	case layout.Cursor(l.dir, slot.Name) != name:
		l.bad = append(l.bad, badCursor{name, errMisplaced})
	default:
		l.cursors = append(l.cursors, &Cursor{Path: name, Slot: slot})
	}
	return nil
}

// identify takes out the cursors of other journals. Without segments, the journal is the one most cursors are of, and
// the one that came furthest if there are as many of another.
func (l *look) identify() {
	if len(l.cursors) > 0 && !slices.ContainsFunc(l.order, (*found).hasHeader) {
		type votes struct {
			files   int
			durable queue.Seq
		}
		all := map[[16]byte]votes{}
		for _, c := range l.cursors {
			v := all[c.Slot.Journal]
			all[c.Slot.Journal] = votes{v.files + 1, max(v.durable, c.Slot.DurableSeq, c.Slot.High)}
		}
		ids := slices.SortedFunc(maps.Keys(all), func(a, b [16]byte) int {
			x, y := all[a], all[b]
			return cmp.Or(cmp.Compare(y.files, x.files), cmp.Compare(y.durable, x.durable), slices.Compare(a[:], b[:]))
		})
		l.journal = ids[0]
	}
	l.cursors = slices.DeleteFunc(l.cursors, func(c *Cursor) bool {
		stranger := c.Slot.Journal != l.journal
		if stranger {
			l.bad = append(l.bad, badCursor{c.Path, errStranger})
		}
		return stranger
	})
}

// behind says whether a slot knows more than the segments show.
func (l *look) behind() bool {
	last := queue.Seq(0)
	for _, f := range l.order {
		last = max(last, f.sum.Last, f.in.Header.BaseSeq-1)
	}
	return max(l.durable.seq, l.high) > last
}

// missCursors finds the cursors that are lost: a segment names one that has no file, or its file is bad.
func (l *look) missCursors() {
	names := map[uint64]string{} // of destinations, by hash
	for _, b := range l.bad {
		if name, ok := l.nameOf(b.path); ok {
			names[cursor.Hash(name)] = name
		}
	}
	unlisted := maps.Clone(names)
	for _, name := range l.wanted {
		names[cursor.Hash(name)] = name
	}
	there := map[uint64]bool{}
	for _, c := range l.cursors {
		there[cursor.Hash(c.Slot.Name)] = true
	}
	l.name(names, there)
	listed := l.listed()
	for _, hash := range slices.Sorted(maps.Keys(listed)) {
		if !there[hash] {
			there[hash] = true
			l.cursors = append(l.cursors, l.lose(hash, names[hash], listed[hash]))
		}
	}
	// A bad file that no segment names: a cursor that was just made. Should it have been attached before the segment
	// that is the last one could be ended, it is owed that.
	for _, hash := range slices.Sorted(maps.Keys(unlisted)) {
		if there[hash] || !slices.Contains(l.wanted, unlisted[hash]) {
			continue
		}
		there[hash] = true
		if n := len(l.order); n > 0 {
			l.cursors = append(l.cursors, l.lose(hash, unlisted[hash], listing{n - 1, n - 1}))
		} else {
			l.cursors = append(l.cursors, l.lose(hash, unlisted[hash], listing{-1, -1}))
		}
	}
	// Without any cursor, a segment whose header is bad is owed to whoever is there.
	if i := slices.IndexFunc(l.order, func(f *found) bool { return !f.hasHeader() }); i >= 0 && len(l.cursors) == 0 {
		for _, name := range l.wanted {
			hash := cursor.Hash(name)
			there[hash] = true
			l.cursors = append(l.cursors, l.lose(hash, name, listing{i, len(l.order) - 1}))
		}
	}
	slices.SortFunc(l.cursors, func(a, b *Cursor) int { return strings.Compare(a.Path, b.Path) })
}

// nameOf is the destination that a cursor's file name stands for.
func (l *look) nameOf(file string) (string, bool) {
	for _, name := range l.wanted {
		if layout.Cursor(l.dir, name) == file {
			return name, true
		}
	}
	return layout.Unescape(strings.TrimSuffix(path.Base(file), layout.CursorSuffix))
}

// name gives cursors that were lost, and stood for a hash since, the name of their destination when it is known again.
func (l *look) name(names map[uint64]string, there map[uint64]bool) {
	l.cursors = slices.DeleteFunc(l.cursors, func(c *Cursor) bool {
		digits, ok := strings.CutPrefix(c.Slot.Name, lostPrefix)
		hash, err := strconv.ParseUint(digits, 16, 64)
		if !ok || err != nil || len(digits) != 16 {
			return false
		}
		name, known := names[hash]
		if !known {
			there[hash] = true
			return false
		}
		l.outdated = append(l.outdated, c.Path)
		if there[hash] { // a crash came between the new file and the end of the old one
			return true
		}
		there[hash] = true
		c.Path, c.Slot.Name, c.dirty = layout.Cursor(l.dir, name), name, true
		c.bad = slices.ContainsFunc(l.bad, func(b badCursor) bool { return b.path == c.Path })
		return false
	})
}

// listing is where in order a cursor is named first and last.
type listing struct{ first, last int }

// listed says which cursors the headers name. A segment whose header is bad is owed to all.
func (l *look) listed() map[uint64]listing {
	all := map[uint64]listing{}
	for i, f := range l.order {
		if !f.hasHeader() {
			continue
		}
		for _, hash := range f.in.Header.Cursors {
			at, ok := all[hash]
			if !ok {
				for at.first = i; at.first > 0 && !l.order[at.first-1].hasHeader(); at.first-- {
				}
			}
			at.last = i
			all[hash] = at
		}
	}
	for hash, at := range all {
		for at.last+1 < len(l.order) && !l.order[at.last+1].hasHeader() {
			at.last++
		}
		all[hash] = at
	}
	return all
}

// lose makes the cursor that takes the place of a lost one. It is owed all that is there from the first segment that
// names it, up to the last one if its destination is gone. It repeats what it had; what is not there any more it had
// resolved.
func (l *look) lose(hash uint64, name string, at listing) *Cursor {
	c := &Cursor{Lost: true, dirty: true}
	s := &c.Slot
	s.State, s.Name = queue.Live, name
	if !slices.Contains(l.wanted, name) {
		s.State, s.Until = queue.Parked, segment.MaxSeq // cut to what there is when that is known
		if at.last+1 < len(l.order) && at.last >= 0 {
			s.Until = l.order[at.last+1].in.Header.BaseSeq - 1
		}
	}
	if name == "" {
		s.Name = fmt.Sprintf("%s%016x", lostPrefix, hash)
	}
	s.Journal = l.journal
	if at.first >= 0 {
		h := &l.order[at.first].in.Header
		s.Resolved.Reset(h.BaseSeq - 1)
		s.NotOwed = h.BaseItems
	}
	c.Path = layout.Cursor(l.dir, s.Name)
	c.bad = slices.ContainsFunc(l.bad, func(b badCursor) bool { return b.path == c.Path })
	return c
}

var _ vfs.FS = meter{}
