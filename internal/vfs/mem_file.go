// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package vfs

import (
	"io"
	"io/fs"
	"slices"
	"syscall"
)

const (
	pageBytes   = 4096 // a block of the memory disk
	sectorBytes = 512  // what a power cut leaves whole or not
	maxVersions = 8    // remembered per sector and per size; in between some are forgotten
)

// page is one block. A shared one belongs to clones too and is copied before it is written.
type page struct {
	data   [pageBytes]byte
	shared bool
}

// content is the bytes of a file: what was written, and what a power cut may leave instead.
type content struct {
	size     int64
	reserved int64           // pages below this index have blocks whether written or not
	pages    map[int64]*page // by index; absent ones read as zeros
	beyond   int64           // how many of pages are at or above reserved
	sectors  map[int64]*sector
	sizes    []version[extent] // before the changes of size since the last good Datasync
}

// extent is a size with its reservation.
type extent struct{ size, reserved int64 }

// version is what was there until the write with that number replaced it.
type version[T any] struct {
	until uint64
	was   T
}

// sector is one that was written since the last good Datasync of its file.
type sector struct {
	older []version[[]byte] // nil bytes are zeros
	lost  bool              // a Datasync failed: not written, and no later Datasync will write it
}

func (c *content) allocated() int64 { return (c.reserved + c.beyond) * pageBytes }

func (c *content) read(p []byte, off int64) int {
	if off >= c.size {
		return 0
	}
	p = p[:min(int64(len(p)), c.size-off)]
	for done := 0; done < len(p); {
		at := off + int64(done)
		within := at % pageBytes
		n := min(len(p)-done, int(pageBytes-within))
		if pg := c.pages[at/pageBytes]; pg != nil {
			copy(p[done:done+n], pg.data[within:])
		} else {
			clear(p[done : done+n])
		}
		done += n
	}
	return len(p)
}

// write stores p and returns how many bytes found room; grow is asked for each block.
func (c *content) write(p []byte, off int64, now uint64, grow func(bytes int64) bool) int {
	done := 0
	for done < len(p) {
		at := off + int64(done)
		index, within := at/pageBytes, at%pageBytes
		if c.pages[index] == nil && index >= c.reserved && !grow(pageBytes) {
			break
		}
		n := min(len(p)-done, int(pageBytes-within))
		c.remember(at, at+int64(n), now)
		copy(c.pageForWriting(index).data[within:], p[done:done+n])
		done += n
	}
	if end := off + int64(done); done > 0 && end > c.size {
		c.resize(end, c.reserved, now)
	}
	return done
}

func (c *content) pageForWriting(index int64) *page {
	pg := c.pages[index]
	switch {
	case pg == nil:
		pg = &page{}
		if c.pages == nil {
			c.pages = map[int64]*page{}
		}
		if index >= c.reserved {
			c.beyond++
		}
	case pg.shared:
		pg = &page{data: pg.data}
	default:
		return pg
	}
	c.pages[index] = pg
	return pg
}

// remember keeps what the sectors that overlap from..to hold now.
func (c *content) remember(from, to int64, now uint64) {
	if c.sectors == nil {
		c.sectors = map[int64]*sector{}
	}
	for number := from / sectorBytes; number*sectorBytes < to; number++ {
		var was []byte
		if pg := c.pages[number*sectorBytes/pageBytes]; pg != nil {
			within := number * sectorBytes % pageBytes
			was = slices.Clone(pg.data[within : within+sectorBytes])
		}
		s := c.sectors[number]
		if s == nil {
			s = &sector{}
			c.sectors[number] = s
		}
		s.older, s.lost = push(s.older, version[[]byte]{until: now, was: was}), false
	}
}

// push appends v; the oldest is always kept.
func push[T any](older []version[T], v version[T]) []version[T] {
	if len(older) >= maxVersions {
		older = slices.Delete(older, 1, 2)
	}
	return append(older, v)
}

// resize changes size and reservation. What is cut off stays known until a Datasync.
func (c *content) resize(size, reserved int64, now uint64) {
	if size == c.size && reserved == c.reserved {
		return
	}
	c.sizes = push(c.sizes, version[extent]{until: now, was: extent{c.size, c.reserved}})
	if size < c.size {
		for index, pg := range c.pages {
			start := index * pageBytes
			if start+pageBytes <= size {
				continue
			}
			c.remember(max(start, size), start+pageBytes, now)
			if start >= size {
				delete(c.pages, index)
				continue
			}
			if pg.shared {
				pg = &page{data: pg.data}
				c.pages[index] = pg
			}
			clear(pg.data[size-start:])
		}
	}
	onlyGrows := size > c.size && reserved == c.reserved
	c.size, c.reserved = size, reserved
	if onlyGrows {
		return
	}
	c.beyond = 0
	for index := range c.pages {
		if index >= reserved {
			c.beyond++
		}
	}
}

