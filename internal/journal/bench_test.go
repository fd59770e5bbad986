// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// benchStore is a store on the disk that TMPDIR is on.
func benchStore(b *testing.B, change ...func(*journal.Options)) *journal.Store {
	o := options(change...)
	o.Directory, o.MaxFileSizeMiB, o.Segments = b.TempDir(), 16<<10, 64<<20
	s, err := journal.OpenStore(context.Background(), vfs.OS(), o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			b.Error(err)
		}
	})
	return s
}

// BenchmarkAppend is a healthy pipeline: appenders at once, one destination that keeps up.
func BenchmarkAppend(b *testing.B) {
	for name, mode := range map[string]func(*journal.Options){"synced": func(*journal.Options) {}, "unsynced": unsynced} {
		for _, appenders := range []int{8, 64} {
			for _, size := range []int{6 << 10, 100 << 10} {
				b.Run(fmt.Sprintf("%s/%d appenders/%d KiB", name, appenders, size>>10), func(b *testing.B) {
					store := benchStore(b, mode)
					j, err := store.Head("traces", 1, []queue.Destination{{Name: "a", Stored: true}})
					if err != nil {
						b.Fatal(err)
					}
					appendAndDrain(b, j, appenders, size)
				})
			}
		}
	}
}

func appendAndDrain(b *testing.B, j *journal.Journal, appenders, size int) {
	a := j.Attach("a")
	body := make([]byte, size)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	var done sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	var delivered atomic.Int64
	done.Go(func() {
		for {
			got, err := a.Take(ctx, queue.Want{Sizer: queue.Items, Max: 8192, Joins: func(_, _ *queue.Record) bool { return true }})
			if err != nil {
				return
			}
			seqs := make([]queue.Seq, len(got))
			for i := range got {
				seqs[i] = got[i].Seq
			}
			a.Resolve(queue.Outcome{Kind: queue.Ack}, seqs...)
			delivered.Add(int64(len(got)))
		}
	})
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ResetTimer()
	var wait sync.WaitGroup
	for range appenders {
		wait.Go(func() {
			for left.Add(-1) >= 0 {
				if err := j.Append(ctx, queue.Record{Tag: 1, Items: 1, Size: uint32(size), Body: body}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wait.Wait()
	b.StopTimer()
	for delivered.Load() < int64(b.N) && !b.Failed() {
		<-time.After(time.Millisecond)
	}
	cancel()
	done.Wait()
}

// BenchmarkRaw is what the disk gives at best: one goroutine, a preallocated file, 800 KiB and a sync.
func BenchmarkRaw(b *testing.B) {
	const chunk = 800 << 10
	f, err := os.Create(filepath.Join(b.TempDir(), "raw"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	disk := vfs.OS()
	file, err := disk.OpenFile(f.Name(), vfs.Write, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	if err := file.Allocate(512 << 20); err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, chunk)
	b.SetBytes(chunk)
	for i := range b.N {
		if _, err := file.WriteVAt([][]byte{buf}, int64(i%600)*chunk); err != nil {
			b.Fatal(err)
		}
		if err := file.Datasync(); err != nil {
			b.Fatal(err)
		}
	}
}
