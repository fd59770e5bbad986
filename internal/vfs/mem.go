// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package vfs

import (
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// Mem is a disk in memory that keeps apart what was written and what is durable.
//
// Of every file it knows, in sectors of 512 bytes, what the last good Datasync left and what was written since; of
// every directory the names the last SyncDir left and the changes since. Reading shows what was written. CrashClone
// gives the disk a power cut would leave, KillClone the one a killed process leaves. A new root directory is durable.
// There are no symbolic links and permissions are kept, not enforced.
type Mem struct {
	device uint64
	mu     sync.Mutex
	// The rest is guarded by mu.
	capacity int64 // bytes, 0 = no end
	used     int64 // bytes of blocks
	root     *node
	changes  []*change // of names, not durable yet, oldest first
	inodes   uint64    // given out
	clock    uint64    // counts writes and changes of size
}

// node is a file or a directory.
type node struct {
	inode   uint64
	mode    fs.FileMode
	names   map[string]*node // a directory's entries as they are
	durable map[string]*node // as the last SyncDir left them
	linked  bool             // has a name
	handles int              // open files
	locked  *memFile         // who holds the lock
	content content
}

// change is one change of names: created if from is empty, removed if to is, else renamed.
type change struct {
	node     *node
	from, to place
	synced   map[*node]bool // directories synced since
}

type place struct {
	dir  *node
	name string
}

var devices atomic.Uint64

// NewMem is an empty disk of so many bytes, 0 = without end.
func NewMem(capacity int64) *Mem {
	m := &Mem{device: devices.Add(1), capacity: capacity}
	m.root = m.newNode(fs.ModeDir | 0o755)
	m.root.linked = true
	return m
}

func (m *Mem) newNode(mode fs.FileMode) *node {
	m.inodes++
	n := &node{inode: m.inodes, mode: mode}
	if mode.IsDir() {
		n.names, n.durable = map[string]*node{}, map[string]*node{}
	}
	return n
}

// SetCapacity makes the disk larger or smaller; one that is over its capacity takes nothing new.
func (m *Mem) SetCapacity(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.capacity = bytes
}

// OpenFile implements FS.
func (m *Mem) OpenFile(name string, how Access, perm fs.FileMode) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, n, err := m.find("open", name)
	switch {
	case err != nil:
		return nil, err
	case n == nil && how != Create:
		return nil, fault("open", name, syscall.ENOENT)
	case n != nil && how == Create:
		return nil, fault("open", name, syscall.EEXIST)
	case n != nil && n.mode.IsDir():
		return nil, fault("open", name, syscall.EINVAL)
	case n == nil:
		n = m.create(at, perm.Perm())
	}
	return m.open(n, name, how != Read), nil
}

func (m *Mem) create(at place, mode fs.FileMode) *node {
	n := m.newNode(mode)
	n.linked = true
	at.dir.names[at.name] = n
	m.changes = append(m.changes, &change{node: n, to: at})
	return n
}

func (m *Mem) open(n *node, name string, writable bool) *memFile {
	n.handles++
	return &memFile{disk: m, node: n, name: name, writable: writable}
}

// Mkdir implements FS.
func (m *Mem) Mkdir(name string, perm fs.FileMode) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, n, err := m.find("mkdir", name)
	if err != nil {
		return err
	}
	if n != nil {
		return fault("mkdir", name, syscall.EEXIST)
	}
	m.create(at, fs.ModeDir|perm.Perm())
	return nil
}

// Rename implements FS.
func (m *Mem) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	src, n, err := m.find("rename", from)
	if err != nil {
		return err
	}
	dst, old, err := m.find("rename", to)
	switch {
	case err != nil:
		return err
	case n == nil:
		return fault("rename", from, syscall.ENOENT)
	case n == old:
		return nil
	case n == m.root || old == m.root:
		return fault("rename", from, syscall.EBUSY)
	case old != nil && old.mode.IsDir() != n.mode.IsDir():
		return fault("rename", to, syscall.EEXIST)
	case old != nil && len(old.names) > 0:
		return fault("rename", to, syscall.ENOTEMPTY)
	}
	delete(src.dir.names, src.name)
	dst.dir.names[dst.name] = n
	m.changes = append(m.changes, &change{node: n, from: src, to: dst})
	if old != nil {
		m.unlink(old)
	}
	return nil
}

// Remove implements FS.
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, n, err := m.find("remove", name)
	switch {
	case err != nil:
		return err
	case n == nil:
		return fault("remove", name, syscall.ENOENT)
	case n == m.root:
		return fault("remove", name, syscall.EBUSY)
	case len(n.names) > 0:
		return fault("remove", name, syscall.ENOTEMPTY)
	}
	delete(at.dir.names, at.name)
	m.changes = append(m.changes, &change{node: n, from: at})
	m.unlink(n)
	return nil
}

