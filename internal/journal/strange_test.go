// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// Files that do not belong, or have the wrong name, or come twice, cost nothing that is not theirs; what is not ours is
// left alone.
//
// Fault: D4
func TestStrangeFilesCostNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, other := newEstate(t, true), newEstate(t, false)
		segs := e.files(t, "seg")
		foreign := content(t, other.disk, other.files(t, "seg")[0])
		first, last := content(t, e.disk, segs[0]), content(t, e.disk, segs[len(segs)-1])
		noise := make([]byte, 70_000)
		for i := range noise {
			noise[i] = byte(rand.Uint32())
		}
		check := func(what string, change func(disk *vfs.Mem)) {
			t.Helper()
			disk := e.disk.KillClone()
			change(disk)
			o, wrong := settleEstate(t, disk, e.was)
			if wrong == "" && o.err == nil {
				wrong = o.listed()
			}
			if o.err != nil || wrong != "" || len(o.missing["a"])+len(o.missing["b"]) > 0 {
				t.Errorf("%s: %v %s, missing %v", what, o.err, wrong, o.missing)
			}
		}
		name := func(id int) string { return fmt.Sprintf("%s/seg/%010d.seg", home, id) }
		check("nothing", func(*vfs.Mem) {})
		check("another journal's segment behind ours", func(d *vfs.Mem) { put(t, d, name(900), 0, foreign) })
		check("our first segment again, later", func(d *vfs.Mem) { put(t, d, name(901), 0, first) })
		check("our last segment again, later", func(d *vfs.Mem) { put(t, d, name(902), 0, last) })
		check("an empty segment", func(d *vfs.Mem) { put(t, d, name(903), 0, nil) })
		check("a segment of zeros", func(d *vfs.Mem) { put(t, d, name(904), 0, make([]byte, 1<<17)) })
		check("a segment of noise", func(d *vfs.Mem) { put(t, d, name(905), 0, noise) })
		check("a header and nothing else", func(d *vfs.Mem) { put(t, d, name(906), 0, foreign[:4096]) })
		check("another journal's cursor", func(d *vfs.Mem) {
			put(t, d, home+"/cur/c.cur", 0, content(t, other.disk, home+"/cur/a.cur"))
		})
		check("a cursor of noise", func(d *vfs.Mem) { put(t, d, home+"/cur/d.cur", 0, noise) })
		check("an empty cursor", func(d *vfs.Mem) { put(t, d, home+"/cur/e.cur", 0, nil) })
		check("a cursor under two names", func(d *vfs.Mem) {
			put(t, d, home+"/cur/f.cur", 0, content(t, d, home+"/cur/a.cur"))
		})
		check("what was never finished", func(d *vfs.Mem) {
			put(t, d, name(907)+".tmp", 0, noise)
			put(t, d, home+"/cur/a.cur.tmp", 0, noise)
		})
		check("a directory where a segment should be", func(d *vfs.Mem) {
			if err := d.Mkdir(name(908), 0o700); err != nil {
				t.Fatal(err)
			}
		})
		ours := []string{home + "/seg/README", home + "/cur/notes.txt", home + "/mine", directory + "/data.db", home + "/seg/x.seg"}
		check("files of others", func(d *vfs.Mem) {
			for _, f := range ours {
				put(t, d, f, 0, noise[:100])
			}
		})
		disk := e.disk.KillClone()
		for _, f := range ours {
			put(t, disk, f, 0, noise[:100])
		}
		settleEstate(t, disk, e.was)
		for _, f := range ours {
			if !slices.Equal(content(t, disk, f), noise[:100]) {
				t.Errorf("%s is not ours and was changed", f)
			}
		}
	})
}

// Segments that are gone cost what was in them and nothing else, and that is listed; one of another name, or of another
// journal, is set aside.
//
// Fault: D4 O5
func TestMissingSegmentsAreListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, killed := range []bool{false, true} {
			e := newEstate(t, killed)
			segs := e.files(t, "seg")
			other := newEstate(t, false)
			foreign := content(t, other.disk, other.files(t, "seg")[0])
			felt := 0
			for i, name := range segs {
				for what, change := range map[string]func(d *vfs.Mem){
					"removed": func(*vfs.Mem) {},
					"renamed": func(d *vfs.Mem) { put(t, d, fmt.Sprintf("%s/seg/%010d.seg", home, 800+i), 0, content(t, e.disk, name)) },
					"emptied": func(d *vfs.Mem) { put(t, d, name, 0, nil) },
					"foreign": func(d *vfs.Mem) { put(t, d, name, 0, foreign) },
				} {
					disk := e.disk.KillClone()
					if err := disk.Remove(name); err != nil {
						t.Fatal(err)
					}
					change(disk)
					o, wrong := settleEstate(t, disk, e.was)
					if wrong == "" && o.err == nil {
						wrong = o.listed()
					}
					if o.err != nil || wrong != "" {
						t.Errorf("killed %v, segment %d of %d %s: %v %s", killed, i+1, len(segs), what, o.err, wrong)
					}
					felt += len(o.missing["a"])
				}
			}
			if felt < len(e.was.owed["a"]) {
				t.Errorf("killed %v: %d records were missed in all", killed, felt)
			}
		}
	})
}

// Files of a newer version are refused by name, and not a byte of the directory is changed.
func TestNewerFilesAreRefusedByNameAndLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEstate(t, true)
		check := func(name string, off int64, change func(p []byte)) {
			t.Helper()
			disk := e.disk.KillClone()
			p := content(t, disk, name)
			change(p)
			put(t, disk, name, off, p[off:])
			before := fingerprint(t, disk, home)
			o, _ := settleEstate(t, disk, e.was)
			var seg *segment.NewerError
			var cur *cursor.NewerError
			if !errors.As(o.err, &seg) && !errors.As(o.err, &cur) || !strings.Contains(o.err.Error(), name) {
				t.Errorf("%s of a newer version: %v", name, o.err)
			}
			if after := fingerprint(t, disk, home); after != before {
				t.Errorf("%s of a newer version: the directory was changed from\n%sto\n%s", name, before, after)
			}
		}
		header := func(p []byte) {
			binary.LittleEndian.PutUint32(p[4092:], crc32.Checksum(p[:4092], crc32.MakeTable(crc32.Castagnoli)))
		}
		for _, name := range append(e.files(t, "seg"), e.files(t, "dead/seg")...) {
			if p := content(t, e.disk, name); string(p[:8]) != "HOLDSEG1" {
				continue
			}
			check(name, 0, func(p []byte) { p[8] = 2; header(p) })
			check(name, 0, func(p []byte) { p[13] |= 0x80; header(p) })
		}
		for _, name := range e.files(t, "cur") {
			check(name, 0, func(p []byte) {
				for _, slot := range [][]byte{p[:65536], p[65536:]} {
					n := binary.LittleEndian.Uint32(slot[12:])
					if string(slot[:8]) == "HOLDCUR1" {
						slot[16] = 2
						binary.LittleEndian.PutUint32(slot[8:], crc32.Checksum(slot[12:n], crc32.MakeTable(crc32.Castagnoli)))
					}
				}
			})
		}
	})
}

// fingerprint is the names, sizes and checksums of all files below a directory.
func fingerprint(t *testing.T, disk vfs.FS, dir string) (text string) {
	entries, err := disk.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range entries {
		name := path.Join(dir, f.Name)
		if f.Type.IsDir() {
			text += fingerprint(t, disk, name)
			continue
		}
		p := content(t, disk, name)
		text += fmt.Sprintf("%s %d %x\n", name, len(p), crc32.ChecksumIEEE(p))
	}
	return text
}