// settle makes durable what was written up to the moment at.
func (c *content) settle(at uint64) {
	for number, s := range c.sectors {
		if s.lost {
			continue
		}
		if s.older = after(s.older, at); len(s.older) == 0 {
			delete(c.sectors, number)
		}
	}
	c.sizes = after(c.sizes, at)
}

// lose marks clean, without having written it, what was written up to the moment at and not since.
func (c *content) lose(at uint64) {
	for _, s := range c.sectors {
		s.lost = s.lost || s.older[len(s.older)-1].until <= at
	}
}

func after[T any](older []version[T], at uint64) []version[T] {
	return slices.DeleteFunc(older, func(v version[T]) bool { return v.until <= at })
}

// memFile is an open file of a memory disk.
type memFile struct {
	disk     *Mem
	node     *node
	name     string
	writable bool
	closed   bool // guarded by disk.mu
}

// use runs call under the disk's lock if the file may be used.
func (f *memFile) use(op string, writes bool, call func(c *content) error) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.closed {
		return fault(op, f.name, fs.ErrClosed)
	}
	if writes && !f.writable {
		return fault(op, f.name, syscall.EBADF)
	}
	if err := call(&f.node.content); err != nil {
		if err == io.EOF {
			return err
		}
		return fault(op, f.name, err)
	}
	return nil
}

func (f *memFile) ReadAt(p []byte, off int64) (n int, err error) {
	err = f.use("read", false, func(c *content) error {
		if off < 0 {
			return syscall.EINVAL
		}
		if n = c.read(p, off); n < len(p) {
			return io.EOF
		}
		return nil
	})
	return n, err
}

func (f *memFile) WriteVAt(parts [][]byte, off int64) (written int64, err error) {
	err = f.use("write", true, func(c *content) error {
		if off < 0 {
			return syscall.EINVAL
		}
		f.disk.clock++
		for _, p := range parts {
			n := c.write(p, off+written, f.disk.clock, f.disk.grow)
			written += int64(n)
			if n < len(p) {
				return syscall.ENOSPC
			}
		}
		return nil
	})
	return written, err
}

// grow takes bytes of blocks if there are so many. Its caller holds the lock.
func (m *Mem) grow(bytes int64) bool {
	if bytes > 0 && m.capacity > 0 && m.used+bytes > m.capacity {
		return false
	}
	m.used += bytes
	return true
}

func (f *memFile) Datasync() error {
	end, err := f.beginSync()
	if err == nil {
		end(true)
	}
	return err
}

// beginSync fixes what a sync that starts now covers; end says whether it went well. Faulty uses it to let a sync take
// its time, or to fail as the real system does.
func (f *memFile) beginSync() (end func(good bool), err error) {
	var at uint64
	err = f.use("fdatasync", false, func(*content) error {
		at = f.disk.clock
		return nil
	})
	return func(good bool) {
		f.disk.mu.Lock()
		defer f.disk.mu.Unlock()
		if good {
			f.node.content.settle(at)
		} else {
			f.node.content.lose(at)
		}
	}, err
}

func (f *memFile) Allocate(size int64) error {
	return f.use("fallocate", true, func(c *content) error {
		if size <= 0 {
			return syscall.EINVAL
		}
		reserved := max(c.reserved, (size+pageBytes-1)/pageBytes)
		missing := reserved - c.reserved
		for index := range c.pages {
			if index >= c.reserved && index < reserved {
				missing--
			}
		}
		if !f.disk.grow(missing * pageBytes) {
			return syscall.ENOSPC
		}
		f.disk.clock++
		c.resize(max(c.size, size), reserved, f.disk.clock)
		return nil
	})
}

func (f *memFile) Truncate(size int64) error {
	return f.use("truncate", true, func(c *content) error {
		if size < 0 {
			return syscall.EINVAL
		}
		f.disk.clock++
		before := c.allocated()
		c.resize(size, min(c.reserved, (size+pageBytes-1)/pageBytes), f.disk.clock)
		f.disk.used += c.allocated() - before
		return nil
	})
}

func (f *memFile) Stat() (info Info, err error) {
	err = f.use("stat", false, func(*content) error {
		info = f.disk.describe(f.node)
		return nil
	})
	return info, err
}

func (f *memFile) DropBehind(int64, int64) {}

func (f *memFile) Close() error {
	return f.use("close", false, func(c *content) error {
		f.closed = true
		f.node.handles--
		if f.node.locked == f {
			f.node.locked = nil
		}
		if f.node.handles == 0 && !f.node.linked {
			f.disk.used -= c.allocated()
		}
		return nil
	})
}

var _ File = (*memFile)(nil)
