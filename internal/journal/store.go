// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/journal/space"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

const (
	wardenEvery  = 10 * time.Second
	limitMaxSize = "max_size"
	dirPerm      = 0o750
)

// Options say how a store is opened.
type Options struct {
	Config                    // several extensions on one directory are merged by the caller: Merge
	Heads    int              // journals that will take appends, for shares and the size of segments
	Segments int64            // bytes of a segment; 0 = by the cap. Tests set it
	Owner    string           // who holds the lock, for people: program, pid, host
	Now      func() time.Time // nil = time.Now
	OnEvent  func(Event)      // may be nil
	Observe  Observer
}

// Store is one file_storage directory: its lock, its limits, and the memory its journals share. It outlives reloads.
type Store struct {
	disk   vfs.FS
	opts   Options
	dir    string
	space  *space.Space
	cache  budget
	stop   chan struct{}
	done   chan struct{}
	ending sync.Once

	opening sync.Mutex // held over disk calls: one journal is opened at a time
	mu      struct {
		sync.Mutex
		cfg      Config
		journals []*Journal // open ones, in order of opening
		detached bool
	}
}

// OpenStore makes the directory if it is to, locks it and counts what is in it. Errors are for people: *space.DirectoryError,
// *space.LockedError and *space.CapError say the way out. It opens no journal.
func OpenStore(ctx context.Context, disk vfs.FS, o Options) (*Store, error) {
	mode, err := o.Mode()
	if err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	l := o.limits(o.Config, o.Heads)
	sp, err := space.Open(ctx, space.Settings{
		Disk: disk, Directory: o.Directory, Create: o.CreateDirectory, Perm: mode, Timeout: o.Timeout, Now: o.Now,
		Owner: o.Owner, CapBytes: l.CapBytes, MinFreeBytes: l.MinFreeBytes, MaxJournalBytes: l.MaxJournalBytes,
		SegmentBytes: l.SegmentBytes, Heads: l.Heads,
	})
	if err != nil {
		return nil, err
	}
	s := &Store{disk: sp.Disk(), opts: o, dir: sp.Directory(), space: sp, stop: make(chan struct{}), done: make(chan struct{})}
	s.mu.cfg = o.Config
	s.cache.limit.Store(o.TailCacheMiB << 20)
	go s.watch()
	return s, nil
}

// limits are those of a configuration.
func (o *Options) limits(c Config, heads int) space.Limits {
	return space.Limits{
		CapBytes: c.MaxFileSizeMiB << 20, MinFreeBytes: c.MinFreeMiB << 20, MaxJournalBytes: c.MaxSize,
		SegmentBytes: o.Segments, Heads: heads,
	}
}

// Fits says whether Adjust would refuse these limits: a *space.CapError.
func (s *Store) Fits(c Config, heads int) error {
	err := s.space.Fits(s.opts.limits(c, heads))
	var small *space.CapError
	if errors.As(err, &small) {
		return err
	}
	return nil // a disk that does not answer says nothing of the limits
}

// Adjust makes other limits, overflow, parked_hold, tail cache and fsync hold from now on; the rest of a Config is of the
// opening. Lower limits delete nothing by themselves. Segments that are there keep size and mode: the next one of each
// journal has the new ones. After an error all is as before.
func (s *Store) Adjust(c Config, heads int) error {
	if err := s.space.Adjust(s.opts.limits(c, heads)); err != nil {
		return err
	}
	s.opening.Lock() // a journal that is being opened has either
	defer s.opening.Unlock()
	s.mu.Lock()
	s.mu.cfg = c
	s.mu.Unlock()
	s.cache.limit.Store(c.TailCacheMiB << 20)
	for _, j := range s.journals() {
		if j.log != nil {
			j.log.SetSynced(c.FSync)
			j.log.SetSegmentBytes(s.space.SegmentBytes())
			j.tendSoon() // there may be room now
		}
	}
	return nil
}

func (s *Store) config() Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.cfg
}

// Identity is the directory that a storage leads to, symbolic links resolved: extensions with the same one share a
// store.
func Identity(disk vfs.FS, directory string) (string, error) { return disk.Resolve(directory) }

// Merge is what holds for a directory that two extensions name: the stricter setting of each.
func Merge(a, b Config) Config {
	a.CreateDirectory = a.CreateDirectory || b.CreateDirectory
	a.FSync = a.FSync || b.FSync
	a.Timeout = max(a.Timeout, b.Timeout)
	a.MaxFileSizeMiB = stricter(a.MaxFileSizeMiB, b.MaxFileSizeMiB)
	a.MaxSize = stricter(a.MaxSize, b.MaxSize)
	a.MinFreeMiB = max(a.MinFreeMiB, b.MinFreeMiB)
	if b.Overflow == overflowRefuse {
		a.Overflow = b.Overflow
	}
	a.ParkedHold = max(a.ParkedHold, b.ParkedHold)
	a.TailCacheMiB = min(a.TailCacheMiB, b.TailCacheMiB)
	return a
}

