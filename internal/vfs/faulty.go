// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package vfs

import (
	"io/fs"
	"strings"
	"sync"
)

// Faulty stands in front of a disk, numbers and counts every call, and lets some of them fail.
//
// A call is named by its operation and the file's name, "datasync /j/seg/0000000003.seg": open, create, mkdir, rename,
// remove, readdir, syncdir, stat, usage, resolve, lock on names; read, write, datasync, allocate, truncate, fstat,
// dropbehind, close on open files, which keep the name they were opened by. A rename has the old name. Calls are
// numbered from 1 in the order they begin.
type Faulty struct {
	inner FS
	mu    sync.Mutex
	// The rest is guarded by mu.
	rules []*ruleState
	calls []Call
	watch Watch
}

// Call is one call on the disk.
type Call struct {
	N     int    // from 1
	Name  string // operation and file
	Bytes int64  // asked to be read or written
}

// Rule says which calls fail and how. Of several that fit a call the first does.
type Rule struct {
	Call  string // fits the names of calls; "*" stands for any characters, "" for every call
	N     int    // fits the call of this number; 0 = any
	Skip  int    // so many calls that fit are let through first
	Times int    // so many fail then; 0 = all

	// Err is what the call returns instead of being made. A Datasync that fails leaves the memory disk's pages clean
	// and not written, as the real system does. With Err nil and Lie false the rule only holds calls.
	Err error
	// Room is, with Err, how many bytes the reads and writes that fit may still transfer, all together, before they
	// fail; the call that passes it transfers what is left of it.
	Room int64
	// Lie makes the call succeed without effect. It fits datasync, syncdir, write, allocate, truncate, rename, remove.
	Lie bool
	// Hold stops the call before anything happens, until it is released. A Datasync of the memory disk that is held
	// covers what was written before it was called, no more.
	Hold *Hold
}

type ruleState struct {
	Rule
	fitted, hits int
	moved        int64 // bytes against Room
}

// Watch is told of every call, outside all locks, from the goroutine that makes it.
type Watch struct {
	Before, After func(Call)
}

// Hold is a place where calls wait.
type Hold struct {
	reached, released chan struct{}
	once, over        sync.Once
}

// NewHold is a Hold nobody has reached.
func NewHold() *Hold { return &Hold{reached: make(chan struct{}), released: make(chan struct{})} }

// Reached is closed when the first call waits.
func (h *Hold) Reached() <-chan struct{} { return h.reached }

// Release lets go of all calls, now and later.
func (h *Hold) Release() { h.over.Do(func() { close(h.released) }) }

func (h *Hold) wait() {
	h.once.Do(func() { close(h.reached) })
	<-h.released
}

// NewFaulty is inner with faults.
func NewFaulty(inner FS, rules ...Rule) *Faulty {
	f := &Faulty{inner: inner}
	f.Plan(rules...)
	return f
}

// Plan replaces the rules; what they counted starts anew. Calls already waiting go on waiting.
func (f *Faulty) Plan(rules ...Rule) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = nil
	for _, r := range rules {
		f.rules = append(f.rules, &ruleState{Rule: r})
	}
}

// Watch sets who is told of the calls from now on.
func (f *Faulty) Watch(w Watch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watch = w
}

// Hits is how many calls the rules of the last Plan have changed.
func (f *Faulty) Hits() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	hits := 0
	for _, r := range f.rules {
		hits += r.hits
	}
	return hits
}

// Calls lists the calls whose name fits the pattern, in order; "" fits all.
func (f *Faulty) Calls(pattern string) []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	var fit []Call
	for _, c := range f.calls {
		if fits(pattern, c.Name) {
			fit = append(fit, c)
		}
	}
	return fit
}

// Count is how many calls fit the pattern, and the bytes they asked to read or write.
func (f *Faulty) Count(pattern string) (calls int, bytes int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.calls {
		if fits(pattern, c.Name) {
			calls, bytes = calls+1, bytes+c.Bytes
		}
	}
	return calls, bytes
}

// fits matches name against a pattern in which * stands for any characters, / too.
func fits(pattern, name string) bool {
	if pattern == "" {
		return true
	}
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == name
	}
	if !strings.HasPrefix(name, first) {
		return false
	}
	name = name[len(first):]
	for {
		part, next, more := strings.Cut(rest, "*")
		if !more {
			return strings.HasSuffix(name, part)
		}
		i := strings.Index(name, part)
		if i < 0 {
			return false
		}
		name, rest = name[i+len(part):], next
	}
}

