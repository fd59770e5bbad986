// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package space_test

import (
	"errors"
	"syscall"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/journal/space"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

func TestADirectoryThatWasReplacedIsNotWritten(t *testing.T) {
	make := func(disk vfs.FS, name string) { must(t, disk.Mkdir(name, 0o750)) }
	for what, replace := range map[string]func(disk *vfs.Mem){
		"renamed": func(disk *vfs.Mem) { must(t, disk.Rename("/a/s", "/a/moved")) },
		"replaced": func(disk *vfs.Mem) {
			must(t, disk.Rename("/a/s", "/a/moved"))
			open(t, settings(disk, "/a/s")) // somebody else starts there
		},
		"replaced by a file": func(disk *vfs.Mem) {
			must(t, disk.Rename("/a/s", "/a/moved"))
			put(t, disk, "/a/s", 4096)
		},
		"in a parent that was replaced": func(disk *vfs.Mem) { must(t, disk.Rename("/a", "/b")) },
		"without LOCK":                  func(disk *vfs.Mem) { must(t, disk.Remove("/a/s/LOCK")) },
		"with another LOCK": func(disk *vfs.Mem) {
			must(t, disk.Remove("/a/s/LOCK"))
			put(t, disk, "/a/s/LOCK", 4096)
		},
		"without pipelines": func(disk *vfs.Mem) { must(t, disk.Rename("/a/s/pipelines", "/a/s/old")) },
		"with other pipelines": func(disk *vfs.Mem) {
			must(t, disk.Rename("/a/s/pipelines", "/a/s/old"))
			make(disk, "/a/s/pipelines")
		},
	} {
		for _, by := range []string{"Room", "Warden"} {
			disk := vfs.NewMem(0)
			s := open(t, settings(disk, "/a/s"))
			h := s.Share("traces", true)
			must(t, h.Room(small))
			if by == "Warden" {
				equal(t, "squeezed", s.Squeeze(), true)
			}
			replace(disk)
			before := disk.KillClone()
			if by == "Warden" {
				if err := s.Warden(); !errors.Is(err, space.ErrDetached) {
					t.Errorf("%s: the warden says %v", what, err)
				}
			}
			if err := h.Room(small); !errors.Is(err, space.ErrDetached) {
				t.Errorf("%s: room says %v", what, err)
			}
			if !errors.Is(s.Snapshot().Err, space.ErrDetached) {
				t.Errorf("%s: the snapshot says %v", what, s.Snapshot().Err)
			}
			if by == "Warden" && s.Restore() || by == "Room" && s.Squeeze() {
				t.Errorf("%s: RESERVE is touched", what)
			}
			equal(t, "what is on the disk", allocated(t, disk, "/"), allocated(t, before, "/"))
			must(t, s.Close())
		}
	}
}

func TestADirectoryThatWasReplacedStaysSoUntilTheNextStart(t *testing.T) {
	disk := vfs.NewMem(0)
	s := open(t, settings(disk, "/s"))
	h := s.Share("traces", true)
	must(t, disk.Rename("/s", "/moved"))
	if err := h.Room(1); !errors.Is(err, space.ErrDetached) {
		t.Fatal(err)
	}
	contains(t, h.Room(1).Error(), "/s is gone")
	must(t, disk.Rename("/moved", "/s")) // back, with who knows what written meanwhile
	if err := h.Room(1); !errors.Is(err, space.ErrDetached) {
		t.Errorf("it is trusted again: %v", err)
	}
	if err := s.Share("logs", true).Room(1); !errors.Is(err, space.ErrDetached) {
		t.Errorf("another journal may write: %v", err)
	}
	must(t, s.Close())
	must(t, open(t, settings(disk, "/s")).Share("traces", true).Room(1))
}

func TestTheWardenNoticesReplacedSegments(t *testing.T) {
	disk := vfs.NewMem(0)
	s := open(t, settings(disk, "/s"))
	j := journal(t, disk, "/s", "traces")
	h := s.Share("traces", true)
	must(t, disk.Rename(j+"/seg", j+"/old"))
	must(t, s.Warden())
	must(t, disk.Rename(j+"/old", j+"/seg"))
	if err := h.Room(1); !errors.Is(err, space.ErrDetached) {
		t.Errorf("room says %v", err)
	}
}

func TestADirectoryThatIsNotThereHasNoIdentity(t *testing.T) {
	disk := vfs.NewFaulty(vfs.NewMem(0))
	if id, err := space.Identify(disk, "/s"); err == nil || id != (space.Identity{}) {
		t.Errorf("it is %v, %v", id, err)
	}
	for _, call := range []string{"resolve *", "stat *", "usage *"} {
		disk.Plan(vfs.Rule{Call: call, Err: syscall.EIO})
		if _, err := space.Identify(disk, "/"); !errors.Is(err, syscall.EIO) {
			t.Errorf("%s fails: %v", call, err)
		}
		if _, err := space.Surroundings(disk, "/"); !errors.Is(err, syscall.EIO) {
			t.Errorf("surroundings, %s fails: %v", call, err)
		}
	}
}

func TestAJournalWhoseSegmentsWereReplacedIsDetachedAlone(t *testing.T) {
	disk := vfs.NewMem(0)
	s := open(t, settings(disk, "/s"))
	early := s.Share("traces", true) // seg/ is made after
	must(t, early.Room(1))
	j := journal(t, disk, "/s", "traces")
	must(t, early.Room(1))
	k := journal(t, disk, "/s", "logs")
	late := s.Share("logs", true)
	metrics := s.Share("metrics", true)
	must(t, disk.Rename(j+"/seg", j+"/old"))
	must(t, disk.Rename(k+"/seg", k+"/old"))
	must(t, disk.Mkdir(k+"/seg", 0o750))
	must(t, s.Warden())
	for _, h := range []*space.Share{early, late} {
		if err := h.Room(1); !errors.Is(err, space.ErrDetached) {
			t.Errorf("%s may write: %v", h.Pipeline(), err)
		}
	}
	must(t, metrics.Room(1))
	must(t, disk.Rename(j+"/old", j+"/seg")) // back, with who knows what written meanwhile
	if err := early.Room(1); !errors.Is(err, space.ErrDetached) {
		t.Errorf("it is trusted again: %v", err)
	}
	late.Close()
	must(t, s.Share("logs", true).Room(1)) // opened again, recovered from what is there
}
