// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/journal/space"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// foreignDisk is a disk as another process sees it: the same files, of which this one does not know.
type foreignDisk struct{ vfs.FS }

func (d foreignDisk) Stat(name string) (vfs.Info, error) {
	info, err := d.FS.Stat(name)
	info.Device++
	return info, err
}

// One directory has one store, and one pipeline one journal in it.
func TestSecondOpenIsTurnedAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem(1 << 40)
		store := openStore(t, disk, func(o *journal.Options) { o.Owner = "holdfast 4711" })
		j := head(t, store, dest)
		s := newStory(t)
		a := s.attach(j, "a")
		_, err := journal.OpenStore(context.Background(), disk, options())
		if err == nil || !strings.Contains(err.Error(), directory) || !strings.Contains(err.Error(), "in use by this process") {
			t.Errorf("a second store: %v", err)
		}
		start := time.Now() // another process, as far as the locks go
		other := foreignDisk{disk}
		_, err = journal.OpenStore(context.Background(), other, options(func(o *journal.Options) { o.Timeout = 3 * time.Second }))
		var locked *space.LockedError
		if !errors.As(err, &locked) || !strings.Contains(err.Error(), "holdfast 4711") {
			t.Errorf("a second process: %v", err)
		}
		if waited := time.Since(start); waited < 3*time.Second || waited > 4*time.Second {
			t.Errorf("it waited %v for the lock", waited)
		}
		if _, err := store.Head("traces", 1, []queue.Destination{dest}); err == nil || !strings.Contains(err.Error(), "open already") {
			t.Errorf("a second journal: %v", err)
		}
		if _, err := store.Tail("traces"); err == nil {
			t.Error("a tail beside the head")
		}
		appendAll(t, s, j, 3) // the first one does not notice
		comes(t, "a", a, 1, 3)
		if err := j.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if _, err = store.Head("traces", 1, []queue.Destination{dest}); err != nil {
			t.Errorf("after it was closed: %v", err)
		}
		if err := store.Close(context.Background()); err != nil {
			t.Error(err)
		}
		again := openStore(t, disk)
		defer again.Close(context.Background())
		head(t, again, dest)
	})
}
