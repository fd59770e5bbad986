// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package disk_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/drill/disk"
)

// TestMain is also the program that is started on a disk: it writes a file, and syncs it if it can.
func TestMain(m *testing.M) {
	name := os.Getenv("HOLDFAST_DISK_TEST")
	if name == "" {
		os.Exit(m.Run())
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err == nil {
		_, err = f.Write(bytes.Repeat([]byte("x"), 1<<20))
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		os.Stdout.WriteString(err.Error())
		os.Exit(1)
	}
	os.Stdout.WriteString("written")
}

func open(t *testing.T, o disk.Options) *disk.Disk {
	t.Helper()
	d, err := disk.Open(o)
	if err != nil {
		line := "SKIP disks of a drill's own: missing namespace or filter: " + err.Error()
		if os.Getenv("HOLDFAST_NO_SKIP") == "1" {
			t.Fatal(line)
		}
		t.Skip(line)
	}
	t.Cleanup(d.Close)
	return d
}

func write(t *testing.T, d *disk.Disk, name string) (said string, took time.Duration) {
	t.Helper()
	d.Do(func() {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), "HOLDFAST_DISK_TEST="+name)
		began := time.Now()
		out, err := cmd.Output()
		took = time.Since(began)
		said = string(out)
		if err != nil && said == "" {
			said = err.Error()
		}
	})
	return said, took
}

func TestAFullDiskIsFullForThoseWhoAreStartedOnItAndForNobodyElse(t *testing.T) {
	dir := t.TempDir()
	d := open(t, disk.Options{Dir: dir, MiB: 8})
	name := filepath.Join(dir, "queue")
	if said, _ := write(t, d, name); said != "written" {
		t.Fatal(said)
	}
	if _, err := os.Stat(name); err == nil {
		t.Error("what is written there is seen outside")
	}
	if taken, err := d.Fill(); err != nil || taken < 6<<20 || taken > 7<<20 {
		t.Errorf("%d bytes were taken: %v", taken, err)
	}
	if said, _ := write(t, d, name+"2"); !strings.Contains(said, "no space left") {
		t.Errorf("on a full disk: %s", said)
	}
	if err := d.Free(); err != nil {
		t.Error(err)
	}
	if said, _ := write(t, d, name+"2"); said != "written" {
		t.Error(said)
	}
}

func TestASyncOnASlowDiskTakesLonger(t *testing.T) {
	d := open(t, disk.Options{Slow: true})
	name := filepath.Join(t.TempDir(), "queue")
	if said, _ := write(t, d, name); said != "written" || d.Hits() != 0 {
		t.Fatalf("%s, %d syncs waited", said, d.Hits())
	}
	const delay = 300 * time.Millisecond
	d.SetDelay(delay)
	if said, took := write(t, d, name); said != "written" || took < delay || d.Hits() != 1 {
		t.Errorf("%s after %s, %d syncs waited", said, took, d.Hits())
	}
}

func TestADiskFailsAsManySyncsAsItIsToldOfTheFilesItIsTold(t *testing.T) {
	d := open(t, disk.Options{Slow: true})
	dir := t.TempDir()
	segment, other := filepath.Join(dir, "a.seg"), filepath.Join(dir, "b.cur")
	check := func(name, want string) {
		t.Helper()
		if said, _ := write(t, d, name); !strings.Contains(said, want) {
			t.Errorf("%s: %s, want %s", filepath.Base(name), said, want)
		}
	}
	d.FailSyncs(1, ".seg")
	check(other, "written")
	check(segment, "input/output error")
	check(segment, "written")
	d.FailSyncs(-1, "")
	for range 3 {
		check(segment, "input/output error")
		check(other, "input/output error")
	}
	d.FailSyncs(0, "")
	check(other, "written")
	if d.Hits() != 7 {
		t.Errorf("%d syncs failed, want 7", d.Hits())
	}
}

func TestADiskIsGoneWithWhoeverMadeIt(t *testing.T) {
	dir := t.TempDir()
	d := open(t, disk.Options{Dir: dir, MiB: 8, Slow: true})
	d.Close()
	d.Close()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil || strings.Contains(string(mounts), dir) {
		t.Errorf("%v\n%s", err, mounts)
	}
}
