// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package file_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pprofile"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.uber.org/goleak"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/file"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// limit is how long a test waits for what must happen.
const limit = 20 * time.Second

func config(path string, change func(*file.Config)) *file.Config {
	cfg := file.Default()
	cfg.Path = path
	if change != nil {
		change(cfg)
	}
	return cfg
}

func start(t testing.TB, cfg *file.Config) exporter.Exporter {
	t.Helper()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	e, err := file.Factory().New(exporter.Settings{ID: "file", Telemetry: telemetry.Nop()}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(context.Background(), componenttest.NewNopHost()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, e) })
	return e
}

func stop(t testing.TB, e exporter.Exporter) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := e.Stop(ctx); err != nil {
		t.Error(err)
	}
}

func send(t testing.TB, e exporter.Exporter, r *exporter.Request) exporter.Verdict {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return e.Send(ctx, r)
}

func deliver(t testing.TB, e exporter.Exporter, r *exporter.Request) {
	t.Helper()
	if v := send(t, e, r); v != exporter.Deliver() {
		t.Fatalf("verdict %+v", v)
	}
}

// span is one request with one span of the given name, as wire bytes.
func span(t testing.TB, name string) []byte {
	t.Helper()
	d := ptrace.NewTraces()
	s := d.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans().AppendEmpty()
	s.SetName(name)
	s.SetTraceID([16]byte{1, 2})
	b, err := (&ptrace.ProtoMarshaler{}).MarshalTraces(d)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// signals is one request of every signal, as wire bytes.
func signals(t testing.TB) map[otlp.Signal][]byte {
	t.Helper()
	m := pmetric.NewMetrics()
	m.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics().AppendEmpty().SetEmptyGauge().
		DataPoints().AppendEmpty().SetIntValue(7)
	l := plog.NewLogs()
	l.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords().AppendEmpty().Body().SetStr("line\nline \"resourceSpans\":")
	p := pprofile.NewProfiles()
	p.Dictionary().StringTable().Append("", "resourceSpans")
	p.ResourceProfiles().AppendEmpty().ScopeProfiles().AppendEmpty().Profiles().AppendEmpty().Samples().AppendEmpty()
	mb, err1 := (&pmetric.ProtoMarshaler{}).MarshalMetrics(m)
	lb, err2 := (&plog.ProtoMarshaler{}).MarshalLogs(l)
	pb, err3 := (&pprofile.ProtoMarshaler{}).MarshalProfiles(p)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	return map[otlp.Signal][]byte{otlp.Traces: span(t, "a"), otlp.Metrics: mb, otlp.Logs: lb, otlp.Profiles: pb}
}

func request(s otlp.Signal, parts ...[]byte) *exporter.Request {
	r := &exporter.Request{Signal: s, Items: uint32(len(parts)), Parts: parts}
	for _, p := range parts {
		r.Size += int64(len(p))
	}
	return r
}

// names reads the span names of a file; each record has one.
func names(t testing.TB, path string) []string {
	t.Helper()
	var out []string
	r, err := file.OpenReader(path, otlp.Traces)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	for {
		s, b, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		d, err := (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces(b)
		if err != nil || s != otlp.Traces {
			t.Fatalf("signal %s, %v", s, err)
		}
		out = append(out, d.ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0).Name())
	}
}

func same(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func TestWhatIsWrittenReadsBackInEveryFormat(t *testing.T) {
	for name, change := range map[string]func(*file.Config){
		"json":       func(*file.Config) {},
		"json zstd":  func(c *file.Config) { c.Compression = "zstd" },
		"proto":      func(c *file.Config) { c.Format = "proto" },
		"proto zstd": func(c *file.Config) { c.Format, c.Compression = "proto", "zstd" },
		"synced":     func(c *file.Config) { c.Synced = true },
		"level":      func(c *file.Config) { c.Compression, c.CompressionParams.Level = "zstd", 9 },
	} {
		t.Run(name, func(t *testing.T) {
			for s, b := range signals(t) {
				path := filepath.Join(t.TempDir(), "missing", s.String()+".x")
				e := start(t, config(path, change))
				deliver(t, e, request(s, b, nil, b))
				deliver(t, e, request(s, b))
				stop(t, e)
				r, err := file.OpenReader(path, s)
				if err != nil {
					t.Fatal(err)
				}
				for i := range 3 {
					got, body, err := r.Next()
					if err != nil || got != s || !bytes.Equal(body, b) {
						t.Fatalf("%s: record %d is %s, %d bytes, %v", s, i, got, len(body), err)
					}
				}
				if _, _, err := r.Next(); !errors.Is(err, io.EOF) {
					t.Errorf("%s: after the last record: %v", s, err)
				}
				if err := r.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestJSONIsOneExportRequestPerLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.jsonl")
	e := start(t, config(path, nil))
	all := signals(t)
	for _, s := range otlp.Signals {
		deliver(t, e, request(s, all[s]))
	}
	stop(t, e)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(b), "\n")
	if len(lines) != 5 || lines[4] != "" {
		t.Fatalf("%d lines: %q", len(lines), lines)
	}
	// The Collector's own readers.
	if _, err := (&ptrace.JSONUnmarshaler{}).UnmarshalTraces([]byte(lines[0])); err != nil {
		t.Error(err)
	}
	d, err := (&plog.JSONUnmarshaler{}).UnmarshalLogs([]byte(lines[2]))
	if err != nil || d.LogRecordCount() != 1 {
		t.Errorf("logs: %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestCompressedRequestsAreDecodedForJSONAndKeptForZstd(t *testing.T) {
	dir := t.TempDir()
	one, two := span(t, "one"), span(t, "two")
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	if _, err := w.Write(one); err != nil || w.Close() != nil {
		t.Fatal("gzip")
	}
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	frame := enc.EncodeAll(two, nil)
	_ = enc.Close()
	gz := &exporter.Request{Signal: otlp.Traces, Encoding: otlp.Gzip, Size: int64(len(one)), Parts: [][]byte{z.Bytes()}}
	zs := &exporter.Request{Signal: otlp.Traces, Encoding: otlp.Zstd, Size: int64(len(two)), Parts: [][]byte{frame}}
	for name, change := range map[string]func(*file.Config){
		"json":  func(*file.Config) {},
		"proto": func(c *file.Config) { c.Format = "proto" },
		"zstd":  func(c *file.Config) { c.Format, c.Compression = "proto", "zstd" },
	} {
		path := filepath.Join(dir, name)
		e := start(t, config(path, change))
		deliver(t, e, gz)
		deliver(t, e, zs)
		stop(t, e)
		same(t, name, names(t, path), "one", "two")
		if b, err := os.ReadFile(path); name == "zstd" && (err != nil || !bytes.Contains(b, frame)) {
			t.Error("the frame was touched")
		}
	}
}

func TestBytesThatAreNoRequestAreRejectedAndNotWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.jsonl")
	e := start(t, config(path, nil))
	for _, r := range []*exporter.Request{
		request(otlp.Traces, []byte("\xff\xff\xff")),
		request(otlp.Traces, span(t, "good"), []byte("\x0a\xff")),
		{Signal: otlp.Traces, Encoding: otlp.Gzip, Size: 3, Parts: [][]byte{[]byte("abc")}},
		request(0, []byte{1}),
	} {
		if v := send(t, e, r); v.Kind != exporter.Rejected || v.Err == nil {
			t.Errorf("verdict %+v", v)
		}
	}
	stop(t, e)
	same(t, "file", names(t, path))
}

func TestAnExistingFileIsContinued(t *testing.T) {
	for _, format := range []string{"json", "proto"} {
		path := filepath.Join(t.TempDir(), "out.x")
		for _, name := range []string{"one", "two"} {
			e := start(t, config(path, func(c *file.Config) { c.Format = format }))
			deliver(t, e, request(otlp.Traces, span(t, name)))
			stop(t, e)
		}
		same(t, format, names(t, path), "one", "two")
	}
}

// rotated lists the other files beside path, by age.
func rotated(t *testing.T, path string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		if e.Name() != filepath.Base(path) {
			out = append(out, e.Name())
		}
	}
	return out
}

func TestWithoutAppendAnExistingFileIsRenamedAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.jsonl")
	for _, name := range []string{"one", "two"} {
		e := start(t, config(path, func(c *file.Config) { c.Append = false }))
		deliver(t, e, request(otlp.Traces, span(t, name)))
		stop(t, e)
	}
	same(t, "present", names(t, path), "two")
	old := rotated(t, path)
	if len(old) != 1 || !strings.HasPrefix(old[0], "out-20") || !strings.HasSuffix(old[0], "-start.jsonl") {
		t.Fatalf("beside it: %q", old)
	}
	same(t, "aside", names(t, filepath.Join(filepath.Dir(path), old[0])), "one")
}

func TestAnUnfinishedOrForeignFileIsSetAsideWhole(t *testing.T) {
	half := func(t *testing.T, format string) []byte {
		path := filepath.Join(t.TempDir(), "x")
		e := start(t, config(path, func(c *file.Config) { c.Format = format }))
		deliver(t, e, request(otlp.Traces, span(t, "one"), span(t, "two")))
		stop(t, e)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b[:len(b)-3]
	}
	for name, c := range map[string]struct {
		format string
		found  []byte
	}{
		"json cut short":        {"json", half(t, "json")},
		"proto cut short":       {"proto", half(t, "proto")},
		"proto cut in a length": {"proto", append(half(t, "proto")[:0:0], 0, 0)},
		"json for proto":        {"proto", []byte("{\"resourceSpans\":[]}\n")},
		"something else":        {"json", []byte("hello\n")},
	} {
		path := filepath.Join(t.TempDir(), "out.x")
		if err := os.WriteFile(path, c.found, 0o600); err != nil {
			t.Fatal(err)
		}
		e := start(t, config(path, func(cfg *file.Config) { cfg.Format = c.format }))
		deliver(t, e, request(otlp.Traces, span(t, "new")))
		stop(t, e)
		same(t, name, names(t, path), "new")
		old := rotated(t, path)
		if len(old) != 1 || !strings.HasSuffix(old[0], "-damaged.x") {
			t.Fatalf("%s: beside it: %q", name, old)
		}
		if b, err := os.ReadFile(filepath.Join(filepath.Dir(path), old[0])); err != nil || !bytes.Equal(b, c.found) {
			t.Errorf("%s: %d bytes set aside, %v", name, len(b), err)
		}
	}
}

func TestTheReaderGoesOnAfterADamagedLineAndEndsAtATornRecord(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.jsonl")
	e := start(t, config(path, nil))
	deliver(t, e, request(otlp.Traces, span(t, "one")))
	stop(t, e)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	next := func(t *testing.T, content string, s otlp.Signal) (kinds []string) {
		path := filepath.Join(dir, "b")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := file.OpenReader(path, s)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Close() }()
		for {
			_, _, err := r.Next()
			var damaged *file.DamagedError
			switch {
			case errors.Is(err, io.EOF) && !errors.As(err, &damaged):
				return kinds
			case errors.As(err, &damaged):
				kinds = append(kinds, "damaged")
			case err != nil:
				t.Fatal(err)
			default:
				kinds = append(kinds, "good")
			}
			if len(kinds) > 10 {
				t.Fatal("no end")
			}
		}
	}
	g := string(good)
	same(t, "line", next(t, g+"{broken\n"+g, 0), "good", "damaged", "good")
	same(t, "no OTLP", next(t, "{\"a\":1}\n"+g, 0), "damaged", "good")
	same(t, "torn line", next(t, g+g[:len(g)-2], 0), "good", "damaged")
	same(t, "torn length", next(t, "\x00\x00\x00\x02\x0a\x00\x00\x00", otlp.Logs), "good", "damaged")
	same(t, "torn record", next(t, "\x00\x00\x00\x02\x0a", otlp.Logs), "damaged")
	same(t, "absurd length", next(t, "\xff\xff\xff\xff\x0a", otlp.Logs), "damaged")
	same(t, "unknown signal", next(t, "\x00\x00\x00\x02\x0a\x00\x00\x00\x00\x02\x0a\x00", 0), "damaged", "damaged")
	same(t, "bad frame", next(t, "\x00\x00\x00\x05\x28\xb5\x2f\xfd\x00", otlp.Logs), "damaged")
	same(t, "empty", next(t, "", 0))
}

func TestSeveralPipelinesShareOneFile(t *testing.T) {
	for _, synced := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "out.jsonl")
		e := start(t, config(path, func(c *file.Config) { c.Synced = synced }))
		const senders, each = 8, 40
		var wg sync.WaitGroup
		for range senders {
			wg.Go(func() {
				for range each {
					deliver(t, e, request(otlp.Traces, span(t, "s"), span(t, "s")))
				}
			})
		}
		wg.Wait()
		stop(t, e)
		if n := len(names(t, path)); n != senders*each*2 {
			t.Errorf("synced %v: %d records, want %d", synced, n, senders*each*2)
		}
	}
}

func TestAFileThatWasMovedAwayIsMadeAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dir", "out.jsonl")
	e := start(t, config(path, nil))
	deliver(t, e, request(otlp.Traces, span(t, "before")))
	if err := os.RemoveAll(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	deliver(t, e, request(otlp.Traces, span(t, "after")))
	same(t, "removed", names(t, path), "after")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	deliver(t, e, request(otlp.Traces, span(t, "later")))
	same(t, "moved", names(t, path+".1"), "after")
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	deliver(t, e, request(otlp.Traces, span(t, "last")))
	stop(t, e)
	same(t, "truncated", names(t, path), "last")
}

func TestDevicesAreWrittenToAndNeverRenamed(t *testing.T) {
	e := start(t, config("/dev/null", func(c *file.Config) {
		c.Append = false
		c.Synced = true
		mustUnmarshal(t, c, map[string]any{"rotation": map[string]any{"max_megabytes": 1}})
	}))
	big := bytes.Repeat(span(t, "x"), 40000)
	for range 3 {
		deliver(t, e, request(otlp.Traces, big))
	}
}

func TestALinkIsNotFollowed(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "link.jsonl")
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), path); err != nil {
		t.Fatal(err)
	}
	e, err := file.Factory().New(exporter.Settings{ID: "file", Telemetry: telemetry.Nop()}, config(path, nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(context.Background(), componenttest.NewNopHost()); err == nil {
		stop(t, e)
		t.Error("a link was followed")
	}
}

func TestWithoutCreateDirectoryAMissingOneIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing", "out.jsonl")
	e, err := file.Factory().New(exporter.Settings{ID: "file", Telemetry: telemetry.Nop()},
		config(path, func(c *file.Config) { c.CreateDirectory = false }))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(context.Background(), componenttest.NewNopHost()); !errors.Is(err, os.ErrNotExist) {
		stop(t, e)
		t.Errorf("start: %v", err)
	}
	if err := e.Stop(context.Background()); err != nil {
		t.Error(err)
	}
}

func mustUnmarshal(t testing.TB, cfg *file.Config, m map[string]any) {
	t.Helper()
	if err := confmap.NewFromStringMap(m).Unmarshal(cfg); err != nil {
		t.Fatal(err)
	}
}
