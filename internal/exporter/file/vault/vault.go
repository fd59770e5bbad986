// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package vault is the emergency file: records on disk with a receipt for each batch, so that a queue may let go of
// what lies in it.
//
// It stands behind the file exporter where that is the last level of a connector. What is put into it is written and
// synced, then its receipt is written and synced, and only then does Put return; one sync of each serves all who wait.
//
//	telemetry.jsonl                             the present file, whole lines or frames
//	telemetry-2026-11-20T10-15-00.000-size.jsonl  rotated ones
//	telemetry.jsonl.receipts                    what is in them and is owed
//	telemetry.jsonl.lock                        one process at a time
//
// A receipt is open until a backend has the data (Settle) or the file is gone. Bytes without a receipt are nobody's: the
// queue still has what they are. A crash between any two calls on the disk leaves every batch whose Put returned nil with
// data and receipt (failover, section 12, F12).
//
// It stores opaque bytes and knows no exporter, no backend and no queue; all disk work goes through vfs.
package vault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

const (
	// maxGroup and maxGroupBytes bound what one sync serves.
	maxGroup      = 64
	maxGroupBytes = 32 << 20
	// settleEvery is how long a settlement waits for others before its sync; the specification allows 100 ms.
	settleEvery = 20 * time.Millisecond
	// lookEvery is how often files are looked for that somebody removed.
	lookEvery = 10 * time.Second
	// rewriteAbove is the size from which receipts are written anew once most of them say nothing any more.
	rewriteAbove = 4 << 20
	// block is what a disk writes at once. A block with bytes under a receipt is never written again, so that no torn
	// write can hurt them: each group ends at a multiple of it.
	block = 4096
	// DefaultCap bounds all files together where nothing else does.
	DefaultCap = 10 << 30
)

var (
	// ErrFull says that the files have the size they may have.
	ErrFull = errors.New("emergency file is full")
	// ErrClosed says that the vault is closed.
	ErrClosed = errors.New("emergency file is closed")
	// ErrDamaged says that what is under a receipt is not what was put there.
	ErrDamaged = errors.New("data under a receipt is damaged")
)

// Settings say where the file is and how large it may become.
type Settings struct {
	Path   string
	Framed bool // records have their length before them; else they are lines
	// Pad makes a record of exactly n bytes that says nothing to who reads the file, or as many bytes more as it takes
	// to make n a multiple of 4,096 again. It is asked for Framed files only; lines are padded with spaces.
	Pad     func(n int64) []byte
	Append  bool        // an existing file is continued; else it is renamed aside
	DirMode fs.FileMode // of directories that are made; 0 = none is made

	MaxFile    int64 // bytes of one file; 0 = no end
	MaxBackups int   // rotated files without open receipts that are kept; 0 = all
	MaxAge     time.Duration
	LocalTime  bool
	Cap        int64 // bytes of all files; 0 = DefaultCap

	Log *zap.Logger
}

// Entry is what is put into the vault.
type Entry struct {
	Data []byte // whole records; immutable until Put has returned nil, or for ever
	// Plain data gets no receipt: nobody owes it.
	Plain bool
	Owner
	Items   uint32
	Records []Record
}

// Vault is one emergency file with its receipts. Every method may be called from any goroutine.
type Vault struct {
	set   Settings
	disk  vfs.FS
	names names
	lock  vfs.File

	jobs  chan *job
	nudge chan struct{} // one place: something is to be settled
	quit  chan struct{}
	done  chan struct{}
	ended sync.Once
	// probing keeps probes from each other's file. Each is bounded by the disk alone.
	probing sync.Mutex
	need    atomic.Int64 // bytes that were refused for want of room
	opened  time.Time

	// Of the goroutine alone, but for Open and Close.
	data     vfs.File // nil = none is open
	size     int64    // bytes of whole records in it
	torn     bool     // something lies behind them
	receipts vfs.File // nil = to be written anew: what is on disk may say too much
	tail     int64    // bytes of whole lines in it
	renaming *line    // said, not done yet
	others   int64    // bytes of rotated files
	warned   map[string]time.Time
	spared   map[string]bool

	mu struct {
		sync.Mutex
		*book
		settled []line // not written yet
		unsaid  int    // settlements that are not known to be on disk
		doubt   int    // debts found at open that the process before may have delivered
	}
}

// job is an entry on its way.
type job struct {
	Entry
	crc  uint32     // of the data, of lines without the last byte
	tail []byte     // what follows them: padding, and the last byte
	done chan error // of one place
}

// body is the data but for what is in tail.
func (j *job) body(framed bool) []byte {
	if framed {
		return j.Data
	}
	return j.Data[:len(j.Data)-1]
}

func (j *job) size(framed bool) int64 { return int64(len(j.body(framed)) + len(j.tail)) }

