// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package cursor_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"slices"
	"syscall"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// twoSlots is a file with a in the slot before the last, b in the last one. at and length are where b is.
func twoSlots(t testing.TB, a, b *cursor.Slot) (p []byte, at, length int) {
	disk := newDisk(t)
	create(t, disk, a, b) // generations 1 and 2
	p = bytesOf(t, disk)
	return p, 0, int(binary.LittleEndian.Uint32(p[12:]))
}

// TestDamagedCursorOnlyRepeats changes every byte of a file: what is read is the last state if its bytes are untouched,
// else the one before. It is never anything else, so a destination gets again what it had, and misses nothing.
func TestDamagedCursorOnlyRepeats(t *testing.T) {
	for what, slots := range map[string][2]*cursor.Slot{
		"small": {small(1), small(2)}, "large": {many(4096), many(2000)},
	} {
		p, at, length := twoSlots(t, slots[0], slots[1])
		before, last := encoded(slots[0]), encoded(slots[1])
		damaged := 0
		for i := range p {
			used := i < length || i >= cursor.SlotBytes && i < cursor.SlotBytes+length
			if (what == "large" || !used) && i%251 != 0 && i%4096 > 1 {
				continue
			}
			was := p[i]
			for _, value := range []byte{^was, 0, was + 1} {
				p[i] = value
				want := last
				if value != was && i >= at && i < at+length {
					want = before
					damaged++
				}
				if got, err := cursor.Read(image(p), name); err != nil || !bytes.Equal(encoded(&got), want) {
					t.Fatalf("%s: byte %d is %#x, was %#x: %v, generation %d", what, i, value, was, err, got.Generation)
				}
			}
			p[i] = was
		}
		if damaged < 100 {
			t.Errorf("%s: only %d changes touched the last state", what, damaged)
		}
	}
}

// TestACutFileOnlyRepeats cuts a file at every length.
func TestACutFileOnlyRepeats(t *testing.T) {
	a, b := small(1), small(2)
	p, _, length := twoSlots(t, a, b)
	lengthA := int(binary.LittleEndian.Uint32(p[cursor.SlotBytes+12:]))
	for n := range p {
		if n > length && n < cursor.SlotBytes && n%509 != 0 || n > cursor.SlotBytes+lengthA && n%509 != 0 {
			continue
		}
		got, err := cursor.Read(image(p[:n]), name)
		var corrupt *cursor.CorruptError
		switch {
		case n < length:
			if !errors.As(err, &corrupt) || corrupt.Path != name {
				t.Fatalf("%d bytes: %v", n, err)
			}
		case err != nil || !same(&got, b):
			t.Fatalf("%d bytes: %v, %+v", n, err, got)
		}
		// The other way round: the last state is behind the cut.
		swapped := slices.Concat(p[cursor.SlotBytes:], p[:cursor.SlotBytes])
		binary.LittleEndian.PutUint64(swapped[40:], 2)
		binary.LittleEndian.PutUint64(swapped[cursor.SlotBytes+40:], 3)
		signed(swapped[:lengthA])
		signed(swapped[cursor.SlotBytes:])
		want := a
		if n >= cursor.SlotBytes+length {
			want = b
		}
		if n >= lengthA {
			if got, err := cursor.Read(image(swapped[:n]), name); err != nil || !same(&got, want) {
				t.Fatalf("%d bytes of the other order: %v, %+v", n, err, got)
			}
		}
	}
}

func TestWhatIsNoCursorIsCorrupt(t *testing.T) {
	p, _, length := twoSlots(t, small(1), small(2))
	both := slices.Clone(p)
	both[length-1] ^= 1
	both[cursor.SlotBytes+500] ^= 1
	swapped := slices.Concat(p[cursor.SlotBytes:], p[:cursor.SlotBytes])
	for what, p := range map[string]image{
		"empty": nil, "zeros": make(image, cursor.FileBytes), "both slots damaged": both, "slots in each other's place": swapped,
		"random": image(pattern(cursor.FileBytes)), "only a magic": image("HOLDCUR1"),
	} {
		var corrupt *cursor.CorruptError
		s, err := cursor.Read(p, name)
		f, _, err2 := cursor.Open(p, name)
		if !errors.As(err, &corrupt) || corrupt.Path != name || !errors.As(err2, &corrupt) || f != nil {
			t.Errorf("%s: %+v, %v, %v", what, s, err, err2)
		}
	}
	_, err := cursor.Read(image(both), name)
	if want := name + ": cursor damaged: even slot: its checksum does not hold; odd slot: its checksum does not hold"; err == nil ||
		err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i*i>>3 + i)
	}
	return p
}

