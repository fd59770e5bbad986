// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"context"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/queue/queuetest"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// The contract holds for a queue on disk as for one in memory. What is behind the cache comes as it is read ahead, in
// smaller batches; TestWhatIsBehindTheCacheComesFromDisk is about that.
func TestQueueContract(t *testing.T) {
	for name, change := range map[string]func(*journal.Options){
		"synced":   func(*journal.Options) {},
		"unsynced": func(o *journal.Options) { o.FSync = false },
	} {
		t.Run(name, func(t *testing.T) {
			queuetest.Run(t, func(t *testing.T) queue.Queue {
				disk := vfs.NewMem(1 << 40)
				s := openStore(t, disk, change)
				j := head(t, s)
				t.Cleanup(func() { s.Close(context.Background()) })
				return &alone{j, s}
			}, queuetest.Capabilities{})
		})
	}
}

// alone is a journal that has its store for itself.
type alone struct {
	*journal.Journal
	store *journal.Store
}

func (a *alone) Close(ctx context.Context) error {
	if err := a.Journal.Close(ctx); err != nil {
		return err
	}
	return a.store.Close(ctx)
}

const directory = "/var/lib/holdfast"

// openStore opens the store of the tests on disk.
func openStore(t *testing.T, disk vfs.FS, change ...func(*journal.Options)) *journal.Store {
	t.Helper()
	s, err := journal.OpenStore(t.Context(), disk, options(change...))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func options(change ...func(*journal.Options)) journal.Options {
	o := journal.Options{Config: *journal.Default().(*journal.Config), Heads: 1, Segments: 1 << 20, Now: time.Now}
	o.Directory, o.MaxFileSizeMiB, o.MinFreeMiB = directory, 1<<20, 1
	for _, c := range change {
		c(&o)
	}
	return o
}

func head(t *testing.T, s *journal.Store, wanted ...queue.Destination) *journal.Journal {
	t.Helper()
	j, err := s.Head("traces", 1, wanted)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// pass lets virtual time go by.
func pass(d time.Duration) { <-time.After(d) }
