// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// A measured is how long some payload took.
type measured struct {
	bytes     int64
	wall, cpu time.Duration
}

func (m measured) rate() float64 { return float64(m.bytes) / m.wall.Seconds() }
func (m measured) and(n measured) measured {
	return measured{m.bytes + n.bytes, m.wall + n.wall, m.cpu + n.cpu}
}

func (m measured) cpuPerByte() float64 { return m.cpu.Seconds() / float64(m.bytes) }

// cpu is what this process has used so far; nothing else happens in it while something is measured.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // cannot fail with these arguments
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// writeRaw is what the disk can do: one goroutine, a preallocated file, one write and one sync after the other.
func writeRaw(path string, total int64, piece int) (measured, error) {
	body := make([]byte, piece)
	fill(body)
	return writeFile(path, total, [][]byte{body}, false)
}

// writeBare is what a journal cannot do without: a checksum of each record, one write and one sync for each group.
func writeBare(path string, total int64, record, group int) (measured, error) {
	body := make([]byte, record)
	fill(body)
	parts := make([][]byte, group)
	for i := range parts {
		parts[i] = body
	}
	return writeFile(path, total, parts, true)
}

func writeFile(path string, total int64, parts [][]byte, sums bool) (m measured, err error) {
	f, err := vfs.OS().OpenFile(path, vfs.Create, 0o600)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Allocate(total + int64(len(parts)*len(parts[0]))); err != nil && !errors.Is(err, vfs.ErrUnsupported) {
		return m, err
	}
	table, sum := crc32.MakeTable(crc32.Castagnoli), uint32(0)
	began, used := time.Now(), cpu()
	for m.bytes < total {
		if sums {
			for _, p := range parts {
				sum ^= crc32.Checksum(p, table)
			}
		}
		n, err := f.WriteVAt(parts, m.bytes)
		if err == nil {
			err = f.Datasync()
		}
		if err != nil {
			return m, err
		}
		m.bytes += n
	}
	m.wall, m.cpu = time.Since(began), cpu()-used
	if sums && sum == 1 {
		return m, errors.New("checksums came to nothing") // the sums are used
	}
	return m, nil
}

// readAll reads files one after the other, 1 MiB at a time, and returns the rate.
func readAll(paths []string) (float64, error) {
	disk, buf := vfs.OS(), make([]byte, 1<<20)
	began, total := time.Now(), int64(0)
	for _, path := range paths {
		f, err := disk.OpenFile(path, vfs.Read, 0)
		if err != nil {
			return 0, err
		}
		for off := int64(0); err == nil; {
			var n int
			n, err = f.ReadAt(buf, off)
			off, total = off+int64(n), total+int64(n)
		}
		if errors.Is(err, io.EOF) {
			err = nil
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return 0, err
		}
	}
	return float64(total) / time.Since(began).Seconds(), nil
}

// forget makes the kernel forget the content of files that are on the disk.
func forget(paths []string) error {
	disk := vfs.OS()
	for _, path := range paths {
		f, err := disk.OpenFile(path, vfs.Write, 0)
		if err != nil {
			return err
		}
		info, err := f.Stat()
		if err == nil {
			err = f.Datasync() // dirty pages are not forgotten
		}
		f.DropBehind(0, info.Size)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// fill makes bytes that no disk finds easier than others.
func fill(b []byte) {
	x := uint64(88172645463325252)
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x)
	}
}

// stockRates are what bench/stock prints, in bytes per second.
type stockRates struct {
	Put   float64 `json:"put"`
	Cycle float64 `json:"cycle"`
}

func (o options) runStock(ctx context.Context, dir string) (r stockRates, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return r, err
	}
	program, err := filepath.Abs(o.stock)
	if err != nil {
		return r, err
	}
	c := exec.CommandContext(ctx, program, "-dir", dir, "-size", fmt.Sprint(recordBytes), "-for", o.stockIn.String())
	c.Stderr = os.Stderr
	text, err := c.Output()
	if err != nil {
		return r, fmt.Errorf("%s: %w", o.stock, err)
	}
	return r, json.Unmarshal(text, &r)
}
