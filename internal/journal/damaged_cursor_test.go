// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// Whatever happens to a cursor's file, what its destination is owed comes; some may come again, and the others' does
// not.
//
// Fault: D4
func TestDamagedCursorOnlyRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rng := luck(t)
		e := newEstate(t, true)
		samples := 80
		if long() {
			samples = 4000
		}
		repeated := 0
		check := func(what, whose string, change func(d *vfs.Mem)) {
			t.Helper()
			disk := e.disk.KillClone()
			change(disk)
			o, wrong := settleEstate(t, disk, e.was)
			other := map[string]string{"a": "b", "b": "a"}[whose]
			if wrong != "" || o.err != nil || len(o.missing["a"])+len(o.missing["b"]) > 0 || o.again[other] > 0 || o.dropped[whose] > 0 {
				t.Errorf("%s of %s: %v %s, %+v", what, whose, o.err, wrong, o)
			}
			repeated += o.again[whose]
		}
		for _, whose := range []string{"a", "b"} {
			name := home + "/cur/" + whose + ".cur"
			p := content(t, e.disk, name)
			for i := range samples {
				at := rng.IntN(2) * 65536
				n := int(binary.LittleEndian.Uint32(p[at+12:]))
				at += rng.IntN(max(1, min(n, 65536)))
				if b := []byte{0, ^p[at], p[at] + 1}[i%3]; b != p[at] {
					check(fmt.Sprintf("byte %d set to %d", at, b), whose, func(d *vfs.Mem) { put(t, d, name, int64(at), []byte{b}) })
				}
				to := rng.IntN(len(p))
				check(fmt.Sprintf("cut to %d", to), whose, func(d *vfs.Mem) { cut(t, d, name, int64(to)) })
			}
			check("slots exchanged", whose, func(d *vfs.Mem) {
				put(t, d, name, 0, append(slices.Clone(p[65536:]), p[:65536]...))
			})
			check("both slots zeroed", whose, func(d *vfs.Mem) { put(t, d, name, 0, make([]byte, len(p))) })
			if whose == "a" { // without its file nothing says what the name of a parked one was
				check("removed", whose, func(d *vfs.Mem) {
					if err := d.Remove(name); err != nil {
						t.Fatal(err)
					}
				})
			}
		}
		if repeated == 0 {
			t.Error("nothing came again: the cursors were not damaged")
		}
	})
}

// A cursor whose file is gone is told from a destination that is new, and gets what was owed to it; should its
// destination not be wanted now it waits under its hash, and comes back under its name.
//
// Fault: D4 O5
func TestLostCursorIsToldFromANewDestination(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEstate(t, true)
		disk := e.disk.KillClone()
		for _, name := range []string{"a", "b"} {
			if err := disk.Remove(home + "/cur/" + name + ".cur"); err != nil {
				t.Fatal(err)
			}
		}
		fresh := queue.Destination{Name: "new", Stored: true}
		events := &eventLog{}
		store := openStore(t, disk, small, func(o *journal.Options) { o.OnEvent = events.note })
		j := head(t, store, dest, fresh)
		if n := len(events.of(journal.Damaged)); n != 2 {
			t.Errorf("%d alarms for two lost cursors", n)
		}
		got, wrong := drain(j.Attach("a"))
		if wrong != "" || len(got) != 40 {
			t.Errorf("a gets %d of its 40 records again: %s", len(got), wrong)
		}
		if f := j.Attach("new").Fill(); f.Records != 0 {
			t.Errorf("the new destination is owed %+v", f)
		}
		lost := ""
		for _, info := range j.List() {
			if strings.HasPrefix(info.Name, "lost-") {
				lost = info.Name
				if info.State != queue.Parked || info.Counts.Parked == 0 {
					t.Errorf("b waits as %+v", info)
				}
			}
		}
		if lost != fmt.Sprintf("lost-%016x", cursor.Hash("b")) {
			t.Errorf("b waits as %q", lost)
		}
		if wrong := unbalanced(j); wrong != "" {
			t.Error(wrong)
		}
		pass(2 * time.Second)
		store.Close(context.Background())
		store = openStore(t, disk, small)
		defer store.Close(context.Background())
		j = head(t, store, dest, fresh, queue.Destination{Name: "b", Stored: true, Exporters: []string{"b"}})
		got, wrong = drain(j.Attach("b"))
		if wrong != "" || len(got) != 36 {
			t.Errorf("b gets %d of its 36 records again: %s", len(got), wrong)
		}
		if f := j.Attach("a").Fill(); f.Records != 0 {
			t.Errorf("a is owed %+v", f)
		}
		if wrong := unbalanced(j); wrong != "" {
			t.Error(wrong)
		}
	})
}
