// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package segment_test

import (
	"fmt"
	"hash/crc32"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

const benchBytes = 64 << 20

func group(count, size int) []segment.Record {
	all := make([]segment.Record, count)
	for i := range all {
		all[i] = record(i, 50, size)
	}
	return all
}

var shapes = []struct{ count, size int }{{1, 100 << 10}, {8, 100 << 10}, {64, 1 << 10}}

// BenchmarkAppend writes and syncs groups as the flusher does, to a real directory, with the checksums of the callers.
// The bare loop does the same to such a file without frames, and is what the journal is measured against.
func BenchmarkAppend(b *testing.B) {
	for _, shape := range shapes {
		b.Run(fmt.Sprintf("%dx%d", shape.count, shape.size), func(b *testing.B) {
			appendGroups(b, vfs.OS(), b.TempDir(), group(shape.count, shape.size))
		})
		b.Run(fmt.Sprintf("%dx%d/bare", shape.count, shape.size), func(b *testing.B) {
			bareGroups(b, vfs.OS(), b.TempDir(), group(shape.count, shape.size))
		})
	}
}

// BenchmarkAppendAlone is the same without a disk: what the frames cost beside checksums.
func BenchmarkAppendAlone(b *testing.B) {
	for _, shape := range shapes {
		b.Run(fmt.Sprintf("%dx%d", shape.count, shape.size), func(b *testing.B) {
			appendGroups(b, void{}, "", group(shape.count, shape.size))
		})
		b.Run(fmt.Sprintf("%dx%d/bare", shape.count, shape.size), func(b *testing.B) {
			bareGroups(b, void{}, "", group(shape.count, shape.size))
		})
	}
}

// void is a disk that forgets.
type void struct{ vfs.FS }

func (void) OpenFile(string, vfs.Access, fs.FileMode) (vfs.File, error) { return voidFile{}, nil }
func (void) SyncDir(string) error                                       { return nil }

type voidFile struct{ image }

func (voidFile) Allocate(int64) error { return nil }
func (voidFile) WriteVAt(parts [][]byte, _ int64) (total int64, _ error) {
	for _, p := range parts {
		total += int64(len(p))
	}
	return total, nil
}

func payload(all []segment.Record) (total int64) {
	for _, r := range all {
		total += int64(len(r.Meta) + len(r.Body))
	}
	return total
}

func appendGroups(b *testing.B, disk vfs.FS, dir string, all []segment.Record) {
	b.SetBytes(payload(all))
	b.ReportAllocs()
	var w *segment.Writer
	var file vfs.File
	for n := 0; b.Loop(); n++ {
		for i := range all {
			all[i].CRC = segment.Checksum(all[i].Meta, all[i].Body)
		}
		if w == nil || w.Free() < payload(all)+int64(len(all))*72 {
			b.StopTimer()
			if file != nil {
				check(b, file.Close())
			}
			var err error
			file, err = segment.Prepare(disk, filepath.Join(dir, fmt.Sprint(n)), benchBytes)
			check(b, err)
			w, err = segment.NewWriter(file, header(benchBytes))
			check(b, err)
			b.StartTimer()
		}
		_, err := w.Append(all)
		check(b, err)
		check(b, w.Sync(w.Mark()))
	}
}

func bareGroups(b *testing.B, disk vfs.FS, dir string, all []segment.Record) {
	b.SetBytes(payload(all))
	var parts [][]byte
	for _, r := range all {
		parts = append(parts, r.Meta, r.Body)
	}
	table := crc32.MakeTable(crc32.Castagnoli)
	var file vfs.File
	off := int64(benchBytes)
	for n := 0; b.Loop(); n++ {
		var sum uint32
		for _, p := range parts {
			sum ^= crc32.Checksum(p, table)
		}
		if off+payload(all) > benchBytes {
			b.StopTimer()
			if file != nil {
				check(b, file.Close())
			}
			var err error
			file, err = segment.Prepare(disk, filepath.Join(dir, fmt.Sprint(n)), benchBytes)
			check(b, err)
			off = 0
			b.StartTimer()
		}
		written, err := file.WriteVAt(parts, off)
		check(b, err)
		off += written
		check(b, file.Datasync())
	}
}

func check(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// full is a segment of 64 MiB with records of the given size.
func full(b *testing.B, size int) *sheet {
	disk := vfs.OS()
	file, err := segment.Prepare(disk, filepath.Join(b.TempDir(), "full"), benchBytes)
	check(b, err)
	w, err := segment.NewWriter(file, header(benchBytes))
	check(b, err)
	s := &sheet{TB: b, disk: disk, file: file, w: w}
	r := record(1, 50, size)
	for w.Free() >= segment.FrameBytes(50, size) {
		_, err := w.Append([]segment.Record{r})
		check(b, err)
	}
	return s
}

func BenchmarkScan(b *testing.B) {
	for _, size := range []int{100, 1 << 10, 100 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s := full(b, size)
			b.SetBytes(benchBytes)
			b.ReportAllocs()
			for b.Loop() {
				in, err := segment.Inspect(s.file, name)
				check(b, err)
				scan, err := in.Scan(s.file, nil)
				check(b, err)
				if scan.Records != s.w.Summary().Records {
					b.Fatalf("%d records", scan.Records)
				}
			}
		})
	}
	b.Run("empty", func(b *testing.B) { // a prepared segment with one group: what a search to the end costs
		file, err := segment.Prepare(vfs.OS(), filepath.Join(b.TempDir(), "empty"), benchBytes)
		check(b, err)
		w, err := segment.NewWriter(file, header(benchBytes))
		check(b, err)
		s := &sheet{TB: b, file: file, w: w}
		s.ok(s.group(1, 1, 1))
		b.SetBytes(benchBytes)
		for b.Loop() {
			in, err := segment.Inspect(s.file, name)
			check(b, err)
			_, err = in.Scan(s.file, nil)
			check(b, err)
		}
	})
}

func BenchmarkRead(b *testing.B) {
	for _, size := range []int{1 << 10, 100 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s := full(b, size)
			check(b, s.w.Seal())
			in, err := segment.Inspect(s.file, name)
			check(b, err)
			b.SetBytes(int64(in.Seal.DataEnd))
			b.ReportAllocs()
			for b.Loop() {
				r := segment.NewReader(s.file, bodies(in.Range()))
				n := uint64(0)
				for {
					if _, err := r.Next(); err != nil {
						break
					}
					n++
				}
				if n != in.Seal.Records {
					b.Fatalf("%d records", n)
				}
			}
		})
	}
}