// verdict is what becomes of one call.
type verdict struct {
	err   error
	first int64 // bytes to transfer before err
	lie   bool
	hold  *Hold
}

// begin numbers a call and decides on it.
func (f *Faulty) begin(op, name string, bytes int64) (Call, verdict) {
	f.mu.Lock()
	c := Call{N: len(f.calls) + 1, Name: op + " " + name, Bytes: bytes}
	f.calls = append(f.calls, c)
	v := f.judge(c)
	before := f.watch.Before
	f.mu.Unlock()
	if before != nil {
		before(c)
	}
	return c, v
}

func (f *Faulty) judge(c Call) verdict {
	for _, r := range f.rules {
		if r.N != 0 && r.N != c.N || !fits(r.Call, c.Name) {
			continue
		}
		if r.fitted++; r.fitted <= r.Skip || r.Times > 0 && r.hits >= r.Times {
			continue
		}
		left := r.Room - r.moved
		if r.Err != nil && c.Bytes > 0 && c.Bytes <= left {
			r.moved += c.Bytes
			continue
		}
		r.hits++
		v := verdict{lie: r.Lie, hold: r.Hold}
		if r.Err != nil {
			v.err, v.first = fault("injected", c.Name, r.Err), min(max(left, 0), c.Bytes)
			r.moved += v.first
		}
		return v
	}
	return verdict{}
}

func (f *Faulty) end(c Call) {
	f.mu.Lock()
	after := f.watch.After
	f.mu.Unlock()
	if after != nil {
		after(c)
	}
}

// do makes one call that moves no bytes, or what its verdict says instead.
func (f *Faulty) do(op, name string, call func() error) error {
	c, v := f.begin(op, name, 0)
	defer f.end(c)
	if v.hold != nil {
		v.hold.wait()
	}
	if v.err != nil || v.lie {
		return v.err
	}
	return call()
}

// OpenFile implements FS.
func (f *Faulty) OpenFile(name string, how Access, perm fs.FileMode) (file File, err error) {
	op := "open"
	if how == Create {
		op = "create"
	}
	err = f.do(op, name, func() error {
		file, err = f.inner.OpenFile(name, how, perm)
		return err
	})
	return f.wrap(file, name, err)
}

// Lock implements FS.
func (f *Faulty) Lock(name string) (file File, err error) {
	err = f.do("lock", name, func() error {
		file, err = f.inner.Lock(name)
		return err
	})
	return f.wrap(file, name, err)
}

func (f *Faulty) wrap(file File, name string, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return &faultyFile{disk: f, inner: file, name: name}, nil
}

// Mkdir implements FS.
func (f *Faulty) Mkdir(name string, perm fs.FileMode) error {
	return f.do("mkdir", name, func() error { return f.inner.Mkdir(name, perm) })
}

// Rename implements FS.
func (f *Faulty) Rename(from, to string) error {
	return f.do("rename", from, func() error { return f.inner.Rename(from, to) })
}

// Remove implements FS.
func (f *Faulty) Remove(name string) error {
	return f.do("remove", name, func() error { return f.inner.Remove(name) })
}

// ReadDir implements FS.
func (f *Faulty) ReadDir(name string) (entries []Entry, err error) {
	err = f.do("readdir", name, func() error {
		entries, err = f.inner.ReadDir(name)
		return err
	})
	return entries, err
}

// SyncDir implements FS.
func (f *Faulty) SyncDir(name string) error {
	return f.do("syncdir", name, func() error { return f.inner.SyncDir(name) })
}

// Stat implements FS.
func (f *Faulty) Stat(name string) (info Info, err error) {
	err = f.do("stat", name, func() error {
		info, err = f.inner.Stat(name)
		return err
	})
	return info, err
}

// Usage implements FS.
func (f *Faulty) Usage(name string) (u Usage, err error) {
	err = f.do("usage", name, func() error {
		u, err = f.inner.Usage(name)
		return err
	})
	return u, err
}

// Resolve implements FS.
func (f *Faulty) Resolve(name string) (resolved string, err error) {
	err = f.do("resolve", name, func() error {
		resolved, err = f.inner.Resolve(name)
		return err
	})
	return resolved, err
}

var _ FS = (*Faulty)(nil)
