// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/configoptional"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// badDisk is the real disk with faults.
type badDisk struct {
	osDisk
	mu     sync.Mutex
	room   int64 // bytes until it is full; negative = no end
	faults map[string]error
	behind []byte        // what another process writes behind a torn record
	hold   chan struct{} // writes wait for it to close; nil = they do not
	calls  []string
}

func newBadDisk() *badDisk { return &badDisk{room: -1, faults: map[string]error{}} }

func (d *badDisk) set(op string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		delete(d.faults, op)
		return
	}
	d.faults[op] = err
}

func (d *badDisk) setRoom(n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.room = n
}

func (d *badDisk) do(op string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls = append(d.calls, op)
	return d.faults[op]
}

func (d *badDisk) Open(path string) (diskFile, error) {
	if err := d.do("open"); err != nil {
		return nil, err
	}
	f, err := d.osDisk.Open(path)
	if err != nil {
		return nil, err
	}
	return &badFile{f, d}, nil
}

func (d *badDisk) Rename(from, to string) error {
	if err := d.do("rename"); err != nil {
		return err
	}
	return d.osDisk.Rename(from, to)
}

func (d *badDisk) Remove(path string) error {
	if err := d.do("remove"); err != nil {
		return err
	}
	return d.osDisk.Remove(path)
}

func (d *badDisk) SyncDir(dir string) error {
	if err := d.do("syncdir"); err != nil {
		return err
	}
	return d.osDisk.SyncDir(dir)
}

type badFile struct {
	diskFile
	d *badDisk
}

func (f *badFile) Write(p []byte) (int, error) {
	if f.d.hold != nil {
		<-f.d.hold
	}
	if err := f.d.do("write"); err != nil {
		return 0, err
	}
	f.d.mu.Lock()
	room := f.d.room
	if room >= 0 {
		f.d.room = max(room-int64(len(p)), 0)
	}
	f.d.mu.Unlock()
	if room < 0 || int64(len(p)) <= room {
		return f.diskFile.Write(p)
	}
	n, err := f.diskFile.Write(p[:room])
	_, _ = f.diskFile.Write(f.d.behind)
	return n, errors.Join(err, syscall.ENOSPC)
}

func (f *badFile) Truncate(size int64) error {
	if err := f.d.do("truncate"); err != nil {
		return err
	}
	return f.diskFile.Truncate(size)
}

func (f *badFile) Sync() error {
	if err := f.d.do("sync"); err != nil {
		return err
	}
	return f.diskFile.Sync()
}

func startOn(t *testing.T, d disk, cfg *Config) *Exporter {
	t.Helper()
	e, err := newOn(exporter.Settings{ID: "file", Telemetry: telemetry.Nop()}, cfg, d)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(context.Background(), componenttest.NewNopHost()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { halt(t, e) })
	return e
}

func halt(t *testing.T, e *Exporter) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := e.Stop(ctx); err != nil {
		t.Error(err)
	}
}

func protoConfig(t *testing.T, change func(*Config)) *Config {
	cfg := Default()
	cfg.Path = filepath.Join(t.TempDir(), "out.bin")
	cfg.Format = formatProto
	if change != nil {
		change(cfg)
	}
	return cfg
}

// body is what record i holds; the writer does not care that it is no protobuf.
func body(i int) []byte { return bytes.Repeat([]byte{byte('a' + i%26)}, 100) }

func sendBody(e *Exporter, i int) exporter.Verdict {
	return e.Send(context.Background(), &exporter.Request{Signal: otlp.Logs, Size: 100, Parts: [][]byte{body(i)}})
}

func want(t *testing.T, v exporter.Verdict, kind exporter.Kind, cause error) {
	t.Helper()
	if v.Kind != kind || !errors.Is(v.Err, cause) {
		t.Errorf("verdict %s, %v; want %s, %v", v.Kind, v.Err, kind, cause)
	}
}

// holds checks that a file consists of exactly the records numbered.
func holds(t *testing.T, path string, numbers ...int) {
	t.Helper()
	r, err := OpenReader(path, otlp.Logs)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	for _, i := range numbers {
		if _, b, err := r.Next(); err != nil || !bytes.Equal(b, body(i)) {
			t.Errorf("%s: record %d: %.5q, %v", filepath.Base(path), i, b, err)
		}
	}
	if _, _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("%s: after the last record: %v", filepath.Base(path), err)
	}
}

