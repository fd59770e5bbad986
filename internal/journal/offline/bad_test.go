// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package offline_test

import (
	"errors"
	"path"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/journal/offline"
	"github.com/holdfast-telemetry/holdfast/internal/journal/space"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// copyFile copies a file on the disk in memory, from off on.
func copyFile(t *testing.T, disk vfs.FS, from, to string, off int64) {
	t.Helper()
	in, err := disk.OpenFile(from, vfs.Read, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, info.Size-off)
	if _, err := in.ReadAt(b, off); err != nil {
		t.Fatal(err)
	}
	out, err := disk.OpenFile(to, vfs.Create, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := out.WriteVAt([][]byte{b}, 0); err != nil {
		t.Fatal(err)
	}
}

func TestRecordsOfQuarantinedSegmentsCanBeRead(t *testing.T) {
	r := newRig(t, primary)
	r.append(100)
	r.close()
	whole := segments(t, r.disk)[2]
	home := layout.Pipeline(directory, pipeline)
	_, j := look(t, r.disk)
	if missed, err := j.Quarantined(func(*offline.Record) error { return errors.New("what?") }); err != nil || missed.Any() {
		t.Errorf("without quarantine: %+v, %v", missed, err)
	}
	bad := path.Join(home, layout.Bad)
	if err := r.disk.Mkdir(bad, 0o750); err != nil {
		t.Fatal(err)
	}
	copyFile(t, r.disk, whole, path.Join(bad, "0000000007.seg"), 0)
	copyFile(t, r.disk, whole, path.Join(bad, "0000000007.seg.2"), 0)
	copyFile(t, r.disk, whole, path.Join(bad, "0000000003.seg.8192-12288"), 50_000)
	copyFile(t, r.disk, whole, path.Join(bad, "NOTES"), 50_000)
	flip(t, r.disk, path.Join(bad, "0000000007.seg.2"), 4096+100)
	var got []queue.Seq
	missed, err := j.Quarantined(func(r *offline.Record) error {
		if string(r.Body) != string(body(int(r.Seq))) {
			t.Errorf("record %d holds %.20q", r.Seq, r.Body)
		}
		got = append(got, r.Seq)
		return nil
	})
	if err != nil || len(missed.Damage) != 2 {
		t.Errorf("missed %+v, %v", missed, err)
	}
	s := j.Plan.Segments[2]
	same(t, "quarantined", got, append(span(s.First, s.Last), span(s.First+1, s.Last)...))
}

func TestLettersThatWereTakenAfterAllAreBookedAsDelivered(t *testing.T) {
	r := buried(t)
	h, j := hold(t, r.disk)
	var taken cursor.Set
	_, err := j.DeadLetters(primary, 0, func(l *offline.Record) error {
		if l.Letter.Seq%2 == 0 {
			taken.Add(l.Seq, l.Seq)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	n, err := h.DropDelivered(j, &taken)
	if err != nil || n.Records != 30 {
		t.Fatalf("dropped %+v, %v", n, err)
	}
	before := slot(t, r.disk, primary)
	books, err := h.Books(j, primary)
	if err == nil {
		err = errors.Join(books.Redeem(n), books.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	after := slot(t, r.disk, primary)
	if after.Delivered != n || after.Rejected.Records != before.Rejected.Records-30 || after.Rejected.Items != before.Rejected.Items-n.Items {
		t.Errorf("slot %+v", after)
	}
	left := letters(t, r.disk)
	for _, s := range left[primary] {
		if s%2 == 0 {
			t.Errorf("letter %d is still there", s)
		}
	}
	if len(left[primary]) != 30 || len(left[backup]) != 40 {
		t.Errorf("left %d and %d", len(left[primary]), len(left[backup]))
	}
	if rep := verify(t, r.disk, false); rep.Damaged() {
		t.Errorf("findings %+v", rep.Findings)
	}
}

// Whatever bytes are in the files, everything that looks at them ends, and so does what brings them in order.
func FuzzLookingAtAnyBytes(f *testing.F) {
	f.Add(uint8(0), uint32(4096+70), []byte{1})
	f.Add(uint8(1), uint32(0), []byte("HOLDSEG2"))
	f.Add(uint8(200), uint32(400), []byte{0xff, 0xff, 0xff, 0xff})
	var made *vfs.Mem
	f.Fuzz(func(t *testing.T, which uint8, off uint32, b []byte) {
		if made == nil {
			r := buried(t)
			made = r.disk
		}
		disk := made.KillClone()
		home := layout.Pipeline(directory, pipeline)
		files := segments(t, disk)
		for _, dir := range []string{path.Join(home, layout.Dead, layout.Segments), path.Join(home, layout.Cursors)} {
			entries, err := disk.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				files = append(files, path.Join(dir, e.Name))
			}
		}
		file, err := disk.OpenFile(files[int(which)%len(files)], vfs.Write, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteVAt([][]byte{b}, int64(off)%(64<<10)); err != nil {
			t.Fatal(err)
		}
		file.Close()
		s, err := offline.Open(disk, directory)
		if err != nil {
			t.Fatal(err)
		}
		n := named(t, s)
		if _, err := s.Verify(n, nil, false, nil); err != nil {
			return // a newer format is refused by name
		}
		h, err := offline.Hold(t.Context(), disk, directory, "a test", space.Limits{CapBytes: 1 << 30, MinFreeBytes: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		j, err := h.Recover(n, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range j.Plan.Cursors {
			if _, err := j.Unresolved(&j.Plan.Cursors[i], 0, func(*offline.Record) error { return nil }); err != nil {
				t.Error(err)
			}
		}
		if _, err := j.Quarantined(func(*offline.Record) error { return nil }); err != nil {
			t.Error(err)
		}
		_, _ = h.DropLetters(j, primary) // damaged segments are left alone
	})
}
