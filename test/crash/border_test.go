// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package crash

import (
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// border is the real disk as the child's journal sees it: what passes is told, counted, and can be the last thing the
// process does.
type border struct {
	vfs.FS
	tell  func(op, name string, took int64, err error) // after each effect; took from its start on, in ticks
	began func(op, name string)                        // before it; may be nil
	die   death
	fit   atomic.Int64 // calls that fitted die
	lie   lie
	lies  atomic.Int64 // calls that fitted lie
	read  atomic.Int64 // bytes
	made  sync.Map     // *borderFile by the name it was made with, until that name goes
}

// death is a call during which the process kills itself.
type death struct {
	Op    string // an effect: create, write, datasync, …; "" = any
	Nth   int64  // of those, from 1; 0 = never
	After bool   // once it has been made, else before
}

// lie is a kind of call of which some do nothing and say that they did.
type lie struct {
	Op, Suffix string // of the file's name
	Every      int64  // the nth, 2nth, …; 0 = none
	After      int64  // and none of the first so many
}

// tells says whether this call, the nth that fits, is one.
func (l *lie) tells(n int64) bool { return n > l.After && n%l.Every == 0 }

// kill9 is kill -9, at exactly this place.
func kill9() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // it may take a moment to arrive
}

// effect makes one call that changes what is on disk.
func (b *border) effect(op, name string, call func() error) error {
	last := b.die.Nth > 0 && (b.die.Op == "" || b.die.Op == op) && b.fit.Add(1) == b.die.Nth
	if last && !b.die.After {
		say("kill before %s %s", op, name)
		kill9()
	}
	if b.began != nil {
		b.began(op, name)
	}
	start := ticks()
	var err error
	if lied := b.lie.Every > 0 && op == b.lie.Op && strings.HasSuffix(name, b.lie.Suffix) && b.lie.tells(b.lies.Add(1)); !lied {
		err = call()
	}
	if last {
		say("kill after %s %s", op, name)
		kill9()
	}
	if b.tell != nil {
		b.tell(op, name, start, err)
	}
	return err
}

func (b *border) OpenFile(name string, how vfs.Access, perm fs.FileMode) (f vfs.File, err error) {
	if how != vfs.Create {
		f, err = b.FS.OpenFile(name, how, perm)
	} else {
		err = b.effect("create", name, func() error {
			f, err = b.FS.OpenFile(name, how, perm)
			return err
		})
	}
	if err != nil {
		return nil, err
	}
	file := b.wrap(f, name)
	if how == vfs.Create {
		b.made.Store(name, file)
	}
	return file, nil
}

func (b *border) wrap(f vfs.File, name string) *borderFile {
	file := &borderFile{File: f, disk: b}
	file.name.Store(&name)
	return file
}

func (b *border) Lock(name string) (vfs.File, error) {
	f, err := b.FS.Lock(name)
	if err != nil {
		return nil, err
	}
	return b.wrap(f, name), nil
}

func (b *border) Mkdir(name string, perm fs.FileMode) error {
	return b.effect("mkdir", name, func() error { return b.FS.Mkdir(name, perm) })
}

func (b *border) Rename(from, to string) error {
	return b.effect("rename", to, func() error {
		err := b.FS.Rename(from, to)
		if file, ok := b.made.LoadAndDelete(from); ok && err == nil {
			file.(*borderFile).name.Store(&to)
		}
		return err
	})
}

func (b *border) Remove(name string) error {
	return b.effect("remove", name, func() error { return b.FS.Remove(name) })
}

func (b *border) SyncDir(name string) error {
	return b.effect("syncdir", name, func() error { return b.FS.SyncDir(name) })
}

type borderFile struct {
	vfs.File
	disk *border
	name atomic.Pointer[string] // as it is called now, if it was made under another name
}

func (f *borderFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	f.disk.read.Add(int64(n))
	return n, err
}

func (f *borderFile) WriteVAt(parts [][]byte, off int64) (n int64, err error) {
	for _, p := range parts {
		n += int64(len(p))
	}
	err = f.disk.effect("write", *f.name.Load(), func() error {
		n, err = f.File.WriteVAt(parts, off)
		return err
	})
	return n, err
}

func (f *borderFile) Datasync() error {
	return f.disk.effect("datasync", *f.name.Load(), f.File.Datasync)
}

func (f *borderFile) Allocate(size int64) error {
	return f.disk.effect("allocate", *f.name.Load(), func() error { return f.File.Allocate(size) })
}

func (f *borderFile) Truncate(size int64) error {
	return f.disk.effect("truncate", *f.name.Load(), func() error { return f.File.Truncate(size) })
}

var (
	_ vfs.FS   = (*border)(nil)
	_ vfs.File = (*borderFile)(nil)
)