// beside lists the rotated files of path, oldest first.
func beside(t *testing.T, path string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		if e.Name() != filepath.Base(path) {
			out = append(out, filepath.Join(filepath.Dir(path), e.Name()))
		}
	}
	slices.Sort(out)
	return out
}

func TestAFullDiskCostsNothingButTime(t *testing.T) {
	// Every cut of the second record, whatever fits of it.
	for room := range int64(104) {
		d := newBadDisk()
		cfg := protoConfig(t, nil)
		e := startOn(t, d, cfg)
		want(t, sendBody(e, 0), exporter.Delivered, nil)
		d.setRoom(room)
		want(t, sendBody(e, 1), exporter.Retry, syscall.ENOSPC)
		holds(t, cfg.Path, 0)
		want(t, sendBody(e, 2), exporter.Retry, syscall.ENOSPC)
		d.setRoom(-1)
		want(t, sendBody(e, 3), exporter.Delivered, nil)
		halt(t, e)
		holds(t, cfg.Path, 0, 3)
	}
}

func TestATornRecordIsCutBeforeTheNextOne(t *testing.T) {
	d := newBadDisk()
	cfg := protoConfig(t, nil)
	e := startOn(t, d, cfg)
	want(t, sendBody(e, 0), exporter.Delivered, nil)
	d.setRoom(50)
	d.set("truncate", syscall.EIO)
	want(t, sendBody(e, 1), exporter.Retry, syscall.EIO)
	d.setRoom(-1)
	want(t, sendBody(e, 2), exporter.Retry, syscall.EIO) // still not cut: nothing may be written behind it
	d.set("truncate", nil)
	want(t, sendBody(e, 3), exporter.Delivered, nil)
	halt(t, e)
	holds(t, cfg.Path, 0, 3)
}

func TestBytesOfAnotherProcessAreNotCut(t *testing.T) {
	d := newBadDisk()
	cfg := protoConfig(t, nil)
	e := startOn(t, d, cfg)
	want(t, sendBody(e, 0), exporter.Delivered, nil)
	d.behind = []byte("theirs")
	d.setRoom(10)
	want(t, sendBody(e, 1), exporter.Retry, syscall.ENOSPC)
	d.setRoom(-1)
	want(t, sendBody(e, 2), exporter.Delivered, nil)
	halt(t, e)
	holds(t, cfg.Path, 2)
	old := beside(t, cfg.Path)
	if len(old) != 1 {
		t.Fatalf("beside it: %q", old)
	}
	if b, err := os.ReadFile(old[0]); err != nil || !bytes.Contains(b, []byte("theirs")) {
		t.Errorf("set aside: %q, %v", b, err)
	}
}

func TestNothingIsAcknowledgedThatDidNotSync(t *testing.T) {
	d := newBadDisk()
	cfg := protoConfig(t, func(c *Config) { c.Synced = true })
	e := startOn(t, d, cfg)
	want(t, sendBody(e, 0), exporter.Delivered, nil)
	d.set("sync", syscall.EIO)
	want(t, sendBody(e, 1), exporter.Retry, syscall.EIO)
	d.mu.Lock()
	d.calls = nil
	d.mu.Unlock()
	d.set("sync", nil)
	want(t, sendBody(e, 2), exporter.Delivered, nil)
	halt(t, e)
	// The file that would not sync is never written or synced again; the next record began a new one.
	holds(t, cfg.Path, 2)
	old := beside(t, cfg.Path)
	if len(old) != 1 || !strings.HasSuffix(old[0], "-damaged.bin") {
		t.Fatalf("beside it: %q", old)
	}
	holds(t, old[0], 0, 1)
	if i, j := slices.Index(d.calls, "open"), slices.Index(d.calls, "write"); i != 0 || j < 0 {
		t.Errorf("calls after the failed sync: %q", d.calls)
	}
}

func TestAnAnswerWaitsForTheSyncAndOneSyncServesMany(t *testing.T) {
	d := newBadDisk()
	d.hold = make(chan struct{})
	cfg := protoConfig(t, func(c *Config) { c.Synced = true })
	e := startOn(t, d, cfg)
	const n = 32
	verdicts := make(chan exporter.Verdict, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { verdicts <- sendBody(e, i) })
	}
	select {
	case v := <-verdicts:
		t.Errorf("an answer before the write: %+v", v)
	default:
	}
	close(d.hold)
	wg.Wait()
	for range n {
		want(t, <-verdicts, exporter.Delivered, nil)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	last := len(d.calls) - 1
	if d.calls[last] != "sync" {
		t.Errorf("the last call is %q", d.calls[last])
	}
	syncs := 0
	for _, c := range d.calls {
		if c == "sync" {
			syncs++
		}
	}
	if syncs == 0 || syncs > n {
		t.Errorf("%d syncs for %d requests", syncs, n)
	}
}

