// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package space

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

const (
	lockEvery    = 50 * time.Millisecond
	maxOwnerText = 256 // bytes of Settings.Owner that LOCK keeps
	since        = "since "
)

// registry holds the directories open in this process, whoever opened them: the one thing two stores of one process
// must agree on. flock would refuse the second as well; this one knows that there is no other process to look for.
var registry = struct {
	sync.Mutex
	open map[Identity]bool
}{open: map[Identity]bool{}}

func (s *Space) lockPath() string { return path.Join(s.dir, layout.LockFile) }

// acquire takes the lock, trying every lockEvery until timeout has passed or ctx ends.
func (s *Space) acquire(ctx context.Context, timeout time.Duration, volume string) error {
	deadline := time.Now().Add(timeout)
	for {
		err := s.tryLock(volume)
		if err == nil {
			return nil
		}
		if !errors.Is(err, vfs.ErrLocked) {
			return err
		}
		left := time.Until(deadline)
		if left <= 0 {
			return err
		}
		timer := time.NewTimer(min(lockEvery, left))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

// tryLock tries once. The directory may have been replaced since the last time, so it is identified anew.
func (s *Space) tryLock(volume string) error {
	info, err := s.disk.Stat(s.dir)
	if err != nil {
		return refuse(s.disk, s.dir, s.dir, err)
	}
	id := identity(info, volume)
	registry.Lock()
	taken := registry.open[id]
	registry.open[id] = true
	registry.Unlock()
	if taken {
		return &LockedError{Directory: s.dir, Here: true}
	}
	s.id = id
	if s.lock, err = s.disk.Lock(s.lockPath()); err == nil {
		err = s.keepsName()
	}
	if err == nil {
		return nil
	}
	err = errors.Join(err, s.release())
	if errors.Is(err, vfs.ErrLocked) {
		return s.lockedBy()
	}
	return refuse(s.disk, s.dir, s.lockPath(), err)
}

// keepsName says whether the file that was locked still has its name: the one who removed it, or gave the name to
// another, may hold that one's lock.
func (s *Space) keepsName() error {
	locked, err := s.lock.Stat()
	if err != nil {
		return err
	}
	named, err := s.disk.Stat(s.lockPath())
	if err == nil && !named.Same(locked) || isGone(err) {
		return vfs.ErrLocked // try again
	}
	return err
}

// release undoes tryLock.
func (s *Space) release() error {
	var err error
	if s.lock != nil {
		err = s.lock.Close()
		s.lock = nil
	}
	registry.Lock()
	delete(registry.open, s.id)
	registry.Unlock()
	return err
}

// sign writes who holds the lock into it. It is for people: what fails here stops nobody, but then it should not name
// somebody else.
func (s *Space) sign(owner string) {
	owner = printable(owner[:min(len(owner), maxOwnerText)])
	text := owner + "\n" + since + s.now().UTC().Format(time.RFC3339) + "\n"
	_, err := s.lock.WriteVAt([][]byte{[]byte(text)}, 0)
	if err == nil {
		err = s.lock.Truncate(int64(len(text)))
	} else {
		err = errors.Join(err, s.lock.Truncate(0))
	}
	s.note("lock", "LOCK does not say who holds it", err)
}

// lockedBy reads who holds the lock.
func (s *Space) lockedBy() error {
	e := &LockedError{Directory: s.dir}
	file, err := s.disk.OpenFile(s.lockPath(), vfs.Read, 0)
	if err != nil {
		return e
	}
	defer file.Close() //nolint:errcheck // opened for reading: there is nothing to lose
	text := make([]byte, 2*maxOwnerText)
	n, _ := file.ReadAt(text, 0) // what cannot be read is not told
	for line := range strings.Lines(string(text[:n])) {
		line = printable(line)
		if at, ok := strings.CutPrefix(line, since); ok {
			if t, err := time.Parse(time.RFC3339, at); err == nil {
				e.Held = max(0, s.now().Sub(t))
			}
			continue
		}
		if e.Owner == "" {
			e.Owner = line
		}
	}
	return e
}

// printable is text without what a terminal or a log would act on.
func printable(text string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, text))
}
