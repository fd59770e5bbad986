// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package recovery_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/journal/recovery"
	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
)

// play takes the bytes for a list of things done to the files of a directory: which file, what, where, and with what.
func (y *yard) play(script []byte) {
	names := []string{seg(1), seg(2), seg(3), seg(4), seg(9)}
	for _, n := range []string{"a", "b", "p", "late", "z", "lost-0123456789abcdef"} {
		names = append(names, layout.Cursor(dir, n))
	}
	for len(script) >= 6 {
		name, other := names[int(script[0])%len(names)], names[int(script[5])%len(names)]
		what, at, n := script[1]%8, int(script[2])<<8|int(script[3]), int(script[4])
		script = script[6:]
		var fill []byte
		if what >= 5 {
			n = min(n, len(script))
			fill, script = script[:n], script[n:]
		}
		if _, err := y.disk.Stat(name); err != nil {
			y.put(name, fill)
			continue
		}
		if what == 0 {
			y.remove(name)
			continue
		}
		y.change(name, func(b []byte) []byte {
			at %= len(b) + 1
			switch what {
			case 1:
				return b[:at]
			case 2:
				if _, err := y.disk.Stat(other); err == nil {
					return y.read(other)
				}
			case 3:
				clear(b[at:min(len(b), at+n*64)])
			case 4:
				if at < len(b) {
					b[at] ^= byte(n) | 1
				}
			case 5:
				copy(b[at:], fill)
			case 6:
				return append(b, fill...)
			case 7:
				return fill
			}
			return b
		})
	}
}

// FuzzOpenDirectory: whatever is done to the files of a journal, it opens or names a newer file, the books of every
// cursor are in balance, and the second time there is nothing left to book.
func FuzzOpenDirectory(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 4, 0, 50, 1, 0})
	f.Add([]byte{2, 3, 16, 0, 255, 0, 5, 1, 0, 90, 0, 0})
	f.Add([]byte{3, 5, 0, 0, 0, 0, 3, 2, 0, 0, 0, 0, 3, 4, 0, 33, 0, 0})
	f.Add([]byte{6, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 9, 7, 0, 0, 8, 5, 1, 2, 3, 4, 5, 6, 7, 8})
	f.Fuzz(func(t *testing.T, script []byte) {
		y, mem := sample(t)
		y.play(script)
		start := time.Now()
		p, err := recovery.Inspect(mem, dir, wantedNames)
		if err != nil {
			var s *segment.NewerError
			var c *cursor.NewerError
			if !errors.As(err, &s) && !errors.As(err, &c) {
				t.Fatal(err)
			}
			return
		}
		y.ok(p.Apply(mem, recovery.ApplySettings{}))
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("it took %s", took)
		}
		for _, wrong := range y.unsound(p) {
			t.Error(wrong)
		}
		again, err := recovery.Inspect(mem, dir, wantedNames)
		y.ok(err)
		if len(again.Losses) > 0 || again.Seq < p.Seq || len(again.Segments) != len(p.Segments) || len(again.Cursors) != len(p.Cursors) {
			t.Errorf("the second time: %+v\nafter %+v", again, p)
		}
		for _, wrong := range y.unsound(again) {
			name, _, _ := strings.Cut(wrong, ":")
			if c := find(p, name); c != nil && !c.Known && strings.Contains(wrong, "books are off") {
				continue // what a parked cursor lost was estimated, and now there is more to go by
			}
			t.Error("the second time: ", wrong)
		}
	})
}
