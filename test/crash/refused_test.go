// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package crash

import (
	"encoding/binary"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
)

// backlog makes a directory in which records wait, and leaves it as a kill does, or as an end in order.
func backlog(t *testing.T, o order, s *story, inOrder bool) {
	t.Helper()
	o.Consumers = map[string]string{"near": "most"}
	p := launch(t, o, s)
	p.opened()
	p.acks(300)
	if inOrder {
		p.close()
	} else {
		p.kill()
	}
}

// reader runs a process that opens the directory and closes it again, and returns what it was told. Empty: it opened.
func reader(t *testing.T, o order, change ...func(*exec.Cmd)) (failure string) {
	t.Helper()
	o.Appenders, o.Consumers, o.Timeout = 0, nil, time.Second
	p := launch(t, o, nil, change...)
	if _, err := p.hope("open ", patience); err == nil {
		p.close()
		return ""
	}
	failure = p.await("failed ")
	if code := p.exit(); code != 1 {
		t.Errorf("exit code %d\n%s", code, p.errors.String())
	}
	return failure
}

// Fault: P13. Files of a newer format are refused by name, and nothing is touched: the newer program finds its journal as
// it left it. This one finds it too, once they are as they were.
func TestNewerFormatIsRefusedAndLeftAlone(t *testing.T) {
	for _, file := range []struct{ kind, glob string }{{"segment", "seg/*.seg"}, {"cursor", "cur/near.cur"}} {
		t.Run(file.kind, func(t *testing.T) {
			o := working(filepath.Join(place(t), "queue"), true)
			s := newStory(o)
			backlog(t, o, s, true)
			names, err := filepath.Glob(filepath.Join(layout.Pipeline(o.Dir, "traces"), file.glob))
			if err != nil || len(names) == 0 {
				t.Fatalf("no %s: %v", file.kind, err)
			}
			sort.Strings(names)
			name := names[len(names)/2]
			was, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, newer(was), 0o600); err != nil {
				t.Fatal(err)
			}
			pipelines := filepath.Join(o.Dir, layout.Pipelines)
			before := state(t, pipelines)
			for range 2 {
				failure := reader(t, o)
				if !strings.Contains(failure, name) || !strings.Contains(failure, "format 2") {
					t.Errorf("it does not name %s and its version: %s", name, failure)
				}
			}
			unchanged(t, "by an older program", before, state(t, pipelines))
			if err := os.WriteFile(name, was, 0o600); err != nil {
				t.Fatal(err)
			}
			settle(t, o, s)
			s.report(t)
		})
	}
}

// newer is a segment or a cursor as version 2 of the format might begin: the version is 2 and the checksums hold.
func newer(file []byte) []byte {
	file = append([]byte(nil), file...)
	le := binary.LittleEndian
	if string(file[:8]) == "HOLDSEG1" {
		le.PutUint16(file[8:], 2)
		le.PutUint32(file[4092:], checksum(file[:4092]))
		return file
	}
	for _, at := range []int{0, 65536} {
		if slot := file[at:]; string(slot[:8]) == "HOLDCUR1" {
			le.PutUint16(slot[16:], 2)
			le.PutUint32(slot[8:], checksum(slot[12:le.Uint32(slot[12:])]))
		}
	}
	return file
}

