// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package crash

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
)

// Fault: D10. The directory goes while a process works in it. Appends are refused and an alarm says why, at the next
// segment or within ten seconds; what is in memory and what is open is still delivered; from then on no record is
// written anywhere, and nothing is made, renamed or removed under the old names, which may be somebody else's.
func TestDirectoryRemovedUnderUs(t *testing.T) {
	for name, remove := range map[string]func(dir string) error{
		"rm -rf": removeAll,
		"rm -rf and mkdir": func(dir string) error {
			return errors.Join(removeAll(dir), os.Mkdir(dir, 0o750))
		},
		"mv":                     func(dir string) error { return os.Rename(dir, dir+".moved") },
		"mv, and nobody appends": func(dir string) error { return os.Rename(dir, dir+".moved") },
		"mv and a copy in its place": func(dir string) error {
			return errors.Join(os.Rename(dir, dir+".moved"), command("cp", "-a", dir+".moved", dir))
		},
		"rm -rf seg": func(dir string) error {
			return removeAll(filepath.Join(layout.Pipeline(dir, "traces"), layout.Segments))
		},
		"rm LOCK": func(dir string) error { return os.Remove(filepath.Join(dir, layout.LockFile)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := working(filepath.Join(place(t), "queue"), true)
			o.Effects, o.Consumers = true, map[string]string{"near": "all"}
			o.CacheMiB = 64 // far is owed what is in memory
			s := newStory(o)
			p := launch(t, o, s)
			p.opened()
			p.tell("consume off")
			p.acks(200)
			before := s.count().acked
			if name == "mv, and nobody appends" {
				p.tell("append off")
			}
			if err := remove(o.Dir); err != nil {
				t.Fatal(err)
			}
			var after map[string]string
			if exists(o.Dir) {
				after = state(t, o.Dir)
			}
			began := time.Now()
			p.await("event 2 state ")
			noticed := time.Since(began)
			if noticed > 15*time.Second {
				t.Errorf("it was noticed after %s", noticed)
			}
			p.tell("append on")
			p.refusals(2 * o.Appenders) // what was on its way has been answered
			given := s.count().acked - before
			mark := p.mark()
			p.refusals(20)
			if state, _ := p.show(); !strings.HasPrefix(state, "detached ") {
				t.Errorf("state %s", state)
			}
			p.tell("consume on")
			eventually(t, "what is in memory is delivered", func() bool {
				_, sum := p.show()
				for _, b := range sum.Books {
					if b.Name == "near" {
						return b.Records == 0
					}
				}
				return false
			})
			p.refusals(20)
			t.Logf("noticed after %s; %d records were acknowledged between", noticed.Round(time.Millisecond), given)
			if more := s.count().acked - before - given; more > 0 {
				t.Errorf("%d records were acknowledged after it was noticed", more)
			}
			calm(t, p, mark)
			if after != nil && name != "rm -rf seg" && name != "rm LOCK" {
				unchanged(t, "in what took its place", after, state(t, o.Dir))
			}
			p.tell("close")
			p.exit()
			calm(t, p, mark)
			if after != nil && name != "rm -rf seg" && name != "rm LOCK" {
				unchanged(t, "in what took its place, by closing", after, state(t, o.Dir))
			}
			for _, wrong := range p.complaints() {
				t.Error(wrong)
			}
			s.report(t)
			if strings.HasPrefix(name, "mv") {
				if err := errors.Join(os.RemoveAll(o.Dir), os.Rename(o.Dir+".moved", o.Dir)); err != nil {
					t.Fatal(err)
				}
			}
			if !strings.HasPrefix(name, "rm -rf") { // nothing was lost with it
				settle(t, o, s)
				s.report(t)
			}
		})
	}
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// removeAll is rm -rf by somebody who means it: what is made meanwhile goes too.
func removeAll(dir string) (err error) {
	for range 20 {
		if err = os.RemoveAll(dir); err == nil {
			return nil
		}
	}
	return err
}

// calm fails if the process did anything by name after the mark, or allocated anything. What is open may still be written,
// but for records: cursors tell of progress, segments are sealed, and the directory may come back.
func calm(t *testing.T, p *process, mark int) {
	t.Helper()
	for at := mark; ; {
		var line string
		if line, at = p.heard("effect ", at); at < 0 {
			return
		}
		op, rest, _ := strings.Cut(line, " ")
		if slices.Contains([]string{"create", "mkdir", "rename", "remove", "allocate"}, op) && strings.HasSuffix(rest, " ok") {
			t.Errorf("after it was taken away: %s", line)
		}
	}
}

// The directory is moved away, and another process makes its own in its place, with files of the same names. The first
// one delivers and closes; the other's records are all there, and so are the first one's, once they are moved back.
func TestDirectoryOfAnotherProcessIsLeftAlone(t *testing.T) {
	dir := filepath.Join(place(t), "queue")
	o := working(dir, true)
	o.Consumers, o.CacheMiB = map[string]string{"near": "all"}, 1
	first, second := newStory(o), newStory(o)
	p := launch(t, o, first)
	p.opened()
	p.tell("consume off")
	p.acks(600)
	p.tell("append off")
	if err := os.Rename(dir, dir+".moved"); err != nil {
		t.Fatal(err)
	}
	other := o
	other.Consumers = nil
	q := launch(t, other, second)
	q.opened()
	q.acks(600)
	q.tell("append off")

	p.tell("append on") // it notices by this, or by itself
	p.await("event 2 state ")
	p.tell("append off")
	p.tell("consume on")
	delivered := first.count().resolved
	eventually(t, "it delivers what it has in memory", func() bool { return first.count().resolved > delivered })
	pause(3 * time.Second) // it tries to read the rest, twice
	_, sum := p.show()
	for _, wrong := range unbalanced(sum.Books) {
		t.Error(wrong)
	}
	p.tell("close")
	p.exit()
	q.kill()
	inventory(t, other, second)
	settle(t, other, second)
	if err := errors.Join(os.Rename(dir, dir+".others"), os.Rename(dir+".moved", dir)); err != nil {
		t.Fatal(err)
	}
	settle(t, o, first)
	first.report(t)
	second.report(t)
	t.Logf("the first: %s", first.count())
	t.Logf("the other: %s", second.count())
}
