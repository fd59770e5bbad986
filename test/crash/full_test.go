// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package crash

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Fault: D1. Somebody else takes all that is left of the disk, its bytes or its inodes. Appends are refused and say why;
// what waits is delivered and its progress written; whoever is killed then opens without any room. With room again it
// accepts by itself.
func TestRealFullDisk(t *testing.T) {
	needDisks(t, "full disk")
	for _, kind := range []struct {
		name string
		mkfs []string
		fill func(v *volume) (free func())
		says string
	}{
		{"bytes", nil, func(v *volume) func() { return v.fill(0) }, "full:"}, // of min_free_mib, or of the disk itself
		{"inodes", []string{"-N", "512"}, (*volume).fillInodes, "full:disk"},
	} {
		t.Run(kind.name, func(t *testing.T) {
			modes(t, func(t *testing.T, synced bool) {
				v := newVolume(t, 96, kind.mkfs...)
				v.mount()
				o := working(filepath.Join(v.at, "queue"), synced)
				o.Consumers["far"] = "most"
				s := newStory(o)
				p := launch(t, o, s)
				p.opened()
				p.acks(100)
				for round := range 2 {
					p.tell("consume off")
					p.acks(300)
					mark := p.mark()
					free := kind.fill(v)
					p.refusals(100)
					if last := p.lastAnswer(); !strings.Contains(last, kind.says) {
						t.Errorf("round %d: refused with %s, want %s", round, last, kind.says)
					}
					p.await("event 1 state ", mark)
					if state, sum := p.show(); !strings.HasPrefix(state, "full ") {
						t.Errorf("round %d: state %s", round, state)
					} else {
						for _, wrong := range unbalanced(sum.Books, s.forgiven()...) {
							t.Error(wrong)
						}
					}
					p.tell("append off")
					p.tell("consume on")
					p.resolves(100)
					p.tell("consume off")
					pause(1500 * time.Millisecond)
					if behind := s.unwritten(ticks() - int64(time.Second)); len(behind) > 0 {
						t.Errorf("round %d: no slot of %v was written on a full disk", round, behind)
					}
					p.kill()
					free2 := kind.fill(v) // what was given back meanwhile
					o.Inventory = true
					p = launch(t, o, s)
					p.await("told ")
					p.tell("append off")
					p.resolves(50)
					free()
					free2()
					p.tell("append on")
					began := time.Now()
					p.acks(50)
					t.Logf("round %d: 50 records were acknowledged %s after there was room again", round,
						time.Since(began).Round(time.Millisecond))
					eventually(t, "the state is ok", func() bool {
						state, _ := p.show()
						return strings.HasPrefix(state, "ok ")
					})
				}
				for _, line := range p.complaints() {
					t.Error(line)
				}
				p.kill()
				v.unmount()
				v.mount()
				settle(t, o, s)
				s.report(t)
				t.Log(s.count())
			})
		})
	}
}

// fillInodes makes files until no more can be made.
func (v *volume) fillInodes() (free func()) {
	v.t.Helper()
	dir, err := os.MkdirTemp(v.at, "somebody-elses-") // a directory's own inode may be the last
	if err != nil && !errors.Is(err, unix.ENOSPC) {
		v.t.Fatal(err)
	}
	for n := 0; err == nil; n++ {
		var f *os.File
		if f, err = os.Create(filepath.Join(dir, fmt.Sprint(n))); err == nil {
			err = f.Close()
		}
	}
	if !errors.Is(err, unix.ENOSPC) {
		v.t.Fatal(err)
	}
	return func() {
		v.t.Helper()
		if dir == "" {
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			v.t.Fatal(err)
		}
	}
}

// lastAnswer is the last acknowledgement or refusal.
func (p *process) lastAnswer() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}
