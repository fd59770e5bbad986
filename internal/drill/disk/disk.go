// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package disk gives the processes of one scenario a disk of their own, which can be full, slow, or fail.
//
// It stands below internal/drill/stage. A small disk is a file system in memory that is mounted in a mount namespace of
// one thread: only what is started on that thread sees it. A slow one is a filter on the thread's system calls, by which
// every sync of what is started there waits for this process, which may answer with an error, too. Both need no file of the host, no library and no program,
// and both end with the thread, whatever happens to this process: nothing of them can be left behind. It promises to say
// why where the kernel does not let us. It knows nothing of what is written.
package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// filler is the file that takes the room, in the small disk.
const filler = "somebody-elses"

// Options say what disk it is.
type Options struct {
	Dir  string // where it is seen, an empty directory; for a small one
	MiB  int64  // 0 = not a small one
	Slow bool   // syncs ask this process: SetDelay, FailSyncs
}

// Disk is a thread with a disk of its own. Do, Fill and Free are for one goroutine, the others for many.
type Disk struct {
	o      Options
	work   chan func()
	thread sync.WaitGroup

	delay atomic.Int64 // of a sync, nanoseconds
	hits  atomic.Uint64
	fails struct {
		sync.Mutex
		left   int // < 0 = all
		ending string
	}
	notify *os.File // the filter's, nil = none
	answer sync.WaitGroup
	once   sync.Once
}

// Open makes the disk. The error says what this kernel, or who runs it, does not allow.
func Open(o Options) (*Disk, error) {
	d := &Disk{o: o, work: make(chan func())}
	made := make(chan error, 1)
	d.thread.Go(func() {
		// Never unlocked: the thread ends with this goroutine, and with it all that was changed for it.
		runtime.LockOSThread()
		err := d.make()
		made <- err
		if err != nil {
			return
		}
		for f := range d.work {
			f()
		}
	})
	if err := <-made; err != nil {
		d.Close()
		return nil, err
	}
	if d.notify != nil {
		d.answer.Go(d.serve)
	}
	return d, nil
}

func (d *Disk) make() error {
	if d.o.MiB > 0 {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("a mount namespace: %w", err)
		}
		if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("a private mount namespace: %w", err)
		}
		size := fmt.Sprintf("size=%dm,mode=0700", d.o.MiB)
		if err := unix.Mount("holdfast-drill", d.o.Dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, size); err != nil {
			return fmt.Errorf("a file system in memory: %w", err)
		}
	}
	if d.o.Slow {
		return d.filter()
	}
	return nil
}

// Do runs f on the thread: what it starts has the disk, and must be waited for before Close.
func (d *Disk) Do(f func()) {
	done := make(chan struct{})
	d.work <- func() {
		defer close(done)
		f()
	}
	<-done
}

// Fill takes all the room there is, and returns how much that was, in bytes.
func (d *Disk) Fill() (taken int64, err error) {
	d.Do(func() {
		var f *os.File
		if f, err = os.OpenFile(filepath.Join(d.o.Dir, filler), os.O_CREATE|os.O_WRONLY, 0o600); err != nil {
			return
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		for chunk := int64(16 << 20); chunk >= 4096; {
			switch e := unix.Fallocate(int(f.Fd()), 0, taken, chunk); {
			case e == nil:
				taken += chunk
			case errors.Is(e, unix.ENOSPC):
				chunk /= 2
			case !errors.Is(e, unix.EINTR):
				err = fmt.Errorf("take the room of %s: %w", d.o.Dir, e)
				return
			}
		}
	})
	return taken, err
}

// Free gives the room back. Nothing to give back is no error.
func (d *Disk) Free() (err error) {
	d.Do(func() {
		if err = os.Remove(filepath.Join(d.o.Dir, filler)); errors.Is(err, os.ErrNotExist) {
			err = nil
		}
	})
	return err
}

// SetDelay makes every sync that begins from now on take this much longer.
func (d *Disk) SetDelay(delay time.Duration) { d.delay.Store(int64(delay)) }

// FailSyncs makes the next n syncs of files whose names end so fail with EIO, all of them for n < 0, none for 0. They are
// not carried out: what was written is in memory, as after the failed sync of a real disk.
func (d *Disk) FailSyncs(n int, ending string) {
	d.fails.Lock()
	defer d.fails.Unlock()
	d.fails.left, d.fails.ending = n, ending
}

// Hits is how many syncs were made to wait, or to fail.
func (d *Disk) Hits() uint64 { return d.hits.Load() }

// Close ends the thread. What was started on it must have ended. It is idempotent.
func (d *Disk) Close() {
	d.once.Do(func() {
		close(d.work)
		d.thread.Wait()
		if d.notify != nil {
			d.answer.Wait() // the last process with the filter has ended
			_ = d.notify.Close()
		}
	})
}