// unlink takes the name of n away; its blocks are free when nobody has it open.
func (m *Mem) unlink(n *node) {
	n.linked = false
	if n.handles == 0 {
		m.used -= n.content.allocated()
	}
}

// ReadDir implements FS.
func (m *Mem) ReadDir(name string) ([]Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, err := m.findDir("readdir", name)
	if err != nil {
		return nil, err
	}
	entries := make([]Entry, 0, len(dir.names))
	for _, name := range slices.Sorted(maps.Keys(dir.names)) {
		entries = append(entries, Entry{Name: name, Type: dir.names[name].mode.Type()})
	}
	return entries, nil
}

// SyncDir implements FS. A change is durable when every directory it touches was synced since, and with it the earlier
// changes of the same names.
func (m *Mem) SyncDir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, err := m.findDir("syncdir", name)
	if err != nil {
		return err
	}
	done := make([]bool, len(m.changes))
	for i, c := range m.changes {
		if !c.touches(dir) {
			continue
		}
		if c.synced == nil {
			c.synced = map[*node]bool{}
		}
		c.synced[dir] = true
		done[i] = (c.from.dir == nil || c.synced[c.from.dir]) && (c.to.dir == nil || c.synced[c.to.dir])
	}
	m.changes = settle(m.changes, done, func(d *node) map[string]*node { return d.durable })
	return nil
}

// settle applies the chosen changes, and the earlier ones of the same names, to the entries of their directories, in
// order. It returns the others.
func settle(changes []*change, chosen []bool, entries func(dir *node) map[string]*node) (rest []*change) {
	for i := len(changes) - 1; i >= 0; i-- {
		for j := 0; chosen[i] && j < i; j++ {
			chosen[j] = chosen[j] || changes[i].sharesName(changes[j])
		}
	}
	for i, c := range changes {
		if !chosen[i] {
			rest = append(rest, c)
			continue
		}
		if c.from.dir != nil {
			delete(entries(c.from.dir), c.from.name)
		}
		if c.to.dir != nil {
			entries(c.to.dir)[c.to.name] = c.node
		}
	}
	return rest
}

func (c *change) touches(dir *node) bool { return c.from.dir == dir || c.to.dir == dir }

func (c *change) sharesName(other *change) bool {
	for _, p := range [2]place{c.from, c.to} {
		if p.dir != nil && (p == other.from || p == other.to) {
			return true
		}
	}
	return false
}

// Stat implements FS.
func (m *Mem) Stat(name string) (Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, n, err := m.find("stat", name)
	if err != nil {
		return Info{}, err
	}
	if n == nil {
		return Info{}, fault("stat", name, syscall.ENOENT)
	}
	return m.describe(n), nil
}

func (m *Mem) describe(n *node) Info {
	return Info{
		Size: n.content.size, Allocated: n.content.allocated(), Device: m.device, Inode: n.inode, Mode: n.mode,
	}
}

// endless is the size of a disk without end.
const endless = 1 << 50

// Usage implements FS.
func (m *Mem) Usage(name string) (Usage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, n, err := m.find("statfs", name); err != nil || n == nil {
		return Usage{}, fault("statfs", name, syscall.ENOENT)
	}
	total := m.capacity
	if total == 0 {
		total = endless
	}
	return Usage{Total: total, Free: max(0, total-m.used), Kind: "mem"}, nil
}

// Resolve implements FS.
func (m *Mem) Resolve(name string) (string, error) { return clean(name), nil }

// Lock implements FS.
func (m *Mem) Lock(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, n, err := m.find("lock", name)
	switch {
	case err != nil:
		return nil, err
	case n == nil:
		n = m.create(at, lockPerm)
	case n.mode.IsDir():
		return nil, fault("lock", name, syscall.EINVAL)
	case n.locked != nil:
		return nil, fault("lock", name, ErrLocked)
	}
	f := m.open(n, name, true)
	n.locked = f
	return f, nil
}

// find walks to name. The node is nil if the last element does not exist; whatever leads there must.
func (m *Mem) find(op, name string) (place, *node, error) {
	at, n := place{}, m.root
	for elem := range strings.SplitSeq(clean(name)[1:], "/") {
		if elem == "" {
			return place{}, m.root, nil
		}
		if n == nil {
			return place{}, nil, fault(op, name, syscall.ENOENT)
		}
		if !n.mode.IsDir() {
			return place{}, nil, fault(op, name, syscall.ENOTDIR)
		}
		at = place{dir: n, name: elem}
		n = n.names[elem]
	}
	return at, n, nil
}

func (m *Mem) findDir(op, name string) (*node, error) {
	_, n, err := m.find(op, name)
	switch {
	case err != nil:
		return nil, err
	case n == nil:
		return nil, fault(op, name, syscall.ENOENT)
	case !n.mode.IsDir():
		return nil, fault(op, name, syscall.ENOTDIR)
	}
	return n, nil
}

func clean(name string) string { return path.Clean("/" + name) }

func fault(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

var _ FS = (*Mem)(nil)