// stricter is the smaller bound; 0 is none.
func stricter(a, b int64) int64 {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// Found lists the pipelines that have a journal in the directory, opened or not. Names that were too long to be kept
// are listed as they are on disk, unless their journal is open; Tail takes them so too.
func (s *Store) Found() []string {
	entries, err := s.disk.ReadDir(path.Join(s.dir, layout.Pipelines))
	if err != nil {
		return nil
	}
	open := map[string]string{}
	for _, j := range s.journals() {
		open[path.Base(j.dir)] = j.pipeline
	}
	var out []string
	for _, e := range entries {
		if !e.Type.IsDir() {
			continue
		}
		id, ok := layout.Unescape(e.Name)
		if !ok {
			id = e.Name
		}
		if pipeline, ok := open[e.Name]; ok {
			id = pipeline
		}
		out = append(out, id)
	}
	return out
}

// Head opens the journal that takes a pipeline's appends: what is on disk is recovered, cursors that are live and not
// wanted are parked, wanted ones are prepared. tag is the signal, for people who look at the files.
func (s *Store) Head(pipeline string, tag uint8, wanted []queue.Destination) (*Journal, error) {
	j, err := s.open(pipeline, tag, wanted, true)
	if err != nil {
		return nil, fmt.Errorf("journal of pipeline %s: %w", pipeline, s.space.Explain(err))
	}
	return j, nil
}

// Tail opens a journal that only drains: its pipeline is gone, or its journal is in another directory now.
func (s *Store) Tail(pipeline string) (*Journal, error) {
	j, err := s.open(pipeline, 0, nil, false)
	if err != nil {
		return nil, fmt.Errorf("journal of pipeline %s: %w", pipeline, s.space.Explain(err))
	}
	return j, nil
}

// Warnings are about the surroundings: tmpfs, overlay, network file systems, a directory everybody may write to.
func (s *Store) Warnings() []string { return s.space.Warnings() }

// Close stops watching, closes the journals that are open and unlocks the directory, last. It may be called again.
func (s *Store) Close(ctx context.Context) error {
	s.ending.Do(func() { close(s.stop) })
	<-s.done
	var errs []error
	for _, j := range s.journals() {
		errs = append(errs, j.Close(ctx))
	}
	return errors.Join(append(errs, s.space.Close())...)
}

// watch is the warden: now and then it counts what the directory takes and looks whether it is still ours.
func (s *Store) watch() {
	defer close(s.done)
	tick := time.NewTicker(wardenEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
			s.inspect()
		}
	}
}

func (s *Store) inspect() {
	s.space.Restore() // the ballast, if it was needed
	err := s.space.Warden()
	if !errors.Is(err, space.ErrDetached) {
		return
	}
	s.mu.Lock()
	was := s.mu.detached
	s.mu.detached = true
	s.mu.Unlock()
	if was {
		return
	}
	for _, j := range s.journals() {
		j.detach(err)
	}
}

// ask asks for n bytes of the disk, and notices when the directory is gone.
func (j *Journal) ask(n int64) error {
	err := j.share.Room(n)
	if errors.Is(err, space.ErrDetached) {
		j.detach(err)
	}
	return err
}

// detach refuses appends from now on; what is open and in memory is delivered.
func (j *Journal) detach(cause error) {
	j.Lock()
	defer j.Unlock()
	if j.mu.denied != nil || j.mu.closed {
		return
	}
	j.mu.denied = fmt.Errorf("%w: %w", queue.ErrDisk, cause)
	j.eventLocked(Event{Level: Alarm, Kind: Changed, Err: cause,
		Text: "detached: the storage directory is not the one that was opened; nothing is accepted until a restart"})
}

func (s *Store) journals() []*Journal {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mu.journals)
}

func (s *Store) closed(j *Journal) {
	s.mu.Lock()
	s.mu.journals = slices.DeleteFunc(s.mu.journals, func(o *Journal) bool { return o == j })
	s.mu.Unlock()
	j.share.Close()
}

// furthest is the other journal that is furthest above its share, none if all are below.
func (s *Store) furthest(but *Journal) []*Journal {
	var most *Journal
	for _, j := range s.journals() {
		if over := j.share.Over(); j != but && over > 0 && (most == nil || over > most.share.Over()) {
			most = j
		}
	}
	if most == nil {
		return nil
	}
	return []*Journal{most}
}

// concessions are the steps of section 10, in order: whose data is given up when there is no room.
func (s *Store) concessions() []concession {
	cfg := s.config()
	hold := int64(cfg.ParkedHold / time.Second)
	expired := func(d *destination, now int64) bool {
		return d.slot.State == queue.Parked && now-d.slot.ParkedAt > hold
	}
	unstored := func(d *destination, now int64) bool {
		return expired(d, now) || d.slot.State == queue.Live && !d.stored
	}
	steps := []concession{
		{reason: cursor.Parked, may: expired},
		{reason: cursor.Overflow, may: unstored},
		{dead: true},
	}
	if cfg.Overflow == overflowDropOldest {
		steps = append(steps, concession{reason: cursor.DropOldest, may: func(d *destination, now int64) bool {
			return expired(d, now) || d.slot.State == queue.Live
		}})
	}
	return steps
}

// tell hands an event to whoever listens.
func (s *Store) tell(e Event) {
	if s.opts.OnEvent != nil {
		s.opts.OnEvent(e)
	}
}

// makeDirs makes directories below base, one in the other. Names are made durable also where they are: whoever made them
// may have died before that, and a power cut would take them with all that is in them.
func makeDirs(disk vfs.FS, base string, names ...string) error {
	for _, name := range names {
		dir := path.Join(base, name)
		_, err := disk.Stat(dir)
		if isGone(err) {
			err = ignoreThere(disk.Mkdir(dir, dirPerm))
		}
		if err != nil {
			return err
		}
		if err := disk.SyncDir(base); err != nil {
			return err
		}
		base = dir
	}
	return nil
}

func ignoreThere(err error) error {
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}
