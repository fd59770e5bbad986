// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package space_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal/space"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// childEnv makes the test binary another process that opens a directory: it says "open" and holds it until its
// standard input ends, or it says why not.
const childEnv = "HOLDFAST_TEST_SPACE_CHILD"

func TestMain(m *testing.M) {
	if at := os.Getenv(childEnv); at != "" {
		child(at)
		return
	}
	os.Exit(m.Run())
}

func child(at string) {
	set := settings(vfs.OS(), at)
	set.Owner = fmt.Sprintf("pid %d on this-host", os.Getpid())
	s, err := space.Open(context.Background(), set)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("open")
	_, _ = io.Copy(io.Discard, os.Stdin)
	fmt.Println("closed:", s.Close())
}

// process is a child that opens at.
type process struct {
	*exec.Cmd
	stdin io.WriteCloser
	said  *bufio.Reader
}

func start(t *testing.T, at string, as *syscall.Credential) *process {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	if as != nil { // the build's directory is closed to others
		exe = clone(t, exe)
	}
	p := &process{Cmd: exec.Command(exe, "-test.run=^$")}
	p.Env = append(os.Environ(), childEnv+"="+at)
	p.Dir = "/"
	p.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	p.Stderr = os.Stderr
	p.stdin, err = p.StdinPipe()
	must(t, err)
	out, err := p.StdoutPipe()
	must(t, err)
	p.said = bufio.NewReader(out)
	if err := p.Start(); err != nil {
		if as != nil {
			t.Skipf("SKIP: another user: %v", err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.stdin.Close()
		_ = p.Process.Kill()
		_ = p.Wait()
	})
	return p
}

func (p *process) line(t *testing.T) string {
	t.Helper()
	line, err := p.said.ReadString('\n')
	must(t, err)
	return strings.TrimSuffix(line, "\n")
}

// clone copies an executable to where everybody may run it.
func clone(t *testing.T, exe string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "child")
	for at := filepath.Dir(to); at != filepath.Clean(os.TempDir()); at = filepath.Dir(at) {
		must(t, os.Chmod(at, 0o755))
	}
	code, err := os.ReadFile(exe)
	must(t, err)
	must(t, os.WriteFile(to, code, 0o755))
	return to
}

func TestASecondProcessIsTurnedAway(t *testing.T) {
	at := filepath.Join(t.TempDir(), "store")
	first := start(t, at, nil)
	equal(t, "the first", first.line(t), "open")
	owner := fmt.Sprintf("pid %d on this-host", first.Process.Pid)

	set := settings(vfs.OS(), at)
	set.Timeout = 120 * time.Millisecond
	_, err := space.Open(t.Context(), set)
	var locked *space.LockedError
	if !errors.As(err, &locked) || locked.Here {
		t.Fatalf("opened what another process has: %v", err)
	}
	equal(t, "the owner", locked.Owner, owner)
	contains(t, start(t, at, nil).line(t), "in use by "+owner)

	first.stdin.Close() // and it stops
	equal(t, "the first", first.line(t), "closed: <nil>")
	must(t, first.Wait())
	s := open(t, set)
	contains(t, start(t, at, nil).line(t), "in use by pid 42 on here")
	must(t, s.Close())
	equal(t, "the next", start(t, at, nil).line(t), "open")
}

func TestTheLockDiesWithItsProcess(t *testing.T) {
	at := filepath.Join(t.TempDir(), "store")
	first := start(t, at, nil)
	equal(t, "the first", first.line(t), "open")
	must(t, first.Process.Kill())
	_ = first.Wait() // killed
	open(t, settings(vfs.OS(), at))
}

func TestOneDirectoryThroughALinkIsOne(t *testing.T) {
	base := t.TempDir()
	at, link := filepath.Join(base, "store"), filepath.Join(base, "link")
	must(t, os.Symlink(at, link))
	set := settings(vfs.OS(), link)
	if _, err := space.Open(t.Context(), set); err == nil {
		t.Fatal("a link that leads nowhere was opened")
	} else {
		contains(t, err.Error(), link, `mkdir -p "$(readlink -m `)
	}
	must(t, os.Mkdir(at, 0o750))
	set.Directory = filepath.Join(link, "below")
	s := open(t, set)
	equal(t, "the directory", s.Directory(), resolve(t, filepath.Join(at, "below")))
	for _, name := range []string{set.Directory, s.Directory()} {
		if id, err := space.Identify(vfs.OS(), name); err != nil || id != s.Identity() {
			t.Errorf("%s is %v, %v, want %v", name, id, err, s.Identity())
		}
	}
	_, err := space.Open(t.Context(), settings(vfs.OS(), s.Directory()))
	var locked *space.LockedError
	if !errors.As(err, &locked) || !locked.Here {
		t.Errorf("opened twice, through a link: %v", err)
	}
	if other, err := space.Identify(vfs.OS(), at); err != nil || other == s.Identity() {
		t.Errorf("the parent is the same: %v, %v", other, err)
	}
}

func resolve(t *testing.T, name string) string {
	t.Helper()
	name, err := filepath.EvalSymlinks(name)
	must(t, err)
	return name
}