func TestAStalledDiskDoesNotHoldASendBeyondItsDeadline(t *testing.T) {
	d := newBadDisk()
	d.hold = make(chan struct{})
	e := startOn(t, d, protoConfig(t, nil))
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	r := &exporter.Request{Signal: otlp.Logs, Size: 100, Parts: [][]byte{body(0)}}
	want(t, e.Send(ctx, r), exporter.Ambiguous, context.DeadlineExceeded) // in the writer's hands
	want(t, e.Send(ctx, r), exporter.Retry, context.DeadlineExceeded)     // behind it
	if err := e.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("stop: %v", err)
	}
	close(d.hold)
	<-e.stopped
}

func rotation(megabytes, backups int) func(*Config) {
	return func(c *Config) {
		c.Rotation = configoptional.Some(Rotation{MaxMegabytes: megabytes, MaxBackups: backups})
	}
}

// heavy is a record of a bit more than half a megabyte.
func heavy(e *Exporter) exporter.Verdict {
	b := bytes.Repeat([]byte("h"), 600_000)
	return e.Send(context.Background(), &exporter.Request{Signal: otlp.Logs, Size: int64(len(b)), Parts: [][]byte{b}})
}

func TestAFileNeverGrowsBeyondItsSize(t *testing.T) {
	cfg := protoConfig(t, rotation(1, 3))
	dir := filepath.Dir(cfg.Path)
	foreign := []string{"out-2026-11-20T10-15-00.000-size.bin.gz", "out-yesterday-size.bin", "out-2026-11-20T10-15-00.000-mine.bin", "other.bin"}
	for _, name := range foreign {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e := startOn(t, osDisk{}, cfg)
	for range 8 {
		want(t, heavy(e), exporter.Delivered, nil)
	}
	halt(t, e)
	ours := 0
	for _, path := range beside(t, cfg.Path) {
		if slices.Contains(foreign, filepath.Base(path)) {
			continue
		}
		ours++
		info, err := os.Stat(path)
		if err != nil || info.Size() > 1_000_000 || !strings.HasSuffix(path, "-size.bin") {
			t.Errorf("%s: %v, %v", path, info.Size(), err)
		}
	}
	if ours != 3 {
		t.Errorf("%d rotated files are kept, want 3", ours)
	}
	for _, name := range foreign {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Errorf("a file that is not ours: %v", err)
		}
	}
}

func TestARecordLargerThanTheSizeHasAFileOfItsOwn(t *testing.T) {
	cfg := protoConfig(t, rotation(1, 0))
	e := startOn(t, osDisk{}, cfg)
	b := bytes.Repeat([]byte("h"), 1_500_000)
	for range 2 {
		v := e.Send(context.Background(), &exporter.Request{Signal: otlp.Logs, Size: int64(len(b)), Parts: [][]byte{b}})
		want(t, v, exporter.Delivered, nil)
	}
	halt(t, e)
	if old := beside(t, cfg.Path); len(old) != 1 {
		t.Errorf("beside it: %q", old)
	}
}

func TestAFileThatCannotBeRenamedGoesOn(t *testing.T) {
	d := newBadDisk()
	cfg := protoConfig(t, rotation(1, 0))
	e := startOn(t, d, cfg)
	d.set("rename", syscall.EACCES)
	for range 4 {
		want(t, heavy(e), exporter.Delivered, nil)
	}
	d.set("rename", nil)
	want(t, heavy(e), exporter.Delivered, nil)
	halt(t, e)
	if old := beside(t, cfg.Path); len(old) != 1 {
		t.Errorf("beside it: %q", old)
	}
}

