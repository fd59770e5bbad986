// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// A journal without work makes no call at all, and what the warden looks at every ten seconds it does not change.
func TestIdleJournalWritesNothing(t *testing.T) {
	for name, mode := range map[string]func(*journal.Options){"synced": func(*journal.Options) {}, "unsynced": unsynced} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := vfs.NewFaulty(vfs.NewMem(1 << 40))
				store := openStore(t, disk, mode)
				defer store.Close(context.Background())
				j := head(t, store, wants("a", "b", "c")...)
				s := newStory(t)
				a, b := s.attach(j, "a"), s.attach(j, "b")
				s.attach(j, "c")
				appendAll(t, s, j, 50)
				ackAll(s, "a", a)
				got := s.take(b, 20_000)
				s.resolve(b, "b", queue.Outcome{Kind: queue.Dead, Reason: "no"}, got[0])
				s.resolve(b, "b", queue.Outcome{Kind: queue.Nack, Delay: time.Hour}, got[1:]...)
				s.detach(j, "c")
				pass(5 * time.Second)
				ctx, cancel := context.WithCancel(context.Background())
				waiting := make(chan error)
				go func() {
					_, err := a.Take(ctx, queue.Want{Sizer: queue.Items, Min: 100, Linger: time.Minute, Joins: func(_, _ *queue.Record) bool { return true }})
					waiting <- err
				}()
				before := len(disk.Calls(""))
				start := time.Now()
				for disk.Calls("")[len(disk.Calls(""))-1].N == before { // up to the warden's next round
					pass(100 * time.Millisecond)
					if time.Since(start) > 11*time.Second {
						t.Fatal("the warden does not come")
					}
				}
				pass(time.Second)
				quiet := len(disk.Calls(""))
				pass(8 * time.Second)
				if calls := disk.Calls("")[quiet:]; len(calls) > 0 {
					t.Errorf("within eight seconds it made the calls %v", calls)
				}
				pass(50 * time.Minute)
				for _, c := range disk.Calls("")[quiet:] {
					switch op, _, _ := strings.Cut(c.Name, " "); op {
					case "stat", "fstat", "readdir", "usage":
					default:
						t.Errorf("an idle journal made the call %s", c.Name)
					}
				}
				cancel()
				<-waiting
			})
		})
	}
}

// One record that nobody takes pins its segment and no other, and a million behind it cost no memory.
func TestOnePoisonRecordPinsOneSegment(t *testing.T) {
	records := 100_000
	if long() {
		records = 1_000_000
	}
	for name, mode := range map[string]func(*journal.Options){"cached": func(*journal.Options) {}, "uncached": uncached} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := openStore(t, vfs.NewMem(1<<40), unsynced, mode)
				defer store.Close(context.Background())
				j := head(t, store, dest)
				a := j.Attach("a")
				body := make([]byte, 40)
				most := 0
				var memory []int64
				for i := range records {
					if err := j.Append(context.Background(), queue.Record{Items: 1, Size: 40, Body: body}); err != nil {
						t.Fatal(err)
					}
					if i%500 != 499 {
						continue
					}
					for a.Fill().Records > 1 || i < 500 && a.Fill().Records == 500 {
						got, err := a.Take(context.Background(), queue.Want{Joins: func(_, _ *queue.Record) bool { return true }})
						if err != nil {
							t.Fatal(err)
						}
						var seqs []queue.Seq
						for _, d := range got {
							if d.Seq == 7 {
								a.Resolve(queue.Outcome{Kind: queue.Nack, Delay: 50 * time.Millisecond}, 7)
							} else {
								seqs = append(seqs, d.Seq)
							}
						}
						a.Resolve(queue.Outcome{Kind: queue.Ack}, seqs...)
					}
					pass(100 * time.Millisecond)
					if i%10_000 == 9999 {
						pass(2 * time.Second)
						most = max(most, j.Snapshot().Segments)
						memory = append(memory, heldBytes())
					}
				}
				if most > 2 {
					t.Errorf("%d segments are kept for one record", most)
				}
				if first, last := memory[1], memory[len(memory)-1]; last-first > int64(records)*4 {
					t.Errorf("memory grew from %d to %d bytes over %d records", first, last, records)
				}
				if f := a.Fill(); f.Records != 1 {
					t.Errorf("left: %+v", f)
				}
				if wrong := unbalanced(j); wrong != "" {
					t.Error(wrong)
				}
			})
		})
	}
}

// heldBytes is what is reachable in this process.
func heldBytes() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