func TestModesAreExactWhateverTheUmask(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	base := t.TempDir()
	set := settings(vfs.OS(), filepath.Join(base, "a", "store"))
	set.Perm = 0o775
	s := open(t, set)
	for name, mode := range map[string]fs.FileMode{"..": 0o775, ".": 0o775, "pipelines": 0o775, "LOCK": 0o600, "RESERVE": 0o600} {
		info, err := os.Stat(filepath.Join(s.Directory(), name))
		must(t, err)
		equal(t, "mode of "+name, info.Mode().Perm(), mode)
	}
}

func TestADirectoryThatIsNotWritableIsRefusedWithTheCommandThatHelps(t *testing.T) {
	base := t.TempDir()
	at := filepath.Join(base, "store")
	try := func() (text, user string) {
		t.Helper()
		if os.Geteuid() != 0 {
			_, err := space.Open(t.Context(), settings(vfs.OS(), at))
			return fmt.Sprint(err), fmt.Sprintf("%d:%d", os.Geteuid(), os.Getegid())
		}
		// root may write everywhere: another user tries
		return start(t, at, &syscall.Credential{Uid: 65534, Gid: 65534}).line(t), "65534:65534"
	}
	must(t, os.Chmod(filepath.Dir(base), 0o755))
	must(t, os.Chmod(base, 0o555))
	t.Cleanup(func() { _ = os.Chmod(base, 0o755) }) // so that it can be removed
	text, user := try()
	contains(t, text, at, "permission denied", base+" is dr-xr-xr-x",
		fmt.Sprintf("mkdir -p %[1]s && chown %[2]s %[1]s && chmod 0750 %[1]s", at, user))

	must(t, os.Chmod(base, 0o755))
	must(t, os.Mkdir(at, 0o555))
	must(t, os.Chmod(at, 0o555))
	text, user = try()
	contains(t, text, at, "permission denied", fmt.Sprintf("chown -R %s %s && chmod -R u+rwX %s", user, at, at))

	if os.Geteuid() == 0 { // somebody else's, and closed: it is not opened to everybody
		must(t, os.Remove(at))
		must(t, os.Mkdir(at, 0o700))
		text, user = try()
		contains(t, text, at+" is drwx------", fmt.Sprintf("chown -R %s %s && chmod -R u+rwX %s", user, at, at))
	}

	must(t, os.Chmod(base, 0o600))
	text, _ = try()
	contains(t, text, "permission denied", "chmod a+x "+base)
}

func TestARealDirectoryThatWasReplacedIsNotWritten(t *testing.T) {
	base := t.TempDir()
	at := filepath.Join(base, "store")
	s := open(t, settings(vfs.OS(), at))
	h := s.Share("traces", true)
	must(t, h.Room(1))
	must(t, os.Rename(at, at+".moved"))
	other := open(t, settings(vfs.OS(), at))
	if err := h.Room(1); !errors.Is(err, space.ErrDetached) {
		t.Errorf("room says %v", err)
	}
	if err := s.Warden(); !errors.Is(err, space.ErrDetached) {
		t.Errorf("the warden says %v", err)
	}
	must(t, other.Warden())
	must(t, os.RemoveAll(at))
	if err := other.Share("traces", true).Room(1); !errors.Is(err, space.ErrDetached) {
		t.Errorf("room in a removed directory says %v", err)
	}
}

func TestBooksEqualWhatARealDirectoryAllocates(t *testing.T) {
	disk, at := vfs.OS(), filepath.Join(t.TempDir(), "store")
	set := settings(disk, at)
	set.CapBytes = 16 * mib
	s := open(t, set)
	if kind := s.Snapshot().Volume; kind == "btrfs" || kind == "zfs" || kind == "bcachefs" {
		t.Skipf("SKIP: %s shows blocks when it likes", kind)
	}
	seed := rand.Uint64()
	all := actors(t, disk, at, s, seed, "gone", "traces", "logs")
	luck := rand.New(rand.NewPCG(seed, 99))
	for range 400 {
		all[luck.IntN(len(all))].step(func() {})
		if luck.IntN(20) == 0 {
			must(t, s.Warden())
		}
		if luck.IntN(20) == 0 {
			s.Squeeze()
		}
		if luck.IntN(10) == 0 {
			s.Restore()
		}
		if there := allocated(t, disk, at); there > 16*mib {
			t.Fatalf("seed %d: %d bytes under a cap of 16 MiB", seed, there)
		}
	}
	for range 3 {
		must(t, s.Warden())
	}
	equal(t, fmt.Sprintf("seed %d: the total", seed), s.Snapshot().Total(), allocated(t, disk, at))
	du, err := exec.Command("du", "-s", "-B1", at).Output()
	if err != nil {
		t.Skipf("SKIP: du: %v", err)
	}
	info, err := disk.Stat(at)
	must(t, err)
	var told int64
	if _, err := fmt.Sscan(string(du), &told); err != nil {
		t.Fatal(err)
	}
	equal(t, "what du says, less the directory's own name", told-info.Allocated, s.Snapshot().Total())
}