// What is not the journal's stays where it is and as it is, wherever it lies, over openings, kills and deletions.
func TestUnknownFilesAreLeftAlone(t *testing.T) {
	o := working(filepath.Join(place(t), "queue"), true)
	s := newStory(o)
	backlog(t, o, s, false)
	journal := layout.Pipeline(o.Dir, "traces")
	foreign := filepath.Join(o.Dir, "somebody-elses")
	files := []string{
		filepath.Join(o.Dir, ".holdfast"), filepath.Join(o.Dir, "receiver_filelog_"), filepath.Join(foreign, "deep", "file"),
		filepath.Join(o.Dir, layout.Pipelines, "README"), filepath.Join(journal, "notes.txt"),
		filepath.Join(journal, layout.Segments, "42.seg"), filepath.Join(journal, layout.Segments, "0000000042.seg.bak"),
		filepath.Join(journal, layout.Cursors, "near.cur~"), filepath.Join(journal, layout.Cursors, ".hidden"),
	}
	for _, name := range files {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte("not yours: "+name), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	was := state(t, o.Dir)
	if failure := reader(t, o); failure != "" {
		t.Fatalf("it does not open: %s", failure)
	}
	o.Inventory = true
	p := launch(t, o, s)
	p.await("told ")
	p.acks(200)
	p.kill()
	settle(t, o, s)
	s.report(t)
	is := state(t, o.Dir)
	for _, name := range files {
		if is[name] != was[name] {
			t.Errorf("%s\n\twas %s\n\tis  %s", name, was[name], is[name])
		}
	}
}

// nobody is a user who owns nothing.
const nobody = 41234

// asNobody runs the child as that user, from a place everybody may read.
func asNobody(t *testing.T) func(*exec.Cmd) {
	t.Helper()
	dir := place(t)
	binary := filepath.Join(dir, "child")
	from, err := os.Open(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := os.OpenFile(binary, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	return func(c *exec.Cmd) {
		c.Path, c.Args, c.Dir = binary, []string{binary}, dir
		c.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
}

// Fault: D14. A directory that is not ours to write is refused with the command that fixes it, and left as it is; nothing
// is kept in memory instead. Run as it is printed, the command does fix it.
func TestWrongOwnerIsToldTheCommandThatFixesIt(t *testing.T) {
	if os.Geteuid() != 0 {
		skip(t, "wrong owner", "root")
	}
	own := func(t *testing.T, name string) {
		t.Helper()
		if err := command("chown", "-R", "41234:41234", name); err != nil {
			t.Fatal(err)
		}
	}
	for name, spoil := range map[string]func(t *testing.T, dir string){
		"all of it is root's": func(*testing.T, string) {},
		"the directory is root's and closed": func(t *testing.T, dir string) {
			own(t, dir)
			if err := command("chown", "0:0", dir); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(dir, 0o700); err != nil {
				t.Fatal(err)
			}
		},
		"the files are root's": func(t *testing.T, dir string) {
			own(t, dir)
			if err := command("chown", "-R", "0:0", layout.Pipeline(dir, "traces")); err != nil {
				t.Fatal(err)
			}
		},
		"one segment is root's": func(t *testing.T, dir string) {
			own(t, dir)
			names, err := filepath.Glob(filepath.Join(layout.Pipeline(dir, "traces"), layout.Segments, "*"))
			if err != nil || len(names) == 0 {
				t.Fatal(names, err)
			}
			if err := command("chown", "0:0", names[0]); err != nil {
				t.Fatal(err)
			}
		},
		"the lock is root's": func(t *testing.T, dir string) {
			own(t, dir)
			if err := command("chown", "0:0", filepath.Join(dir, layout.LockFile)); err != nil {
				t.Fatal(err)
			}
		},
		"it cannot be written by its owner": func(t *testing.T, dir string) {
			own(t, dir)
			if err := command("chmod", "-R", "a-w", dir); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			nobodys := asNobody(t)
			o := working(filepath.Join(place(t), "queue"), true)
			s := newStory(o)
			backlog(t, o, s, false)
			spoil(t, o.Dir)
			before := state(t, filepath.Join(o.Dir, layout.Pipelines))
			failure := reader(t, o, nobodys)
			unchanged(t, "by somebody who may not", before, state(t, filepath.Join(o.Dir, layout.Pipelines)))
			_, fix, ok := strings.Cut(failure, "this would fix it: ")
			if !ok || !strings.Contains(failure, o.Dir) {
				t.Fatalf("no directory or no way out: %s", failure)
			}
			t.Log(failure)
			fix, _, _ = strings.Cut(fix, "; ")
			if err := command("sh", "-c", fix); err != nil {
				t.Fatal(err)
			}
			if failure := reader(t, o, nobodys); failure != "" {
				t.Errorf("after %q: %s", fix, failure)
			}
			settle(t, o, s)
			s.report(t)
		})
	}
}
