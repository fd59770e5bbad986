// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package cursor

import (
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// Read returns what the file holds and changes nothing; a writer may be at work beside it. What it returns need not be
// durable. Errors: fs.ErrNotExist, *CorruptError, *NewerError, or the disk refuses to open it.
func Read(disk vfs.FS, name string) (Slot, error) {
	file, err := disk.OpenFile(name, vfs.Read, 0)
	if err != nil {
		return Slot{}, err
	}
	s, _, err := load(file, name)
	if err := errors.Join(err, file.Close()); err != nil {
		return Slot{}, err
	}
	return s, nil
}

// load returns the valid slot with the highest generation. flaw says what else is wrong with the file: it is to be
// replaced. What cannot be read, or holds in neither slot, is asked for twice: a writer may be at work.
func load(file vfs.File, name string) (s Slot, flaw, err error) {
	for range 2 {
		var found pair
		if found, err = loadPair(file, name); err != nil {
			return Slot{}, nil, err
		}
		s, flaw, err = found.latest(name)
		if err == nil && flaw == nil {
			break
		}
	}
	if err != nil {
		return Slot{}, nil, err
	}
	if flaw == nil {
		flaw = sized(file, name)
	}
	return s, flaw, nil
}

// pair is what the two places of a file hold.
type pair [2]struct {
	slot       Slot
	err        error // why it is no slot
	unreadable error // what the disk said
}

// loadPair reads both slots. It fails for a *NewerError only.
func loadPair(file vfs.File, name string) (found pair, err error) {
	b := make([]byte, SlotBytes)
	for i := range found {
		at := &found[i]
		n, err := file.ReadAt(b, int64(i)*SlotBytes)
		if err != nil && !errors.Is(err, io.EOF) {
			at.unreadable = err
		}
		// A slot that was read is good even if the disk refused what lies behind it.
		at.slot, at.err = ParseSlot(b[:n])
		var newer *NewerError
		if errors.As(at.err, &newer) {
			newer.Path = name
			return found, newer
		}
		if at.err == nil && at.slot.Generation%2 != uint64(i) {
			at.err = errPlace // the next write would go over it
		}
	}
	return found, nil
}

// latest is the slot that counts, or a *CorruptError.
func (p *pair) latest(name string) (s Slot, flaw, err error) {
	best := -1
	for i := range p {
		if p[i].err == nil && (best < 0 || p[i].slot.Generation > p[best].slot.Generation) {
			best = i
		}
		if p[i].unreadable != nil {
			flaw = p[i].unreadable
			if p[i].err != nil {
				p[i].err = p[i].unreadable
			}
		}
	}
	if best < 0 {
		return Slot{}, nil, &CorruptError{Path: name, Cause: fmt.Errorf("even slot: %w; odd slot: %w", p[0].err, p[1].err)}
	}
	return p[best].slot, flaw, nil
}

// sized is nil if the file has its size.
func sized(file vfs.File, name string) error {
	info, err := file.Stat()
	if err == nil && info.Size != FileBytes {
		err = fmt.Errorf("%s: %d bytes: %w", name, info.Size, errFileSize)
	}
	return err
}
