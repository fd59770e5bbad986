// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package vfs

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// KillClone is the disk as the death of the process leaves it: everything written is there, durable or not, every lock
// is free. The original goes on as it is, and neither sees what the other does.
func (m *Mem) KillClone() *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	copies := map[*node]*node{nil: nil}
	clone := m.empty()
	clone.root = copyTree(m.root, copies)
	for _, c := range m.changes {
		to := &change{node: copyTree(c.node, copies), from: c.from, to: c.to, synced: map[*node]bool{}}
		to.from.dir, to.to.dir = copyTree(c.from.dir, copies), copyTree(c.to.dir, copies)
		for dir := range c.synced {
			to.synced[copyTree(dir, copies)] = true
		}
		clone.changes = append(clone.changes, to)
	}
	for _, n := range copies {
		if n != nil && n.linked {
			clone.used += n.content.allocated()
		}
	}
	return clone
}

func (m *Mem) empty() *Mem {
	return &Mem{device: devices.Add(1), capacity: m.capacity, inodes: m.inodes, clock: m.clock}
}

// copyTree copies n with everything it leads to, now or after a power cut, once.
func copyTree(n *node, copies map[*node]*node) *node {
	if to, ok := copies[n]; ok {
		return to
	}
	to := &node{inode: n.inode, mode: n.mode, linked: n.linked, content: n.content.clone()}
	copies[n] = to
	if n.mode.IsDir() {
		to.names, to.durable = map[string]*node{}, map[string]*node{}
		for name, child := range n.names {
			to.names[name] = copyTree(child, copies)
		}
		for name, child := range n.durable {
			to.durable[name] = copyTree(child, copies)
		}
	}
	return to
}

func (c *content) clone() content {
	to := content{size: c.size, reserved: c.reserved, beyond: c.beyond, sizes: slices.Clone(c.sizes)}
	to.pages = make(map[int64]*page, len(c.pages))
	for index, pg := range c.pages {
		if !pg.shared {
			pg.shared = true
		}
		to.pages[index] = pg
	}
	to.sectors = make(map[int64]*sector, len(c.sectors))
	for number, s := range c.sectors {
		to.sectors[number] = &sector{older: slices.Clone(s.older), lost: s.lost}
	}
	return to
}

// CrashClone is a disk as a power cut now may leave it; the seed chooses which. Everything on it is durable, every lock
// is free, and the original goes on as it is.
//
//   - A sector written since the last good Datasync of its file holds what was written last, something it held before,
//     or garbage, each sector (or each block of eight) on its own.
//   - A sector whose Datasync failed is likely not to hold what was written, however often a later Datasync succeeded.
//   - A size set since then is the new or an older one.
//   - A name created, renamed or removed and not synced since is as after the change or as before it, a rename never
//     half; of the changes of one name none is kept without those before it.
//
// Seed 0 loses all it may, seed 1 keeps all it may. Equal seeds choose equally on equal disks.
func (m *Mem) CrashClone(seed uint64) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	luck := newLuck(seed)
	entries := map[*node]map[string]*node{}
	of := func(dir *node) map[string]*node {
		if entries[dir] == nil {
			entries[dir] = maps.Clone(dir.durable)
		}
		return entries[dir]
	}
	chosen := make([]bool, len(m.changes))
	for i := range chosen {
		chosen[i] = luck.happens(luck.keepName)
	}
	settle(m.changes, chosen, of)
	clone := m.empty()
	clone.root = clone.restore(m.root, of, luck)
	return clone
}

// restore builds what is left of n and of all below it, in the order of names, so that a seed always chooses the same.
func (m *Mem) restore(n *node, of func(*node) map[string]*node, luck *luck) *node {
	to := &node{inode: n.inode, mode: n.mode, linked: true}
	if !n.mode.IsDir() {
		to.content = n.content.crash(luck)
		m.used += to.content.allocated()
		return to
	}
	to.names = map[string]*node{}
	left := of(n)
	for _, name := range slices.Sorted(maps.Keys(left)) {
		to.names[name] = m.restore(left[name], of, luck)
	}
	to.durable = maps.Clone(to.names)
	return to
}

