// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package crash

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
)

const (
	mib = 1 << 20

	// The bounds of G10 (journal, section 17).
	maxMemory       = 128 * mib // at any time, whatever the backlog
	maxOpenTime     = time.Second
	maxOpenBytes    = 64 * mib
	openSegmentCost = 40 << 10  // bytes more per segment
	openEdges       = 128 << 10 // and for counting at both ends of what a cursor is owed (section 7)
	// The acceptance is about 4 GiB, where what sealed segments do not need makes up for the two slots of a cursor of 64 KiB
	// each, which recovery reads twice and the journal once. A smaller backlog has too few segments for that.
	openCursor   = 3 * 2 * 64 << 10
	openAccepted = 4096 * mib
)

// backlogBytes is how much waits: HOLDFAST_BACKLOG, as in 10GiB, or 2 GiB.
func backlogBytes(t *testing.T) int64 {
	t.Helper()
	text := os.Getenv("HOLDFAST_BACKLOG")
	if text == "" {
		if testing.Short() {
			return 128 * mib
		}
		return 2048 * mib
	}
	for suffix, unit := range map[string]int64{"GiB": 1024 * mib, "MiB": mib} {
		if digits, ok := strings.CutSuffix(text, suffix); ok {
			if n, err := strconv.ParseInt(digits, 10, 64); err == nil && n > 0 {
				return n * unit
			}
		}
	}
	t.Fatalf("HOLDFAST_BACKLOG=%q is no size like 10GiB", text)
	return 0
}

// Fault: D13, P3. Gibibytes wait, nobody takes them, and the process is killed. Neither filling up, nor opening, nor
// draining takes more memory than the bounds say, and opening reads a bounded part of it. Every record is delivered.
func TestMemoryStaysFlatUnderAHugeBacklog(t *testing.T) {
	for _, mode := range []struct {
		name   string
		synced bool
		size   int
		part   int64 // of the backlog
	}{
		{"synced, 64 KiB", true, 64 << 10, 1},
		{"unsynced, 64 KiB", false, 64 << 10, 4},
		{"unsynced, 1 KiB", false, 1 << 10, 8},
	} {
		t.Run(mode.name, func(t *testing.T) {
			flat(t, order{
				Dir: filepath.Join(place(t), "queue"), Synced: mode.synced, Size: mode.size, Bytes: backlogBytes(t) / mode.part,
				Timeout: 10 * time.Second, Destinations: []string{"near"}, Appenders: 16,
			})
		})
	}
}

func flat(t *testing.T, o order) {
	o.CapMiB = o.Bytes/mib*5/4 + 1024 // segments of the usual size
	needRoom(t, o.Dir, o.CapMiB*mib)
	began := time.Now()
	p := launch(t, o, nil)
	p.opened()
	p.longer("filled", 30*time.Minute)
	filling := time.Since(began)
	memory := p.memory()
	p.kill()
	records := o.Bytes / int64(o.Size)
	t.Logf("%d MiB in %d records appended in %.1f s (%.0f MB/s); at most %d MiB of memory", o.Bytes/mib, records,
		filling.Seconds(), float64(o.Bytes)/1e6/filling.Seconds(), memory/mib)
	bounded(t, "filling up", memory)

	// Killed in the middle of a group, and perhaps before the segment before was sealed: these are read, each of them
	// twice if what is there of the group looks like damage.
	more := o
	more.Bytes = 8 * mib
	p = openCold(t, more, 4*maxOpenBytes)
	p.await("filled")
	pause(1500 * time.Millisecond) // the keeper seals what is to be sealed
	p.kill()
	records += more.Bytes / int64(o.Size)

	// Killed at rest.
	o.Appenders, o.Consumers, o.Idle = 0, map[string]string{"near": "all"}, true
	p = openCold(t, o, maxOpenBytes)
	sum := p.opened()
	if n := sum.Books[0].Records; n < records || n > records+2*16 {
		t.Errorf("%d records are there, %d were acknowledged", n, records)
	}
	began = time.Now()
	p.tell("consume on")
	for left := sum.Books[0].Records; left > 0; {
		pause(200 * time.Millisecond)
		_, now := p.show()
		if left = now.Books[0].Records; time.Since(began) > 30*time.Minute {
			t.Fatalf("%d records are left after half an hour", left)
		}
	}
	draining := time.Since(began)
	memory = p.memory()
	t.Logf("drained in %.1f s (%.0f MB/s); at most %d MiB of memory", draining.Seconds(),
		float64(o.Bytes)/1e6/draining.Seconds(), memory/mib)
	bounded(t, "draining", memory)
	_, now := p.show()
	for _, wrong := range append(unbalanced(now.Books, forgiven(o.Synced)...), append(p.complaints(), p.alarms()...)...) {
		t.Error(wrong)
	}
	p.close()
}