// Open recovers what is there and starts the writer. A file that cannot be continued is renamed aside; nothing that
// cannot be read is deleted.
func Open(disk vfs.FS, set Settings) (*Vault, error) {
	if set.Cap <= 0 {
		set.Cap = DefaultCap
	}
	set.Path = filepath.Clean(set.Path)
	v := &Vault{
		set: set, disk: disk, names: newNames(set.Path, set.LocalTime), jobs: make(chan *job),
		nudge: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}), opened: time.Now(),
		warned: map[string]time.Time{}, spared: map[string]bool{},
	}
	v.mu.book = newBook()
	if err := v.makeDirectory(v.names.dir); err != nil {
		return nil, fmt.Errorf("make directory of %q: %w", set.Path, err)
	}
	var err error
	if v.lock, err = disk.Lock(set.Path + ".lock"); err != nil {
		return nil, fmt.Errorf("emergency file %q: %w", set.Path, err)
	}
	if err := v.recover(); err != nil {
		return nil, errors.Join(fmt.Errorf("emergency file %q: %w", set.Path, err), v.closeFiles())
	}
	go v.run()
	return v, nil
}

// makeDirectory makes dir and what leads to it.
func (v *Vault) makeDirectory(dir string) error {
	if v.set.DirMode == 0 {
		return nil
	}
	_, err := v.disk.Stat(dir)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := v.makeDirectory(parent); err != nil {
			return err
		}
	}
	if err := v.disk.Mkdir(dir, v.set.DirMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return v.disk.SyncDir(parent)
}

// Path is where the present file is.
func (v *Vault) Path() string { return v.set.Path }

// Put writes e, syncs it, writes its receipt and syncs that. After nil both last. After an error of the disk neither is
// there, or will be, but where ctx ended first: then they may come to be.
func (v *Vault) Put(ctx context.Context, e Entry) (inDoubt bool, err error) {
	if len(e.Records) > maxNamed {
		e.Records = nil // more than are remembered: a crash repeats them
	}
	if len(e.Data) == 0 {
		return false, nil
	}
	body := e.Data
	if !v.set.Framed {
		body = body[:len(body)-1] // its end may move, see pad
	}
	j := &job{Entry: e, crc: Sum(body), done: make(chan error, 1)}
	select {
	case v.jobs <- j:
	case <-v.done:
		return false, ErrClosed
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	select {
	case err := <-j.done:
		return false, err
	case <-ctx.Done():
		return true, context.Cause(ctx)
	}
}

// Settle says that a backend has the data of a receipt, but for so many items that it refused. It is on disk within
// 100 ms.
func (v *Vault) Settle(n uint64, rejected uint32) {
	now := time.Now().UTC()
	v.mu.Lock()
	if v.mu.settle(n, Delivered, rejected) {
		v.mu.settled = append(v.mu.settled, line{Settled: n, How: Delivered, Rejected: rejected, Time: &now})
		v.mu.unsaid++
	}
	v.mu.Unlock()
	select {
	case v.nudge <- struct{}{}:
	default:
	}
}

// Named reports whether the data of a record lies, or lay, here under a receipt: one of the last 65,536.
func (v *Vault) Named(o Owner, r Record) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.mu.named[name{o, r}] != nil
}

// Owners lists who has or had receipts here.
func (v *Vault) Owners() []Owner {
	v.mu.Lock()
	defer v.mu.Unlock()
	var out []Owner
	for o := range v.mu.accounts {
		out = append(out, o)
	}
	slices.SortFunc(out, func(a, b Owner) int { return slices.Compare(a.words(), b.words()) })
	return out
}

func (o Owner) words() []string { return []string{o.Pipeline, o.Connector, o.Signal} }

// Sums copies what an owner owes.
func (v *Vault) Sums(o Owner) Sums {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.mu.sums(o)
}

// Damaged counts lines of receipts that could not be read, and receipts whose data does not hold.
func (v *Vault) Damaged() uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.mu.damaged
}

// Close writes what is to be settled and gives everything up. It is idempotent. No Put beside it is answered with nil
// unless it is on disk.
func (v *Vault) Close(ctx context.Context) error {
	v.ended.Do(func() { close(v.quit) })
	select {
	case <-v.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close emergency file %q: %w", v.set.Path, context.Cause(ctx))
	}
}

// run is the writer.
func (v *Vault) run() {
	defer close(v.done)
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	due := time.NewTimer(time.Hour)
	defer due.Stop()
	waiting := false
	for {
		select {
		case j := <-v.jobs:
			v.serve(j)
		case <-v.nudge:
			if !waiting {
				waiting = true
				due.Reset(settleEvery)
			}
		case <-due.C:
			waiting = false
			v.flush()
			v.sweep()
		case <-look.C:
			v.look()
		case <-v.quit:
			v.end()
			return
		}
	}
}

// end is the last thing the writer does.
func (v *Vault) end() {
	now := time.Now().UTC()
	err := v.say(line{Closed: &now})
	if err = errors.Join(err, v.closeFiles()); err != nil {
		v.set.Log.Warn("Emergency file: not closed in order", zap.String("path", v.set.Path), zap.Error(err))
	}
}

func (v *Vault) closeFiles() error {
	var errs []error
	for _, f := range []*vfs.File{&v.data, &v.receipts, &v.lock} {
		if *f != nil {
			errs = append(errs, (*f).Close())
			*f = nil
		}
	}
	return errors.Join(errs...)
}

// due reports whether a trouble may be written down now.
func (v *Vault) due(trouble string) bool {
	if now := time.Now(); now.Sub(v.warned[trouble]) >= lookEvery {
		v.warned[trouble] = now
		return true
	}
	return false
}