// crash is what a power cut leaves of a file.
func (c *content) crash(luck *luck) content {
	to := c.clone()
	written := c.size
	to.sizes = nil
	if len(c.sizes) > 0 && !luck.happens(luck.keepSize) {
		was := c.sizes[luck.upTo(len(c.sizes))].was
		to.size, to.reserved = was.size, was.reserved
	}
	block, drawn := int64(-1), lost
	for _, number := range slices.Sorted(maps.Keys(c.sectors)) {
		s, at := c.sectors[number], number*sectorBytes
		if b := number / luck.granule; b != block || s.lost {
			block, drawn = b, luck.fate(s.lost)
		}
		chosen := drawn
		if at >= written {
			chosen = lost // cut off and back again, as it was
		}
		switch {
		case at >= to.size || chosen == kept:
		case chosen == garbage:
			luck.garble(to.sectorForWriting(at))
		default:
			to.put(at, s.older[luck.upTo(len(s.older))].was)
		}
	}
	to.sectors = nil
	to.cut()
	return to
}

// sectorForWriting is the sector at off in a page of c's own.
func (c *content) sectorForWriting(off int64) []byte {
	within := off % pageBytes
	return c.pageForWriting(off / pageBytes).data[within : within+sectorBytes]
}

// put gives the sector at off what it held once; nil is zeros.
func (c *content) put(off int64, was []byte) {
	to := c.sectorForWriting(off)
	clear(to[copy(to, was):])
}

// cut drops what lies beyond the size, and counts blocks anew.
func (c *content) cut() {
	c.beyond = 0
	for index, pg := range c.pages {
		switch start := index * pageBytes; {
		case start >= c.size:
			delete(c.pages, index)
			continue
		case start+pageBytes > c.size:
			pg = c.pageForWriting(index)
			clear(pg.data[c.size-start:])
		}
		if index >= c.reserved {
			c.beyond++
		}
	}
}

// DropCaches makes every disk show what it holds: sectors whose Datasync failed read as before they were written, as
// when the system needs its memory back.
func (m *Mem) DropCaches() {
	m.mu.Lock()
	defer m.mu.Unlock()
	dropCaches(m.root)
}

func dropCaches(n *node) {
	for _, child := range n.names {
		dropCaches(child)
	}
	c := &n.content
	for number, s := range c.sectors {
		if !s.lost {
			continue
		}
		if at := number * sectorBytes; at < c.size {
			c.put(at, s.older[0].was)
		}
		delete(c.sectors, number)
	}
}

// What becomes of a sector.
type fate uint8

const (
	kept    fate = iota // as written last
	lost                // as it was before
	garbage             // neither
)

// luck is the temper of one power cut: how likely what survives.
type luck struct {
	*rand.Rand
	keep, keepSize, keepName float64 // sectors, sizes, names
	garbles                  float64 // share of the sectors not kept
	granule                  int64   // sectors that share a fate
	first                    bool    // of several older states the oldest
}

func newLuck(seed uint64) *luck {
	l := &luck{Rand: rand.New(rand.NewPCG(seed, 0x686f6c6466617374)), granule: 1}
	switch seed {
	case 0:
		l.first = true
	case 1:
		l.keep, l.keepSize, l.keepName = 1, 1, 1
	default:
		l.keep = []float64{0.1, 0.5, 0.9, 0.98}[l.IntN(4)]
		l.keepSize, l.keepName = l.Float64(), l.Float64()
		l.garbles = []float64{0, 0.1, 0.5}[l.IntN(3)]
		l.granule = []int64{1, pageBytes / sectorBytes}[l.IntN(2)]
	}
	return l
}

func (l *luck) happens(p float64) bool { return l.Float64() < p }

func (l *luck) upTo(n int) int {
	if l.first {
		return 0
	}
	return l.IntN(n)
}

// unlikely is how often a sector was written although its sync failed.
const unlikely = 0.125

func (l *luck) fate(syncFailed bool) fate {
	keep := l.keep
	if syncFailed {
		keep = min(keep, unlikely) // a disk that refused a sync refused most of it
		if l.keep == 1 {
			keep = 0
		}
	}
	switch {
	case l.happens(keep):
		return kept
	case l.happens(l.garbles):
		return garbage
	}
	return lost
}

// garble fills a sector with what nobody wrote.
func (l *luck) garble(p []byte) {
	for i := range p {
		p[i] = byte(l.Uint32())
	}
}
