// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package recovery_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/journal/recovery"
	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// hollow is a disk on which large parts of a write, all of them zeros, take no room and no time: files are sparse.
type hollow struct{ vfs.FS }

var zeros = make([]byte, 512<<10)

type hollowFile struct{ vfs.File }

func (h hollow) OpenFile(name string, how vfs.Access, perm fs.FileMode) (vfs.File, error) {
	f, err := h.FS.OpenFile(name, how, perm)
	if err != nil {
		return nil, err
	}
	return hollowFile{f}, nil
}

func (f hollowFile) Allocate(size int64) error { return f.Truncate(size) }

func (f hollowFile) Datasync() error { return nil }

func (f hollowFile) WriteVAt(parts [][]byte, off int64) (int64, error) {
	at := off
	for _, p := range parts {
		if len(p) > len(zeros) || !bytes.Equal(p, zeros[:len(p)]) {
			if _, err := f.File.WriteVAt([][]byte{p}, at); err != nil {
				return at - off, err
			}
		}
		at += int64(len(p))
	}
	return at - off, nil
}

// backlog fills a directory with sealed segments of so many bytes, and one that is not sealed.
func backlog(tb testing.TB, disk vfs.FS, root string, segments int, bytes int64, record int) (records queue.Seq) {
	ok := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	disk = hollow{disk}
	ok(disk.Mkdir(path.Join(root, layout.Segments), 0o755))
	ok(disk.Mkdir(path.Join(root, layout.Cursors), 0o755))
	body := make([]byte, record)
	r := segment.Record{Items: 3, Size: uint32(record), Body: body, CRC: segment.Checksum(nil, body), Accepted: 1}
	names := []string{"kept up", "never", "some"}
	var hashes []uint64
	for _, n := range names {
		hashes = append(hashes, cursor.Hash(n))
	}
	seq := queue.Seq(0)
	for id := uint64(1); id <= uint64(segments); id++ {
		h := segment.Header{
			Journal: [16]byte{9}, ID: id, Salt: uint32(id) * 77, BaseSeq: seq + 1, BaseItems: uint64(seq) * 3, PrevID: id - 1,
			PrevLastSeq: seq, FileBytes: bytes, Cursors: hashes,
		}
		name := layout.Segment(path.Join(root, layout.Segments), id)
		file, err := segment.Prepare(disk, name, bytes)
		ok(err)
		w, err := segment.NewWriter(file, h)
		ok(err)
		for w.Free() > int64(record)+8192 {
			_, err := w.Append([]segment.Record{r})
			ok(err)
			seq++
		}
		if id < uint64(segments) {
			ok(w.Seal())
		}
		ok(file.Close())
	}
	for i, n := range names {
		s := cursor.Slot{State: queue.Live, Journal: [16]byte{9}, Name: n, DurableSeq: seq, DurableItems: uint64(seq) * 3}
		resolve := func(first, last queue.Seq) {
			added := s.Resolved.Add(first, last)
			s.Delivered.Records += added
			s.Delivered.Items += 3 * added
		}
		switch i {
		case 0:
			resolve(1, seq-1)
		case 2:
			for k := range queue.Seq(60) {
				at := 2 + k*(seq/60)
				resolve(at, at+seq/200)
			}
		}
		f, err := cursor.Create(disk, layout.Cursor(root, n), &s)
		ok(err)
		ok(f.Close())
	}
	return seq
}

// edgesRead is what counting a cursor with 60 ranges may read: 64 KiB for each edge.
const edgesRead = 128 * (64 << 10)

func TestOpeningReadsSegmentsNotRecords(t *testing.T) {
	for _, c := range []struct {
		segments int
		bytes    int64
	}{{16, 64 << 20}, {128, 4 << 20}} {
		mem := vfs.NewMem(0)
		if err := mem.Mkdir("/j", 0o755); err != nil {
			t.Fatal(err)
		}
		last := backlog(t, mem, "/j", c.segments, c.bytes, 500<<10)
		disk := vfs.NewFaulty(mem)
		p, err := recovery.Inspect(disk, "/j", []string{"kept up", "never", "some"})
		if err != nil {
			t.Fatal(err)
		}
		_, read := disk.Count("read *")
		_, scanned := disk.Count("read " + layout.Segment("/j/seg", uint64(c.segments)))
		if bound := c.bytes + int64(c.segments)*40<<10; scanned > c.bytes+1<<20 || read > bound+edgesRead {
			t.Errorf("%d segments of %d: read %d bytes, %d of them of the last one", c.segments, c.bytes, read, scanned)
		}
		if reads, bytes := disk.Count("read " + layout.Segment("/j/seg", 2)); reads > 16 || bytes > 700<<10 {
			t.Errorf("a sealed segment was read %d times, %d bytes", reads, bytes)
		}
		t.Logf("%d segments of %d MiB: %d KiB read beside the scan of the last one", c.segments, c.bytes>>20, (read-scanned)>>10)
		for i, want := range []uint64{1, uint64(last)} {
			cur := find(p, []string{"kept up", "never"}[i])
			if q := cur.Queued; q.Records != want || q.Items != 3*want || !q.Counted || q.Bytes != want*500<<10 {
				t.Errorf("%+v", cur)
			}
		}
		some := find(p, "some")
		if q := some.Queued; !q.Counted || q.Items != 3*q.Records {
			t.Errorf("%+v", q)
		}
		if off, known := some.Imbalance(); off != 0 || !known {
			t.Errorf("the books are off by %d", off)
		}
	}
}

// BenchmarkOpen opens 4 GiB of backlog in a real directory: sparse files whose headers, frame headers and seals are real.
func BenchmarkOpen(b *testing.B) {
	for _, c := range []struct {
		segments int
		bytes    int64
	}{{64, 64 << 20}, {1024, 4 << 20}, {4096, 4 << 20}} {
		b.Run(fmt.Sprintf("%dx%dMiB", c.segments, c.bytes>>20), func(b *testing.B) {
			root := b.TempDir()
			backlog(b, vfs.OS(), root, c.segments, c.bytes, 60<<10)
			var p *recovery.Plan
			b.ResetTimer()
			for range b.N {
				var err error
				if p, err = recovery.Inspect(vfs.OS(), root, nil); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(p.ScannedBytes)/(1<<20), "MiB-read/op")
		})
	}
}
