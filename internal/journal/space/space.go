// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package space is one storage directory: who may use it, and how much each journal in it may allocate.
//
// It stands beside the journals of a directory and under none of them: they write their files themselves and ask here
// before they allocate. It makes the directory, proves that it can be written, locks it against every other process,
// keeps the ballast (RESERVE) that acknowledgements fall back on when the volume is full, keeps the books of allocated
// bytes and corrects them against the disk, and notices when the directory is not the one that was opened.
//
//	<directory>/            foreign: whatever is not named here; counted, never touched
//	  LOCK                  held as long as the Space is open
//	  RESERVE               ballast
//	  pipelines/<name>/     a Share each: seg/ cur/ dead/ bad/
//
// It promises that all that is granted keeps the limits of section 10 of the journal's specification, whatever the
// journals do at the same time, and that a healthy journal can always claim its share. It deletes nothing but its own
// ballast, and it never looks into a journal's files: records, cursors and what they mean are unknown here.
package space

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"sync"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// Settings say which directory is opened and what bounds it.
type Settings struct {
	Disk      vfs.FS
	Directory string
	Create    bool          // make the directory, and its parents
	Perm      fs.FileMode   // of directories made here; 0 = 0750
	Timeout   time.Duration // how long to wait for the lock; 0 = one try
	Now       func() time.Time
	Owner     string // who holds the lock, for people: pid, host, start

	// As in Limits.
	CapBytes, MinFreeBytes, MaxJournalBytes int64
	SegmentBytes                            int64
	Heads                                   int
}

func (set *Settings) limits() Limits {
	return Limits{
		CapBytes: set.CapBytes, MinFreeBytes: set.MinFreeBytes, MaxJournalBytes: set.MaxJournalBytes,
		SegmentBytes: set.SegmentBytes, Heads: set.Heads,
	}
}

// Space is an open directory. Its methods may be called from any goroutine; none of them calls back.
type Space struct {
	disk vfs.FS
	dir  string // links resolved
	now  func() time.Time
	id   Identity
	lock vfs.File
	was  ours // what was opened

	// Taken in this order. The disk is asked under the first two, never under mu.
	round   sync.Mutex // held over a recount
	ballast sync.Mutex // held over the calls on RESERVE
	mu      struct {
		sync.Mutex
		bounds   bounds
		closed   bool
		detached error
		journals map[string]*Share // by the name of the directory

		reserve  int64 // allocated now
		ballasts int64 // the size RESERVE was last given
		own      int64 // LOCK and pipelines/ itself
		foreign  int64

		volume    vfs.Usage // as last seen
		grantedAt time.Time // when free space was last promised
		expected  int64     // what was to be free after that

		notes  map[string]string // what people should know, by what it is about
		growth growth
		walked time.Time     // when the last recount began
		took   time.Duration // and how long it ran
	}
}

// Open opens the directory: it makes it where that is asked for, proves that it can be written, takes its lock and
// counts what is there. It needs neither free space nor room under the cap; both only bound what is allocated later.
// Whatever fails, the lock is free again and the next Open starts where this one did: what was made is kept and made
// durable by whoever opens.
//
// Errors for people: *DirectoryError, *LockedError (after Timeout, or with ctx's error when it ends first), *CapError.
func Open(ctx context.Context, set Settings) (*Space, error) {
	if set.Disk == nil || set.Directory == "" {
		return nil, errors.New("open a storage directory: no disk or no directory")
	}
	if set.Perm == 0 {
		set.Perm = defaultPerm
	}
	if set.Now == nil {
		set.Now = time.Now
	}
	dir, err := set.Disk.Resolve(set.Directory)
	if err != nil {
		refused := refuse(set.Disk, set.Directory, set.Directory, err)
		if isGone(err) { // a link that leads nowhere
			refused.Fix = `mkdir -p "$(readlink -m ` + quote(set.Directory) + `)"`
		}
		return nil, refused
	}
	made, err := provide(set.Disk, dir, set.Perm, set.Create)
	if err != nil {
		return nil, err
	}
	volume, err := set.Disk.Usage(dir)
	if err != nil {
		return nil, refuse(set.Disk, dir, dir, err)
	}
	bounds, err := set.limits().on(volume)
	if err != nil {
		return nil, fmt.Errorf("directory %q: %w", dir, err)
	}
	s := &Space{disk: set.Disk, dir: dir, now: set.Now}
	s.mu.bounds, s.mu.volume = bounds, volume
	s.mu.journals, s.mu.notes = map[string]*Share{}, map[string]string{}
	if err := s.acquire(ctx, set.Timeout, volume.Kind); err != nil {
		return nil, err
	}
	if err := s.settle(&set, made); err != nil {
		return nil, errors.Join(err, s.release())
	}
	return s, nil
}

// settle does what needs the lock. Until the directories are synced nothing here may be relied on: a name that a
// crash can take back takes every acknowledged record below it along.
func (s *Space) settle(set *Settings, made int) error {
	s.sign(set.Owner)
	pipelines := path.Join(s.dir, layout.Pipelines)
	if _, err := provide(s.disk, pipelines, set.Perm, true); err != nil {
		return err
	}
	if err := probe(s.disk, s.dir); err != nil {
		return err
	}
	if err := syncUp(s.disk, s.dir, made); err != nil {
		return err
	}
	for name, was := range map[string]*vfs.Info{s.dir: &s.was.directory, s.lockPath(): &s.was.lock, pipelines: &s.was.pipelines} {
		info, err := s.disk.Stat(name)
		if err != nil {
			return refuse(s.disk, s.dir, name, err)
		}
		*was = info
	}
	if err := s.recount(); err != nil {
		return refuse(s.disk, s.dir, s.dir, err)
	}
	s.Restore()
	return nil
}

// Close gives up the lock, after a Squeeze or Restore that runs. It deletes nothing; what is asked later fails. Close
// may be called again.
func (s *Space) Close() error {
	s.mu.Lock()
	closed := s.mu.closed
	s.mu.closed = true
	s.mu.Unlock()
	if closed {
		return nil
	}
	s.ballast.Lock()
	defer s.ballast.Unlock()
	return s.release()
}

// Directory is where it is, links resolved.
func (s *Space) Directory() string { return s.dir }

// SegmentBytes is how large segments are made now.
func (s *Space) SegmentBytes() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.bounds.segment
}

// Cap is the limit on all allocated bytes under the directory.
func (s *Space) Cap() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.bounds.cap
}

// Adjust replaces the limits, at a reload. Lower ones delete nothing: they only deny until enough is gone. Segments
// that are there keep their size, RESERVE gets its new one at the next Restore. After an error all is as before.
func (s *Space) Adjust(l Limits) error {
	bounds, volume, err := s.bounds(l)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.bounds, s.mu.volume = bounds, volume
	return nil
}

// Fits says whether Adjust would refuse: a *CapError, or the disk's error.
func (s *Space) Fits(l Limits) error {
	_, _, err := s.bounds(l)
	return err
}

func (s *Space) bounds(l Limits) (bounds, vfs.Usage, error) {
	volume, err := s.disk.Usage(s.dir)
	if err != nil {
		return bounds{}, volume, fmt.Errorf("free space of %q: %w", s.dir, err)
	}
	b, err := l.on(volume)
	if err != nil {
		return b, volume, fmt.Errorf("directory %q: %w", s.dir, err)
	}
	return b, volume, nil
}
