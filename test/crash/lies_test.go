// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package crash

import (
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"
)

// A disk that says it did what it did not is found out within a few crashes: else the tests of this package show nothing.
func TestTheCrashTestsFindLies(t *testing.T) {
	for _, c := range []struct {
		name  string
		lie   lie
		power bool
	}{
		{"a group that is not written", lie{Op: "write", Suffix: ".seg", Every: 150}, false},
		{"slots that are not written", lie{Op: "write", Suffix: ".cur", Every: 1, After: 2}, false},
		{"a group that is not synced", lie{Op: "datasync", Suffix: ".seg", Every: 1}, true},
		{"slots that are not synced", lie{Op: "datasync", Suffix: ".cur", Every: 1, After: 2}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var v *volume
			dir := ""
			if c.power {
				needDisks(t, "lies about syncs")
				v = newVolume(t, 256)
				dir = v.at
			} else {
				dir = place(t)
			}
			random := rand.New(rand.NewPCG(seed(t), 5)) //nolint:gosec // moments, not secrets
			o := working(filepath.Join(dir, "queue"), true)
			o.Lie, o.Inventory = c.lie, true
			s := newStory(o)
			for n := 1; n <= 40; n++ {
				if v != nil {
					v.mount()
				}
				p := launch(t, o, s)
				if _, err := p.hope("told ", patience); err == nil {
					pause(time.Duration(300+random.IntN(500)) * time.Millisecond)
				}
				if v != nil {
					s.unplug()
					v.cut()
				}
				p.kill()
				if v != nil {
					s.ended(crash{refused: true, power: true})
					v.unmount()
				}
				if found := append(s.broken(), p.complaints()...); len(found) > 0 {
					t.Logf("found after %d crashes: %s", n, found[0])
					return
				}
			}
			t.Errorf("not found: %s", s.count())
		})
	}
}