func TestASyncThatFailsAtARotationReachesTheAnswers(t *testing.T) {
	d := newBadDisk()
	d.hold = make(chan struct{})
	cfg := protoConfig(t, func(c *Config) { c.Synced = true; rotation(1, 0)(c) })
	e := startOn(t, d, cfg)
	d.set("sync", syscall.EIO)
	verdicts := make(chan exporter.Verdict, 2)
	var wg sync.WaitGroup
	for range 2 { // the second record rotates the file of the first, in one group or in two
		wg.Go(func() { verdicts <- heavy(e) })
	}
	close(d.hold)
	wg.Wait()
	for range 2 {
		want(t, <-verdicts, exporter.Retry, syscall.EIO)
	}
	d.set("sync", nil)
	want(t, sendBody(e, 0), exporter.Delivered, nil)
}

func TestOldFilesAreDeletedByAge(t *testing.T) {
	cfg := protoConfig(t, func(c *Config) {
		c.Rotation = configoptional.Some(Rotation{MaxMegabytes: 1, MaxDays: 2})
	})
	n := newNames(cfg.Path, false)
	now := time.Now()
	var paths []string
	for days := range 4 {
		path, err := n.free(osDisk{}, now.Add(-time.Duration(days)*24*time.Hour-time.Hour), becauseSize)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	halt(t, startOn(t, osDisk{}, cfg))
	for days, path := range paths {
		_, err := os.Stat(path)
		if gone := errors.Is(err, fs.ErrNotExist); gone != (days >= 2) {
			t.Errorf("%d days old: gone %v", days, gone)
		}
	}
}

func TestRotatedNamesAreReadBackAndNeverTakenTwice(t *testing.T) {
	at := time.Date(2026, 11, 20, 10, 15, 0, 0, time.UTC)
	for _, path := range []string{"/d/telemetry.jsonl", "/d/noext", "/d/.hidden", "/d/a-b.c.json"} {
		for _, local := range []bool{false, true} {
			n := newNames(path, local)
			name, err := n.free(osDisk{}, at, becauseSize)
			if err != nil {
				t.Fatal(err)
			}
			if got, ok := n.parse(filepath.Base(name)); !ok || !got.Equal(at) {
				t.Errorf("%s: parsed %v, %v", name, got, ok)
			}
		}
	}
	if name, _ := newNames("/d/telemetry.jsonl", false).free(osDisk{}, at, becauseSize); name != "/d/telemetry-2026-11-20T10-15-00.000-size.jsonl" {
		t.Errorf("name %q", name)
	}
	dir := t.TempDir()
	n := newNames(filepath.Join(dir, "x.json"), false)
	seen := map[string]bool{}
	for range 5 {
		name, err := n.free(osDisk{}, at, becauseSize)
		if err != nil || seen[name] {
			t.Fatalf("%q, %v", name, err)
		}
		seen[name] = true
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func BenchmarkSendProto(b *testing.B) {
	for _, synced := range []bool{false, true} {
		b.Run(fmt.Sprintf("synced=%v", synced), func(b *testing.B) {
			cfg := Default()
			cfg.Path, cfg.Format, cfg.Synced = filepath.Join(b.TempDir(), "out.bin"), formatProto, synced
			rotation(100, 1)(cfg)
			e, err := New(exporter.Settings{ID: "file", Telemetry: telemetry.Nop()}, cfg)
			if err != nil {
				b.Fatal(err)
			}
			if err := e.Start(context.Background(), componenttest.NewNopHost()); err != nil {
				b.Fatal(err)
			}
			r := &exporter.Request{Signal: otlp.Traces, Size: 295_000, Parts: [][]byte{make([]byte, 295_000)}}
			b.SetBytes(r.Size)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if v := e.Send(context.Background(), r); v.Kind != exporter.Delivered {
						b.Error(v.Err)
					}
				}
			})
			if err := e.Stop(context.Background()); err != nil {
				b.Error(err)
			}
		})
	}
}

func TestAFileOfTooManyRecordsIsNotContinued(t *testing.T) {
	cfg := protoConfig(t, nil)
	if err := os.WriteFile(cfg.Path, bytes.Repeat([]byte{0, 0, 0, 1, 'x'}, maxInspected+1), 0o600); err != nil {
		t.Fatal(err)
	}
	e := startOn(t, osDisk{}, cfg)
	want(t, sendBody(e, 1), exporter.Delivered, nil)
	halt(t, e)
	holds(t, cfg.Path, 1)
	if old := beside(t, cfg.Path); len(old) != 1 || !strings.HasSuffix(old[0], "-start.bin") {
		t.Errorf("beside it: %q", old)
	}
}
