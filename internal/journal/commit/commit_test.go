// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package commit_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/holdfast-telemetry/holdfast/internal/journal/commit"
	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// bothModes runs the test in a bubble of virtual time, synced and unsynced.
func bothModes(t *testing.T, test func(t *testing.T, synced bool)) {
	for name, synced := range map[string]bool{"synced": true, "unsynced": false} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { test(t, synced) }) })
	}
}

func TestWhatIsAnsweredIsOnDiskInOrder(t *testing.T) {
	bothModes(t, func(t *testing.T, synced bool) {
		r := newRig(t, synced)
		r.set.At = commit.Position{Seq: 41, Items: 1000, ID: 6, PrevID: 6, PrevLastSeq: 40, PrevDurable: 8192}
		r.given, r.published, r.durable, r.items = 41, 41, 40, 1000
		r.open()
		for i := range 300 {
			if i%20 == 0 {
				r.log.Tend()
			}
			r.must(r.add(i * 13 % 3000))
		}
		r.close()
		all := r.holds(r.mem.CrashClone(0), "after close", every)
		if len(all) != 300 {
			t.Errorf("%d records", len(all))
		}
		if len(r.sealed) < 5 || r.safe() != 341 {
			t.Errorf("%d segments are sealed, durable is %d", len(r.sealed), r.safe())
		}
		before := segment.Header{ID: 6}
		var last segment.Summary
		last.Last, last.ItemsEnd = 40, 1000
		for id := uint64(7); id < 7+uint64(len(r.sealed)); id++ {
			in := r.inspect(id)
			h := in.Header
			mode := uint32(0)
			if !synced {
				mode = segment.FlagUnsynced
			}
			if in.Class != segment.Sealed || h.PrevID != before.ID || h.PrevLastSeq != last.Last ||
				h.BaseItems != last.ItemsEnd || h.BaseSeq != max(last.Last+1, 42) || h.Flags != mode || h.Tag != 7 ||
				len(h.Cursors) != 3 || h.Journal != r.set.Journal || h.FileBytes != segmentBytes {
				t.Errorf("segment %d after %+v: %v %+v", id, last, in.Class, h)
			}
			if synced && id > 7 && h.PrevDurable != last.DataEnd {
				t.Errorf("segment %d says %d of the one before is durable, %d is", id, h.PrevDurable, last.DataEnd)
			}
			before, last = h, *in.Seal
		}
		if len(r.names()) != len(r.sealed) {
			t.Errorf("left: %v", r.names())
		}
		r.balanced()
		if s := r.log.Stats(); s.Records != 300 || s.Unsynced != 0 || s.UnsyncedBytes != 0 || s.Waiting != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestAClosedLogRefuses(t *testing.T) {
	bothModes(t, func(t *testing.T, synced bool) {
		r := opened(t, synced)
		r.must(r.add(100))
		r.close()
		calls := len(r.disk.Calls(""))
		if err := r.add(100); !errors.Is(err, queue.ErrClosed) {
			t.Errorf("append: %v", err)
		}
		r.log.Tend()
		r.close()
		if n := len(r.disk.Calls("")); n != calls {
			t.Errorf("%d calls after close", n-calls)
		}
		if s, err := r.log.State(); s != commit.Closed || !errors.Is(err, queue.ErrClosed) {
			t.Errorf("%v, %v", s, err)
		}
	})
}

func TestARecordAboveTheBoundIsTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := opened(t, true)
		defer r.close()
		rec := r.make(1)
		rec.body = make([]byte, segment.MaxRecordBytes+1)
		if err := r.append(context.Background(), rec); !errors.Is(err, queue.ErrTooLarge) {
			t.Errorf("append: %v", err)
		}
		if s, err := r.log.State(); s != commit.OK || err != nil {
			t.Errorf("%v, %v", s, err)
		}
	})
}
