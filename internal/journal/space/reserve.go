// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package space

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path"

	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// fillBytes is how much of the ballast is written at once where the volume cannot allocate.
const fillBytes = 1 << 20

func (s *Space) reservePath() string { return path.Join(s.dir, layout.ReserveFile) }

// Squeeze cuts the RESERVE to nothing: there is room on the volume for a slot, a dead letter, a new cursor or a
// rescue that met ENOSPC. It says whether that freed anything; then one more try makes sense.
func (s *Space) Squeeze() bool {
	s.ballast.Lock()
	defer s.ballast.Unlock()
	if s.check(nil) != nil {
		return false
	}
	file, err := s.disk.OpenFile(s.reservePath(), vfs.Write, 0)
	if err != nil {
		return false
	}
	before, err := file.Stat()
	if err == nil {
		err = file.Truncate(0)
	}
	if err == nil {
		// Some volumes hand out freed blocks only when the cut is durable. Whether it is decides nothing here.
		_ = file.Datasync()
	}
	_ = file.Close() // nothing was written
	if err != nil || before.Allocated == 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.reserve = 0
	s.mu.expected += before.Allocated
	return true
}

// Restore gives the RESERVE its size again, where the limits allow it, and says whether it has it. It is for the state
// ok, as often as one likes: as long as nothing is missing it touches no disk. Not having it is no error; Warnings
// tells.
func (s *Space) Restore() bool {
	s.ballast.Lock()
	defer s.ballast.Unlock()
	s.mu.Lock()
	want := s.mu.bounds.reserve()
	done := s.mu.ballasts == want && s.mu.reserve >= want && !s.mu.closed
	s.mu.Unlock()
	if done {
		return true
	}
	err := s.restore(want)
	s.note("reserve", fmt.Sprintf("%s has not its %d bytes yet", s.reservePath(), want), err)
	return err == nil
}

func (s *Space) restore(want int64) error {
	if err := s.check(nil); err != nil {
		return err
	}
	file, err := s.disk.OpenFile(s.reservePath(), vfs.Write, 0)
	if errors.Is(err, fs.ErrNotExist) {
		file, err = s.disk.OpenFile(s.reservePath(), vfs.Create, filePerm)
	}
	if err != nil {
		return err
	}
	err = s.resize(file, want)
	if err != nil {
		_ = file.Truncate(0) // half a ballast, or one without blocks, helps nobody for sure
	}
	after, seen := file.Stat()
	s.mu.Lock()
	switch {
	case err == nil: // some volumes show blocks later; the recount will see them
		s.mu.reserve, s.mu.ballasts = max(want, after.Allocated), want
	case seen == nil:
		s.mu.reserve = after.Allocated
	}
	s.mu.Unlock()
	return errors.Join(err, file.Close())
}

// resize gives file want bytes with blocks.
func (s *Space) resize(file vfs.File, want int64) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if info.Size > want {
		if err := file.Truncate(want); err != nil {
			return err
		}
		if info, err = file.Stat(); err != nil {
			return err
		}
	}
	if info.Allocated >= want {
		return nil
	}
	volume, err := s.disk.Usage(s.dir)
	if err != nil {
		return err
	}
	more := want - info.Allocated
	s.mu.Lock()
	s.mu.reserve = info.Allocated
	if err = s.roomLocked(nil, more, volume); err == nil {
		s.mu.reserve = want // booked
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if err = enlarge(file, want); err != nil {
		s.mu.Lock()
		s.mu.expected += more
		s.mu.Unlock()
	}
	return err
}

// enlarge gives file blocks for want bytes.
func enlarge(file vfs.File, want int64) error {
	if err := file.Allocate(want); err != nil && !errors.Is(err, vfs.ErrUnsupported) {
		return err
	}
	if info, err := file.Stat(); err != nil || info.Allocated >= want {
		return err
	}
	return fill(file, want) // there are volumes that say yes and give nothing
}

// fill writes what no volume can store in less.
func fill(file vfs.File, bytes int64) error {
	noise := rand.NewChaCha8([32]byte{1})
	piece := make([]byte, min(fillBytes, bytes))
	for at := int64(0); at < bytes; at += int64(len(piece)) {
		piece = piece[:min(int64(len(piece)), bytes-at)]
		_, _ = noise.Read(piece) // never fails
		if _, err := file.WriteVAt([][]byte{piece}, at); err != nil {
			return err
		}
	}
	return file.Datasync() // blocks may be chosen only now
}
