// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package offline_test

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/journal/offline"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

func TestOnlyStorageDirectoriesAreOpened(t *testing.T) {
	disk := vfs.NewMem(1 << 20)
	for _, dir := range []string{"/there", "/there/below"} {
		if err := disk.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	_, err := offline.Open(disk, "/nowhere")
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), `"/nowhere" does not exist`) {
		t.Errorf("nowhere: %v", err)
	}
	var none *offline.NoStoreError
	if _, err = offline.Open(disk, "/there"); !errors.As(err, &none) || !strings.Contains(err.Error(), "no pipelines/ in it") {
		t.Errorf("another directory: %v", err)
	}
}

func TestWhatWaitsIsSeenBesideARunningProcessAndAfterEveryEndOfIt(t *testing.T) {
	r := newRig(t, primary, backup)
	r.append(1000)
	r.resolve(primary, 500, func(s queue.Seq) queue.Outcome {
		if s%7 == 0 {
			return queue.Outcome{Kind: queue.Nack, Delay: time.Hour}
		}
		return queue.Outcome{Kind: queue.Ack}
	})
	check := func(what string, disk vfs.FS, held bool) {
		t.Helper()
		s, j := look(t, disk)
		holder, err := s.Holder()
		if err != nil || (holder != nil) != held {
			t.Errorf("%s: held by %v, %v", what, holder, err)
		}
		got, missed := numbers(t, j, backup, 0)
		same(t, what+", backup", got, span(1, 1000))
		if missed.Any() || missed.Gone > 0 {
			t.Errorf("%s: missed %+v", what, missed)
		}
		c := j.Cursor(primary)
		var want []queue.Seq
		for seq := c.Slot.Resolved.Next(1); seq <= 1000; seq = c.Slot.Resolved.Next(seq + 1) {
			want = append(want, seq)
		}
		got, _ = numbers(t, j, primary, 0)
		same(t, what+", primary", got, want)
		got, _ = numbers(t, j, primary, 777)
		same(t, what+", primary from 777", got, want[slices.IndexFunc(want, func(s queue.Seq) bool { return s >= 777 }):])
	}
	check("running", r.disk, true)
	check("killed", r.disk.KillClone(), false)
	r.close()
	check("closed", r.disk, false)
}

func TestLookingChangesNothing(t *testing.T) {
	r := newRig(t, primary)
	r.append(300)
	r.resolve(primary, 1, func(queue.Seq) queue.Outcome { return queue.Outcome{Kind: queue.Dead, Reason: "no"} })
	disk := vfs.NewFaulty(r.kill())
	s, j := look(t, disk)
	if _, err := s.Holder(); err != nil {
		t.Error(err)
	}
	if _, err := s.Bytes(); err != nil {
		t.Error(err)
	}
	numbers(t, j, primary, 0)
	if _, _, err := j.Letters(); err != nil {
		t.Error(err)
	}
	if _, err := s.Verify(named(t, s), nil, false, nil); err != nil {
		t.Error(err)
	}
	for _, c := range disk.Calls("") {
		switch op, name, _ := strings.Cut(c.Name, " "); op {
		case "open", "read", "readdir", "stat", "fstat", "usage", "resolve", "dropbehind", "close":
		case "lock":
			if !strings.HasSuffix(name, "/LOCK") {
				t.Errorf("call %s", c.Name)
			}
		default:
			t.Errorf("call %s", c.Name)
		}
	}
}

func TestDamageIsToldAndTheRestIsRead(t *testing.T) {
	r := newRig(t, primary)
	r.append(1000)
	r.close()
	name := segments(t, r.disk)[1]
	flip(t, r.disk, name, 16_384+200) // in a body
	_, j := look(t, r.disk)
	got, missed := numbers(t, j, primary, 0)
	if len(missed.Damage) != 1 || missed.Damage[0].Path != name || !missed.Any() {
		t.Fatalf("missed %+v", missed)
	}
	gap := missed.Damage[0].Gap
	if gap.First == 0 || gap.Last < gap.First || gap.Last-gap.First > 1 {
		t.Errorf("gap %+v", gap)
	}
	same(t, "around the damage", got, append(span(1, gap.First-1), span(gap.Last+1, 1000)...))
}

func TestASegmentThatGoesMeanwhileIsNoDamage(t *testing.T) {
	r := newRig(t, primary)
	r.append(1000)
	r.close()
	_, j := look(t, r.disk)
	gone := j.Plan.Segments[1]
	if err := r.disk.Remove(gone.Path); err != nil {
		t.Fatal(err)
	}
	got, missed := numbers(t, j, primary, 0)
	if missed.Any() || missed.Gone != uint64(gone.Last-gone.First)+1 {
		t.Errorf("missed %+v", missed)
	}
	same(t, "the others", got, append(span(1, gone.First-1), span(gone.Last+1, 1000)...))
}

func TestVisitorsEndAWalk(t *testing.T) {
	r := newRig(t, primary)
	r.append(1000)
	_, j := look(t, r.disk)
	broken := errors.New("broken")
	for _, end := range []error{offline.ErrEnough, broken} {
		n := 0
		_, err := j.Unresolved(j.Cursor(primary), 0, func(*offline.Record) error {
			if n++; n == 3 {
				return end
			}
			return nil
		})
		if n != 3 || end == broken && !errors.Is(err, broken) || end == offline.ErrEnough && err != nil {
			t.Errorf("ended by %v after %d: %v", end, n, err)
		}
	}
}

func TestDeadLettersAreFoundByDestination(t *testing.T) {
	r := newRig(t, primary, backup)
	r.append(90)
	bury := func(s queue.Seq) queue.Outcome {
		if s%3 == 0 {
			return queue.Outcome{Kind: queue.Dead, Reason: fmt.Sprintf("no %d", s)}
		}
		return queue.Outcome{Kind: queue.Ack}
	}
	r.resolve(primary, 90, bury)
	r.resolve(backup, 45, bury)
	_, j := look(t, r.disk)
	all, missed, err := j.Letters()
	if err != nil || missed.Any() || all[primary].Records != 30 || all[backup].Records != 15 {
		t.Errorf("letters %v, missed %+v, %v", all, missed, err)
	}
	var got []queue.Seq
	_, err = j.DeadLetters(backup, 0, func(l *offline.Record) error {
		if l.Letter.Destination != backup || l.Letter.Reason != fmt.Sprintf("no %d", l.Letter.Seq) || string(l.Meta) != "m" ||
			string(l.Body) != string(body(int(l.Letter.Seq))) || l.Letter.At.IsZero() {
			t.Errorf("letter %+v, %q", l.Letter, l.Meta)
		}
		got = append(got, l.Letter.Seq)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var want []queue.Seq
	for s := queue.Seq(3); s <= 45; s += 3 {
		want = append(want, s)
	}
	same(t, "backup", got, want)
}

func TestDiskUseIsCountedByKind(t *testing.T) {
	r := newRig(t, primary)
	r.append(300)
	if err := r.disk.Mkdir(directory+"/theirs", 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := r.disk.OpenFile(directory+"/theirs/x", vfs.Create, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Allocate(10 << 10); err != nil {
		t.Fatal(err)
	}
	f.Close()
	s, _ := look(t, r.disk)
	got, err := s.Bytes()
	if err != nil || got["segments"] < 300*520 || got["cursors"] < cursor.FileBytes || got["reserve"] == 0 || got["foreign"] < 10<<10 {
		t.Errorf("bytes %v, %v", got, err)
	}
}