func TestANewerFileIsNamedAndLeft(t *testing.T) {
	p, _, length := twoSlots(t, small(1), small(2))
	for _, at := range []int{0, cursor.SlotBytes} { // the last state and the one before
		q := slices.Clone(p)
		q[at+16] = 2
		signed(q[at:][:length])
		disk := vfs.NewFaulty(newDisk(t))
		write(t, disk, q)
		var newer *cursor.NewerError
		if _, err := cursor.Read(disk, name); !errors.As(err, &newer) || newer.Path != name || newer.Version != 2 {
			t.Errorf("%v", err)
		}
		if _, _, err := cursor.Open(disk, name); !errors.As(err, &newer) ||
			err.Error() != name+": cursor of format 2, newer than 1" {
			t.Errorf("%v", err)
		}
		if !slices.Equal(bytesOf(t, disk), q) {
			t.Error("the file was changed")
		}
	}
}

// write makes a file of these bytes.
func write(t testing.TB, disk vfs.FS, p []byte) {
	t.Helper()
	file, err := disk.OpenFile(name, vfs.Create, 0o600)
	ok(t, err)
	if len(p) > 0 {
		_, err = file.WriteVAt([][]byte{p}, 0)
		ok(t, err)
	}
	ok(t, errors.Join(file.Datasync(), file.Close(), disk.SyncDir(dir)))
}

// TestWhatTheDiskDoesNotReadIsDamage: it is asked twice, then the other slot counts, and the next Write leaves the bad
// place alone.
func TestWhatTheDiskDoesNotReadIsDamage(t *testing.T) {
	for what, c := range map[string]struct {
		rule vfs.Rule
		lost bool
	}{
		"once":                    {vfs.Rule{Times: 1}, false},
		"once, behind the slot":   {vfs.Rule{Times: 1, Room: 4096}, false},
		"once, within the slot":   {vfs.Rule{Times: 1, Room: 512}, false},
		"every time":              {vfs.Rule{}, true},
		"all but the first bytes": {vfs.Rule{Room: 512}, true},
	} {
		mem := newDisk(t)
		create(t, mem, small(1), small(2))
		c.rule.Call, c.rule.Err = "read *", syscall.EIO
		disk := vfs.NewFaulty(mem, c.rule)
		f, got, err := cursor.Open(disk, name)
		var corrupt *cursor.CorruptError
		if disk.Hits() == 0 {
			t.Errorf("%s: nothing failed", what)
		}
		if c.lost {
			if !errors.As(err, &corrupt) || !errors.Is(err, syscall.EIO) {
				t.Errorf("%s: %v", what, err)
			}
			continue
		}
		if err != nil || !same(&got, small(2)) || f.Err() != nil {
			t.Errorf("%s: %v, %+v", what, err, got)
		}
	}

	mem := newDisk(t)
	create(t, mem, small(1), small(2))
	disk := badPlace{mem, 0}
	f, got, err := cursor.Open(disk, name)
	if err != nil || !same(&got, small(1)) || !errors.Is(f.Err(), syscall.EIO) {
		t.Fatalf("%v, %+v, %v", err, got, f.Err())
	}
	ok(t, f.Write(small(3)))
	if got, err := cursor.Read(mem, name); err != nil || !same(&got, small(3)) || f.Err() != nil || f.Condemned() != 1 {
		t.Errorf("%+v, %v, %v", got, err, f.Err())
	}
}

// badPlace is a disk that cannot read what begins at off of any file.
type badPlace struct {
	vfs.FS
	off int64
}

func (d badPlace) OpenFile(name string, how vfs.Access, perm fs.FileMode) (vfs.File, error) {
	f, err := d.FS.OpenFile(name, how, perm)
	if err != nil {
		return nil, err
	}
	return badFile{f, d.off}, nil
}

type badFile struct {
	vfs.File
	off int64
}

func (f badFile) ReadAt(p []byte, off int64) (int, error) {
	if off == f.off {
		return 0, syscall.EIO
	}
	return f.File.ReadAt(p, off)
}

// TestAFileOfTheWrongSizeIsReplaced: its blocks may be missing, so a Write in place could find the disk full.
func TestAFileOfTheWrongSizeIsReplaced(t *testing.T) {
	p, _, length := twoSlots(t, small(1), small(2))
	for _, size := range []int{length, cursor.SlotBytes, cursor.FileBytes - 1, cursor.FileBytes + 4096} {
		disk := newDisk(t)
		write(t, disk, append(slices.Clone(p), make([]byte, 4096)...)[:size])
		f, got, err := cursor.Open(disk, name)
		if err != nil || !same(&got, small(2)) || f.Err() == nil {
			t.Fatalf("%d bytes: %+v, %v", size, got, err)
		}
		ok(t, f.Write(small(3)))
		if info, err := disk.Stat(name); err != nil || info.Size != cursor.FileBytes || info.Allocated != cursor.FileBytes ||
			info.Mode != 0o600 || f.Err() != nil {
			t.Errorf("%d bytes: %+v, %v, %v", size, info, err, f.Err())
		}
	}
}