// openCold starts a process on a directory that is not in the page cache, and checks what opening costs: reading bytes and
// something for each segment.
func openCold(t *testing.T, o order, bytes int64) *process {
	t.Helper()
	segments := coldly(t, o)
	maxBytes := bytes + int64(openSegmentCost*segments) + openEdges
	if o.Bytes < openAccepted {
		maxBytes += int64(openCursor * len(o.Destinations))
	}
	p := launch(t, o, nil)
	p.await("open ")
	took := time.Since(p.started) // of the process, not only of the journal
	sum := p.opened()
	t.Logf("open %s after the start of the process (journal: %s), with %d segments; %.1f MiB read, %.1f MiB allowed",
		took.Round(time.Millisecond), sum.Took.Round(time.Millisecond), segments, float64(sum.Read)/mib, float64(maxBytes)/mib)
	if took > maxOpenTime && !raceDetector {
		t.Errorf("it was open %s after its start", took)
	}
	if sum.Read > maxBytes {
		t.Errorf("%d bytes were read to open it, %d are allowed", sum.Read, maxBytes)
	}
	return p
}

func bounded(t *testing.T, what string, memory int64) {
	t.Helper()
	if raceDetector {
		t.Log("SKIP memory: the race detector takes its own")
		return
	}
	if memory <= 0 || memory > maxMemory {
		t.Errorf("%s took %d MiB of memory at its peak, %d are allowed", what, memory/mib, maxMemory/mib)
	}
}

// memory is the most the process has had so far.
func (p *process) memory() int64 {
	p.t.Helper()
	mark := p.mark()
	p.tell("memory")
	n, err := strconv.ParseInt(p.await("memory ", mark), 10, 64)
	if err != nil {
		p.t.Fatal(err)
	}
	return n
}

// longer is await with another patience.
func (p *process) longer(prefix string, limit time.Duration) {
	p.t.Helper()
	if _, err := p.hope(prefix, limit); err != nil {
		p.t.Fatal(err)
	}
}

// coldly takes the journal's files out of the page cache and returns how many segments there are.
func coldly(t *testing.T, o order) (segments int) {
	t.Helper()
	dir := layout.Pipeline(o.Dir, "traces")
	names, err := filepath.Glob(filepath.Join(dir, layout.Segments, "*"+layout.SegmentSuffix))
	if err != nil || len(names) == 0 {
		t.Fatalf("no segments: %v", err)
	}
	cursors, err := filepath.Glob(filepath.Join(dir, layout.Cursors, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(cursors, names...) {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return len(names)
}

// needRoom skips where the volume has not so much.
func needRoom(t *testing.T, dir string, bytes int64) {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(dir), &st); err != nil {
		t.Fatal(err)
	}
	if free := int64(st.Bavail) * st.Bsize; free < bytes+1024*mib {
		skip(t, "huge backlog", strconv.FormatInt((bytes+1024*mib-free)/mib, 10)+" MiB of free space (HOLDFAST_BACKLOG and TMPDIR say how much, and where)")
	}
}
