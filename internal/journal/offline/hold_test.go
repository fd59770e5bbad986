// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package offline_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/journal/offline"
	"github.com/holdfast-telemetry/holdfast/internal/journal/space"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

func hold(t *testing.T, disk vfs.FS) (*offline.Held, *offline.Journal) {
	t.Helper()
	h, err := offline.Hold(t.Context(), disk, directory, "a test", space.Limits{CapBytes: 1 << 30, MinFreeBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	j, err := h.Recover(named(t, h.Store), nil)
	if err != nil {
		t.Fatal(err)
	}
	return h, j
}

func TestNothingIsChangedWhileAProcessHoldsTheLock(t *testing.T) {
	r := newRig(t, primary)
	r.append(10)
	_, err := offline.Hold(t.Context(), r.disk, directory, "a test", space.Limits{})
	var locked *space.LockedError
	if !errors.As(err, &locked) {
		t.Errorf("hold: %v", err)
	}
}

func TestWhatIsBookedAsDeliveredIsGoneAndCounted(t *testing.T) {
	r := newRig(t, primary, backup)
	r.append(500)
	disk := r.kill()
	h, j := hold(t, disk)
	books, err := h.Books(j, backup)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	_, err = j.Unresolved(j.Cursor(backup), 0, func(rec *offline.Record) error {
		if n++; n > 300 {
			return offline.ErrEnough
		}
		return books.Deliver(rec, uint32(n%2)) // of every second record one item is refused, if it has any
	})
	if err = errors.Join(err, books.Close()); err != nil {
		t.Fatal(err)
	}
	_, j = look(t, disk)
	left, _ := numbers(t, j, backup, 0)
	same(t, "left", left, span(301, 500))
	s := slot(t, disk, backup)
	if s.Delivered.Records != 300 || s.Delivered.Items+s.Rejected.Items != items(span(1, 300)) || s.Rejected.Items != 150 ||
		s.State != queue.Live || s.High != 300 {
		t.Errorf("slot %+v", s)
	}
	same(t, "of the other", first(numbers(t, j, primary, 0)), span(1, 500))
	if rep := verify(t, disk, false); rep.Damaged() {
		t.Errorf("findings %+v", rep.Findings)
	}
	if _, err := h.Books(j, "nobody"); err == nil {
		t.Error("books of nobody")
	}
}

func first(seqs []queue.Seq, _ offline.Missed) []queue.Seq { return seqs }

func TestAParkedDestinationIsDroppedAndALiveOneNot(t *testing.T) {
	r := newRig(t, primary, backup)
	r.append(300)
	r.resolve(backup, 40, ack)
	r.resolve(primary, 300, ack)
	r.j.Detach(backup)
	r.append(100)
	r.close()
	h, j := hold(t, r.disk)
	live, err := h.Books(j, primary)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := live.Drop(1); err == nil {
		t.Error("a live destination was dropped")
	}
	if err := live.Close(); err != nil {
		t.Fatal(err)
	}
	books, err := h.Books(j, backup)
	if err != nil {
		t.Fatal(err)
	}
	d, err := books.Drop(j.Cursor(backup).Queued.Items)
	if err = errors.Join(err, books.Close()); err != nil {
		t.Fatal(err)
	}
	if d.Records != 260 || d.Items != items(span(41, 300)) || d.First != 41 || d.Last != 300 || d.Reason != cursor.Operator || d.At == 0 {
		t.Errorf("dropped %+v", d)
	}
	s := slot(t, r.disk, backup)
	if s.State != queue.Done || s.Dropped[cursor.Operator] != d.Count || len(s.Drops) != 1 || s.Drops[0] != d {
		t.Errorf("slot %+v", s)
	}
	before := len(segments(t, r.disk))
	if _, err := h.Recover(named(t, h.Store), nil); err != nil {
		t.Fatal(err)
	}
	if after := len(segments(t, r.disk)); after >= before {
		t.Errorf("%d segments, %d before: what nobody needs is still there", after, before)
	}
	_, j = look(t, r.disk)
	same(t, "of the other", first(numbers(t, j, primary, 0)), span(301, 400))
	if rep := verify(t, r.disk, false); rep.Damaged() {
		t.Errorf("findings %+v", rep.Findings)
	}
}

func letters(t *testing.T, disk vfs.FS) (out map[string][]queue.Seq) {
	t.Helper()
	_, j := look(t, disk)
	out = map[string][]queue.Seq{}
	missed, err := j.DeadLetters("", 0, func(r *offline.Record) error {
		if string(r.Body) != string(body(int(r.Letter.Seq))) {
			t.Errorf("letter %d holds %.20q", r.Letter.Seq, r.Body)
		}
		out[r.Letter.Destination] = append(out[r.Letter.Destination], r.Letter.Seq)
		return nil
	})
	if err != nil || missed.Any() {
		t.Fatalf("letters: %+v, %v", missed, err)
	}
	return out
}

func buried(t *testing.T) *rig {
	r := newRig(t, primary, backup)
	r.append(60)
	dead := func(queue.Seq) queue.Outcome { return queue.Outcome{Kind: queue.Dead, Reason: "no"} }
	for range 20 {
		r.resolve(primary, 3, dead)
		r.resolve(backup, 2, dead)
	}
	r.close()
	return r
}

func TestDeadLettersOfOneDestinationGoAndOthersStay(t *testing.T) {
	r := buried(t)
	h, j := hold(t, r.disk)
	n, err := h.DropLetters(j, primary)
	if err != nil || n.Records != 60 || n.Items != items(span(1, 60)) {
		t.Errorf("dropped %+v, %v", n, err)
	}
	got := letters(t, r.disk)
	if len(got) != 1 {
		t.Errorf("letters of %d destinations", len(got))
	}
	same(t, "backup's", got[backup], span(1, 40))
	j, err = h.Recover(named(t, h.Store), nil)
	if err != nil {
		t.Fatal(err)
	}
	if n, err = h.DropLetters(j, primary); err != nil || n.Records != 0 {
		t.Errorf("again: %+v, %v", n, err)
	}
	if n, err = h.DropLetters(j, backup); err != nil || n.Records != 40 {
		t.Errorf("the others: %+v, %v", n, err)
	}
	if got := letters(t, r.disk); len(got) != 0 {
		t.Errorf("left %v", got)
	}
	if rep := verify(t, r.disk, false); rep.Damaged() {
		t.Errorf("findings %+v", rep.Findings)
	}
}

// Whatever call fails or is the last before a crash, no letter of another destination is lost.
func TestACrashWhileDeadLettersAreDroppedLosesNoOther(t *testing.T) {
	r := buried(t)
	count := vfs.NewFaulty(r.disk.KillClone())
	dropOn(t, count)
	total := len(count.Calls(""))
	if total < 20 {
		t.Fatalf("%d calls", total)
	}
	for n := 1; n <= total; n++ {
		inner := r.disk.KillClone()
		disk := vfs.NewFaulty(inner, vfs.Rule{N: n, Err: errBroken})
		_ = dropOn(t, disk)
		for seed := range uint64(3) {
			clone := inner.CrashClone(seed)
			h, j := hold(t, clone)
			got := letters(t, clone)
			if all := slices.Compact(slices.Sorted(slices.Values(got[backup]))); !slices.Equal(all, span(1, 40)) {
				t.Fatalf("call %d, seed %d: left %v", n, seed, all)
			}
			if _, err := h.DropLetters(j, primary); err != nil {
				t.Fatalf("call %d, seed %d: again: %v", n, seed, err)
			}
			if err := h.Close(); err != nil {
				t.Fatal(err)
			}
			if got := letters(t, clone); len(got[primary]) != 0 {
				t.Fatalf("call %d, seed %d: %v are still there", n, seed, got[primary])
			}
		}
	}
}

var errBroken = errors.New("broken on purpose")

// dropOn drops the primary's letters as a process would, from the lock to the end.
func dropOn(t *testing.T, disk vfs.FS) error {
	h, err := offline.Hold(t.Context(), disk, directory, "a test", space.Limits{CapBytes: 1 << 30, MinFreeBytes: 1})
	if err != nil {
		return err
	}
	defer h.Close()
	names, err := h.Names()
	if err != nil {
		return err
	}
	j, err := h.Recover(names[0], nil)
	if err != nil {
		return err
	}
	_, err = h.DropLetters(j, primary)
	return err
}
