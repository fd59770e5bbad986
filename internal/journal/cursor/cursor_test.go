// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package cursor_test

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

const (
	dir  = "/cur"
	name = dir + "/otlp.cur"
	tmp  = name + ".tmp"
)

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newDisk is a memory disk with a durable directory for cursors.
func newDisk(t testing.TB) *vfs.Mem {
	mem := vfs.NewMem(0)
	ok(t, mem.Mkdir(dir, 0o750))
	ok(t, mem.SyncDir("/"))
	return mem
}

// small is a slot with something in every field; which one follows from k.
func small(k int) *cursor.Slot {
	n := queue.Seq(k)
	s := &cursor.Slot{
		State: queue.Live, Journal: [16]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, High: 1000 + n,
		DurableSeq: 2000 + n, DurableItems: 30000, ParkedAt: 1_750_000_000, NotOwed: 77, Name: "failover/traces",
		Delivered: cursor.Count{Records: uint64(k), Items: uint64(3 * k)}, Rejected: cursor.Count{Records: 5, Items: 6},
		Exporters: []string{"otlp_grpc/a", "otlp_grpc/b"},
	}
	s.Resolved.Reset(100 + n)
	s.Resolved.Add(200+n, 300+n)
	s.Resolved.Add(400+n, 400+n)
	s.Book(cursor.Drop{First: 7, Last: 9, Count: cursor.Count{Records: 3, Items: 30}, At: 1_750_000_000_000_000_000,
		Reason: cursor.Missing})
	return s
}

// random is any slot that can be written, of up to so many ranges.
func random(r *rand.Rand, ranges int) *cursor.Slot {
	count := func() cursor.Count { return cursor.Count{Records: r.Uint64(), Items: r.Uint64()} }
	s := &cursor.Slot{
		State: queue.State(1 + r.IntN(4)), Generation: r.Uint64N(1 << 62), Until: queue.Seq(r.Uint64N(1<<62 + 1)),
		DurableSeq: queue.Seq(r.Uint64N(1 << 62)), DurableItems: r.Uint64(), ParkedAt: int64(r.Uint64()),
		NotOwed: r.Uint64(), Delivered: count(), Rejected: count(), Name: text(r, 1+r.IntN(60)),
		TakenOff: r.IntN(2) == 0, Estimated: r.IntN(2) == 0,
	}
	for i := range s.Journal {
		s.Journal[i] = byte(r.Uint32())
	}
	for i := range s.Dropped {
		s.Dropped[i] = count()
	}
	for range r.IntN(5) {
		s.Exporters = append(s.Exporters, text(r, r.IntN(1000)))
	}
	fillSet(r, &s.Resolved, ranges)
	for range r.IntN(cursor.MaxDrops + 1) {
		s.Drops = append(s.Drops, cursor.Drop{
			First: queue.Seq(r.Uint64N(1 << 62)), Last: queue.Seq(r.Uint64N(1 << 62)), Count: count(),
			At: int64(r.Uint64()), Reason: cursor.Reason(r.IntN(16)),
		})
	}
	s.High = min(cursor.MaxSeq, s.Resolved.High()+queue.Seq(r.Uint64N(3)))
	return s
}

// fillSet resolves up to so many ranges, near each other or far.
func fillSet(r *rand.Rand, s *cursor.Set, ranges int) {
	bits := 1 + r.IntN(40)
	s.Reset(queue.Seq(r.Uint64N(1 << 40)))
	at := s.Floor()
	for range r.IntN(ranges + 1) {
		first := at + 2 + queue.Seq(r.Uint64N(1<<r.IntN(bits)))
		at = first + queue.Seq(r.Uint64N(1<<r.IntN(bits)))
		s.Add(first, at)
	}
}

func text(r *rand.Rand, n int) string {
	var b strings.Builder
	for range n {
		b.WriteByte(byte(r.Uint32()))
	}
	return b.String()
}

// pairs are the ranges of a set.
func pairs(s *cursor.Set) (all [][2]queue.Seq) {
	s.Ranges(func(first, last queue.Seq) { all = append(all, [2]queue.Seq{first, last}) })
	return all
}

// same says whether two slots say the same, of whatever generation.
func same(a, b *cursor.Slot) bool {
	if a.Resolved.Floor() != b.Resolved.Floor() || !reflect.DeepEqual(pairs(&a.Resolved), pairs(&b.Resolved)) ||
		a.Resolved.EncodedBytes() != b.Resolved.EncodedBytes() {
		return false
	}
	x, y := *a, *b
	x.Resolved, y.Resolved, x.Generation, y.Generation = cursor.Set{}, cursor.Set{}, 0, 0
	return reflect.DeepEqual(x, y)
}

// encoded is the bytes of a slot in generation 0: what was read of a slot that was written is compared by them.
func encoded(s *cursor.Slot) []byte {
	c := *s
	c.Generation = 0
	p, err := c.Append(nil)
	if err != nil {
		panic(err)
	}
	return p
}

// create makes a file with these slots written one after the other, and closes it.
func create(t testing.TB, disk vfs.FS, slots ...*cursor.Slot) {
	t.Helper()
	f, err := cursor.Create(disk, name, slots[0])
	ok(t, err)
	for _, s := range slots[1:] {
		ok(t, f.Write(s))
	}
	ok(t, f.Close())
}

// bytesOf is the whole file.
func bytesOf(t testing.TB, disk vfs.FS) []byte {
	t.Helper()
	file, err := disk.OpenFile(name, vfs.Read, 0)
	ok(t, err)
	p := make([]byte, cursor.FileBytes+1)
	n, err := file.ReadAt(p, 0)
	if !errors.Is(err, io.EOF) {
		t.Fatalf("%d bytes, %v", n, err)
	}
	ok(t, file.Close())
	return p[:n]
}

// image is a disk on which every name is a file with these bytes. It takes no writes.
type image []byte

func (p image) OpenFile(string, vfs.Access, fs.FileMode) (vfs.File, error) {
	return imageFile{p: p}, nil
}
func (image) Mkdir(string, fs.FileMode) error     { return errors.ErrUnsupported }
func (image) Rename(string, string) error         { return errors.ErrUnsupported }
func (image) Remove(string) error                 { return errors.ErrUnsupported }
func (image) ReadDir(string) ([]vfs.Entry, error) { return nil, errors.ErrUnsupported }
func (image) SyncDir(string) error                { return errors.ErrUnsupported }
func (image) Stat(string) (vfs.Info, error)       { return vfs.Info{}, nil }
func (image) Usage(string) (vfs.Usage, error)     { return vfs.Usage{}, nil }
func (image) Resolve(name string) (string, error) { return name, nil }
func (image) Lock(string) (vfs.File, error)       { return nil, errors.ErrUnsupported }

type imageFile struct {
	vfs.File
	p image
}

func (f imageFile) ReadAt(b []byte, off int64) (int, error) {
	if off >= int64(len(f.p)) {
		return 0, io.EOF
	}
	n := copy(b, f.p[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f imageFile) Stat() (vfs.Info, error) { return vfs.Info{Size: int64(len(f.p))}, nil }
func (f imageFile) Close() error            { return nil }

var _ vfs.FS = image(nil)
