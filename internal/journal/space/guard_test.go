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

func TestNothingIsDoneByNameInADirectoryThatWasReplaced(t *testing.T) {
	mem := vfs.NewMem(0)
	s := open(t, settings(mem, "/a/s"))
	disk := s.Disk()
	const seg, cur = "/a/s/pipelines/1.seg", "/a/s/pipelines/1.cur"
	calls := map[string]func() error{
		"open": func() error {
			f, err := disk.OpenFile(seg, vfs.Read, 0)
			if err == nil {
				err = f.Close()
			}
			return err
		},
		"create": func() error {
			f, err := disk.OpenFile("/a/s/pipelines/new.seg", vfs.Create, 0o600)
			if err == nil {
				err = f.Close()
			}
			return err
		},
		"mkdir":  func() error { return disk.Mkdir("/a/s/pipelines/traces", 0o750) },
		"rename": func() error { return disk.Rename(cur, "/a/s/pipelines/2.cur") },
		"remove": func() error { return disk.Remove(seg) },
	}
	put(t, mem, seg, 4096)
	put(t, mem, cur, 4096)
	kept, err := disk.OpenFile(seg, vfs.Write, 0)
	must(t, err)
	must(t, mem.Rename("/a/s", "/a/moved"))
	other := open(t, settings(mem, "/a/s")) // somebody else starts there
	put(t, mem, seg, 4096)
	put(t, mem, cur, 4096)
	before := allocated(t, mem, "/a/s")
	for what, call := range calls {
		if err := call(); !errors.Is(err, space.ErrDetached) {
			t.Errorf("%s: %v", what, err)
		}
	}
	equal(t, "what the other has", allocated(t, mem, "/a/s"), before)
	if _, err := kept.WriteVAt([][]byte{[]byte("x")}, 0); err != nil { // what is open is ours
		t.Error(err)
	}
	must(t, kept.Close())
	must(t, other.Close())
	must(t, mem.Rename("/a/s", "/a/other"))
	must(t, mem.Rename("/a/moved", "/a/s")) // it stays so until the next start
	if err := calls["remove"](); !errors.Is(err, space.ErrDetached) {
		t.Errorf("moved back: %v", err)
	}
	must(t, s.Close())

	s = open(t, settings(mem, "/a/s"))
	disk = s.Disk()
	for _, what := range []string{"open", "create", "mkdir", "rename", "remove"} {
		must(t, calls[what]())
	}
	must(t, s.Close())
}

func TestADiskThatDoesNotSayWhereTheDirectoryIsIsAskedAllTheSame(t *testing.T) {
	faulty := vfs.NewFaulty(vfs.NewMem(0))
	s := open(t, settings(faulty, dir))
	put(t, faulty, dir+"/pipelines/1.seg", 4096)
	faulty.Plan(vfs.Rule{Call: "stat *", Err: syscall.EIO})
	must(t, s.Disk().Remove(dir+"/pipelines/1.seg"))
	if faulty.Hits() == 0 {
		t.Error("the fault never happened")
	}
	faulty.Plan()
	must(t, s.Close())
}
