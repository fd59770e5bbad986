// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package offline_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/journal/offline"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

func verify(t *testing.T, disk vfs.FS, held bool) *offline.Report {
	t.Helper()
	s, err := offline.Open(disk, directory)
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Verify(named(t, s), nil, held, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// mixed is a journal whose records met every fate.
func mixed(t *testing.T) *rig {
	r := newRig(t, primary, backup)
	r.append(500)
	r.resolve(primary, 200, func(s queue.Seq) queue.Outcome {
		switch s % 5 {
		case 0:
			return queue.Outcome{Kind: queue.Dead, Reason: "no"}
		case 1:
			return queue.Outcome{Kind: queue.Nack, Delay: time.Hour}
		case 2:
			return queue.Outcome{Kind: queue.Ack, Rejected: 1}
		}
		return queue.Outcome{Kind: queue.Ack}
	})
	return r
}

func TestTheBalanceIsCountedRecordByRecord(t *testing.T) {
	r := mixed(t)
	r.close()
	disk := r.disk
	rep := verify(t, disk, false)
	if rep.Damaged() || len(rep.Balances) != 2 || len(rep.Segments) == 0 || len(rep.Dead) == 0 || rep.Bytes == 0 {
		t.Fatalf("report %+v", rep)
	}
	_, j := look(t, disk)
	for _, b := range rep.Balances {
		waiting, _ := numbers(t, j, b.Name, 0)
		if b.Accepted != items(span(1, 500)) || b.Imbalance != 0 || !b.Known || b.Queued.Items != items(waiting) ||
			b.Queued.Records != uint64(len(waiting)) || b.Accepted != b.NotOwed+b.Delivered+b.Rejected+b.Dropped+b.Queued.Items {
			t.Errorf("balance %+v, waiting %d items", b, items(waiting))
		}
	}
	var records uint64
	for _, s := range rep.Segments {
		records += s.Records
	}
	if records != 500 {
		t.Errorf("%d records", records)
	}

	// Books that say one item too many are found.
	name := layout.Cursor(layout.Pipeline(directory, pipeline), primary)
	f, s, err := cursor.Open(disk, name)
	if err != nil {
		t.Fatal(err)
	}
	s.Delivered.Items++
	if err := f.Write(&s); err != nil {
		t.Fatal(err)
	}
	f.Close()
	rep = verify(t, disk, false)
	if !rep.Damaged() || rep.Balances[1].Name != primary || rep.Balances[1].Imbalance != -1 {
		t.Errorf("balances %+v", rep.Balances)
	}
	if text := rep.Findings[len(rep.Findings)-1].Text; !strings.Contains(text, "do not add up") || !strings.Contains(text, ": -1") {
		t.Errorf("finding %q", text)
	}
}

func TestEveryDamagedRecordIsFound(t *testing.T) {
	r := newRig(t, primary)
	r.append(1000)
	r.close()
	_, j := look(t, r.disk)
	for i := range j.Plan.Segments[:len(j.Plan.Segments)-1] {
		s := &j.Plan.Segments[i]
		for _, off := range []int64{4096 + 8, 4096 + 70, int64(s.Sum.DataEnd) - 40, int64(s.Sum.DataEnd) - 500} {
			disk := r.disk.KillClone()
			flip(t, disk, s.Path, off)
			if rep := verify(t, disk, false); !rep.Damaged() {
				t.Errorf("%s: byte %d inverted: %+v", s.Path, off, rep.Findings)
			}
		}
	}
	if rep := verify(t, r.disk, false); rep.Damaged() || len(rep.Findings) > 0 {
		t.Errorf("undamaged: %+v", rep.Findings)
	}
}

func TestDamageThatCostsNobodyAnythingIsNoted(t *testing.T) {
	r := newRig(t, primary, backup)
	r.append(300)
	r.resolve(primary, 300, ack)
	r.resolve(backup, 10, ack)
	r.close()
	name := segments(t, r.disk)[0]
	flip(t, r.disk, name, 4096+4096+70) // the second record
	rep := verify(t, r.disk, false)
	if rep.Damaged() || len(rep.Findings) != 1 || rep.Findings[0].Path != name || !strings.Contains(rep.Findings[0].Text, "nobody is owed") {
		t.Errorf("findings %+v", rep.Findings)
	}
}

// A process writes, delivers and deletes all the time, and nothing is taken for damage.
func TestAJournalInUseIsNotCalledDamaged(t *testing.T) {
	r := newRig(t, primary, backup)
	stop := make(chan struct{})
	var busy sync.WaitGroup
	busy.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			r.append(20)
			r.resolve(primary, 20, ack)
			r.resolve(backup, 20, ack)
		}
	})
	for range 30 {
		if rep := verify(t, r.disk, true); rep.Damaged() {
			t.Errorf("findings %+v, balances %+v", rep.Findings, rep.Balances)
			break
		}
	}
	close(stop)
	busy.Wait()
}
