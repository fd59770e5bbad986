// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package ledger_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
	"github.com/holdfast-telemetry/holdfast/internal/loadgen"
)

// begin makes a run in a directory, with one acknowledged request per signal in its notes.
func begin(t *testing.T) (dir string, maker *loadgen.Maker) {
	t.Helper()
	dir = t.TempDir()
	start, err := ledger.NewRun("tale", time.UnixMicro(base), 7)
	if err != nil {
		t.Fatal(err)
	}
	run, _, err := ledger.JoinRun(dir, start, item.Signals[:], 1)
	if err != nil {
		t.Fatal(err)
	}
	p, err := ledger.CreateProducer(dir, run.Name)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range item.Signals {
		a := ledger.Attempt{Signal: s, Producer: 1, Request: 1, Attempt: 1, First: 1, Last: 10}
		p.Invoked(a)
		p.Ended(a, ledger.Result{State: ledger.Acked, Code: "OK", Text: "tab\there, line\nthere, \x1b[31m"})
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, &loadgen.Maker{Run: "tale", BaseMicro: base, ItemBytes: 20}
}

func batch(s item.Signal) loadgen.Batch {
	return loadgen.Batch{Signal: s, Producer: 1, Request: 1, First: 1, Last: 10}
}

// take notes a request at a sink in dir.
func take(t *testing.T, dir, name string, end bool, bodies map[item.Signal][]byte) {
	t.Helper()
	c := item.NewChecker()
	s, err := ledger.CreateSink(dir, name, c)
	if err != nil {
		t.Fatal(err)
	}
	for _, signal := range item.Signals {
		if bodies[signal] == nil {
			continue
		}
		content, err := c.Read(signal, false, bodies[signal], nil)
		if err != nil {
			t.Fatal(err)
		}
		s.Arrived(time.Now(), 1, signal, content, true, "OK")
	}
	if end {
		err = s.Close()
	} else {
		err = s.Abandon()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func verify(t *testing.T, dir string, add func(n *ledger.Notes)) *ledger.Verdict {
	t.Helper()
	n, err := ledger.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if add != nil {
		add(n)
	}
	v, err := ledger.Verify(n, ledger.Options{AllPlaces: true, NoControl: true})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestNotesOfARunAreReadBack(t *testing.T) {
	dir, maker := begin(t)
	bodies := make(map[item.Signal][]byte)
	for _, s := range item.Signals {
		bodies[s] = maker.Proto(nil, batch(s))
	}
	take(t, dir, "primary", true, bodies)
	n, err := ledger.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(n.Tried) != 3 || len(n.Doubts) != 0 || n.Tried[0].Result.Text != "tab\there, line\nthere, \x1b[31m" {
		t.Errorf("notes %+v", n)
	}
	v := verify(t, dir, nil)
	if v.Outcome != ledger.Pass || v.Totals.Acked != 30 {
		t.Errorf("verdict:\n%s", v.Text())
	}
	if err := v.Write(dir); err != nil {
		t.Fatal(err)
	}
	back, err := ledger.ReadVerdict(dir)
	if err != nil || back.Outcome != ledger.Pass || back.Totals.Acked != 30 {
		t.Errorf("%v %+v", err, back)
	}
}

func TestANoteWithoutItsEndIsInconclusiveEvenAfterARestart(t *testing.T) {
	dir, maker := begin(t)
	first := map[item.Signal][]byte{item.Traces: maker.Proto(nil, batch(item.Traces)), item.Logs: maker.Proto(nil, batch(item.Logs))}
	take(t, dir, "primary", false, first)
	path := filepath.Join(dir, "sink-primary.tsv")
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// The kill came in the middle of a line.
	if err := os.WriteFile(path, append(old, "S\t17950"...), 0o600); err != nil {
		t.Fatal(err)
	}
	take(t, dir, "primary", true, map[item.Signal][]byte{item.Metrics: maker.Proto(nil, batch(item.Metrics))})
	v := verify(t, dir, nil)
	if v.Outcome != ledger.Inconclusive || v.Lost != 0 || v.Places[0].Items != 30 {
		t.Errorf("verdict:\n%s", v.Text())
	}
}

func TestAKillBetweenTwoLinesIsNoticedToo(t *testing.T) {
	dir, maker := begin(t)
	for i, s := range item.Signals {
		take(t, dir, "primary", i > 0, map[item.Signal][]byte{s: maker.Proto(nil, batch(s))})
	}
	if v := verify(t, dir, nil); v.Outcome != ledger.Inconclusive || v.Places[0].Items != 30 || len(v.Doubts) != 1 {
		t.Errorf("verdict:\n%s", v.Text())
	}
}

func TestASinkThatWasRestartedInOrderPasses(t *testing.T) {
	dir, maker := begin(t)
	for _, s := range item.Signals {
		take(t, dir, "primary", true, map[item.Signal][]byte{s: maker.Proto(nil, batch(s))})
	}
	if v := verify(t, dir, nil); v.Outcome != ledger.Pass {
		t.Errorf("verdict:\n%s", v.Text())
	}
}

func TestAnotherRunAtTheSameSinkIsLeftOut(t *testing.T) {
	dir, maker := begin(t)
	other := &loadgen.Maker{Run: "other", BaseMicro: base + 5, ItemBytes: 20}
	c := item.NewChecker()
	s, err := ledger.CreateSink(dir, "primary", c)
	if err != nil {
		t.Fatal(err)
	}
	for _, signal := range item.Signals {
		for _, m := range []*loadgen.Maker{other, maker, other} {
			content, err := c.Read(signal, false, m.Proto(nil, batch(signal)), nil)
			if err != nil {
				t.Fatal(err)
			}
			s.Arrived(time.Now(), 1, signal, content, true, "OK")
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if v := verify(t, dir, nil); v.Outcome != ledger.Pass || v.Places[0].Stored != 30 {
		t.Errorf("verdict:\n%s", v.Text())
	}
}

func TestASecondProducerProcessGoesOnWithTheRun(t *testing.T) {
	dir, _ := begin(t)
	start, err := ledger.NewRun("tale", time.UnixMicro(base+99), 8)
	if err != nil {
		t.Fatal(err)
	}
	run, first, err := ledger.JoinRun(dir, start, []item.Signal{item.Logs}, 3)
	if err != nil || run.BaseMicro != base || first[item.Logs] != 1 || run.Producers["logs"] != 4 {
		t.Errorf("%v %+v %v", err, run, first)
	}
	elsewhere, err := ledger.NewRun("elsewhere", time.UnixMicro(base), 8)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := ledger.JoinRun(dir, elsewhere, item.Signals[:], 1); err == nil {
		t.Error("two runs share a directory")
	}
	if _, err := ledger.NewRun("Not A Name", time.Now(), 1); err == nil {
		t.Error("any name is taken")
	}
}

func TestEmergencyFilesAreReadInEveryFormat(t *testing.T) {
	_, maker := begin(t)
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer encoder.Close()
	line := func(b []byte) []byte { return append(b, '\n') }
	framed := func(b []byte) []byte { return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...) }
	squeezed := func(b []byte) []byte { return framed(encoder.EncodeAll(b, nil)) }
	for name, form := range map[string]struct {
		json bool
		wrap func([]byte) []byte
	}{
		"JSON lines": {true, line}, "protobuf": {false, framed}, "JSON zstd": {true, squeezed}, "protobuf zstd": {false, squeezed},
	} {
		t.Run(name, func(t *testing.T) {
			dir, _ := begin(t)
			var file []byte
			for _, s := range item.Signals {
				body := maker.Proto(nil, batch(s))
				if form.json {
					body = maker.JSON(nil, batch(s))
				}
				file = append(file, form.wrap(body)...)
			}
			path := filepath.Join(dir, "emergency")
			read := func(content []byte) *ledger.Verdict {
				if err := os.WriteFile(path, content, 0o600); err != nil {
					t.Fatal(err)
				}
				return verify(t, dir, func(n *ledger.Notes) {
					if err := n.AddRecords(n.AddPlace(ledger.InFile, "file"), path); err != nil {
						t.Fatal(err)
					}
				})
			}
			if v := read(file); v.Outcome != ledger.Pass || v.Places[0].Items != 30 {
				t.Errorf("verdict:\n%s", v.Text())
			}
			// A torn last record is what a crash leaves: its items are missing, and that is all.
			if v := read(file[:len(file)-3]); v.Outcome != ledger.Fail || v.Lost != 10 || len(v.Failures) != 1 {
				t.Errorf("torn: verdict:\n%s", v.Text())
			}
			// Damage in the middle is told.
			broken := bytes.Clone(file)
			copy(broken[40:], bytes.Repeat([]byte{0xff}, 40))
			if v := read(broken); v.Outcome == ledger.Pass {
				t.Errorf("damaged: verdict:\n%s", v.Text())
			}
		})
	}
}

func TestShowTellsAnItemsLife(t *testing.T) {
	dir, maker := begin(t)
	take(t, dir, "primary", true, map[item.Signal][]byte{item.Logs: maker.Proto(nil, batch(item.Logs))})
	n, err := ledger.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"l/1/5", "tale/l/1/5"} {
		text, err := ledger.Show(n, id)
		if err != nil || strings.Count(text, "\n") != 3 || !strings.Contains(text, "invoked") || !strings.Contains(text, "acked") ||
			!strings.Contains(text, "at primary by connection 1 with items 1-10") {
			t.Errorf("%v\n%s", err, text)
		}
		if strings.ContainsAny(text, "\x1b\t") {
			t.Errorf("control characters reach the terminal: %q", text)
		}
	}
	for _, id := range []string{"l/1/11", "x/1/5", "other/l/1/5", "l/1", "", "l/0/5/"} {
		if text, err := ledger.Show(n, id); err == nil {
			t.Errorf("%q is shown: %s", id, text)
		}
	}
}

func TestReportsAreWrittenForMachinesToo(t *testing.T) {
	v := story{load: sent, sinks: sinks("primary", "S 150 1 s 1 1 1 4 1 OK -")}.verify(t)
	text, err := v.JSON()
	if err != nil {
		t.Fatal(err)
	}
	var back map[string]any
	if err := json.Unmarshal(text, &back); err != nil || back["outcome"] != "fail" || back["lost"] != 6.0 {
		t.Errorf("%v %s", err, text)
	}
	units, err := v.JUnit()
	if err != nil || !bytes.Contains(units, []byte(`failures="1"`)) || !bytes.Contains(units, []byte(`name="lost"`)) {
		t.Errorf("%v %s", err, units)
	}
	if v.Outcome.ExitCode() != 1 || ledger.Pass.ExitCode() != 0 || ledger.Inconclusive.ExitCode() != 2 {
		t.Error("exit codes")
	}
}

func TestDamagedNotesAreDoubtedNotTrusted(t *testing.T) {
	for name, text := range map[string]string{
		"no header":        "S\t1\t1\ts\t1\t1\t1\t10\t1\tOK\t\n",
		"short line":       "#holdfast-ledger 1 sink tale\nS\t1\t1\ts\nE\t9\t1\n",
		"huge span":        "#holdfast-ledger 1 sink tale\nS\t1\t1\ts\t1\t1\t1\t999999999999\t1\tOK\t\nE\t9\t1\n",
		"backwards span":   "#holdfast-ledger 1 sink tale\nS\t1\t1\ts\t1\t1\t9\t1\t1\tOK\t\nE\t9\t1\n",
		"unknown line":     "#holdfast-ledger 1 sink tale\nX\t1\t1\ts\nE\t9\t1\n",
		"unknown flag":     "#holdfast-ledger 1 sink tale\nS\t1\t1\ts\t1\t1\t1\t10\t1\tOK\tz\nE\t9\t1\n",
		"wrong line count": "#holdfast-ledger 1 sink tale\nS\t1\t1\ts\t1\t1\t1\t10\t1\tOK\t\nE\t9\t2\n",
		"empty":            "",
	} {
		s := story{load: sent, sinks: sinks("primary", stored), notes: func(t *testing.T, n *ledger.Notes) {
			if err := n.AddSink("second", strings.NewReader(text)); err != nil {
				t.Fatal(err)
			}
		}}
		if v := s.verify(t); v.Outcome != ledger.Inconclusive || v.Doubts[0].Quantity != "notes" {
			t.Errorf("%s:\n%s", name, v.Text())
		}
	}
}

// FuzzNotes: no notes, however damaged, make the ledger panic, and damaged ones never pass.
func FuzzNotes(f *testing.F) {
	f.Add([]byte("#holdfast-ledger 1 sink tale base=1\nS\t1\t1\ts\t1\t1\t1\t10\t1\tOK\tc\nF\t1\t1\ts\t1\t1\t1\tOK\nE\t9\t2\n"))
	f.Add([]byte("#holdfast-ledger 1 load tale\nI\t1\ts\t1\t1\t1\t1\t10\nR\t2\ts\t1\t1\t1\tpartial(3)\tOK\tx\nE\t9\t2\n"))
	f.Add([]byte("S\t1"))
	f.Fuzz(func(t *testing.T, text []byte) {
		n := story{load: sent, sinks: sinks("primary", stored)}.read(t)
		if err := n.AddSink("fuzz", bytes.NewReader(text)); err != nil {
			return
		}
		if err := n.AddProducer("fuzz", bytes.NewReader(text)); err != nil {
			return
		}
		v, err := ledger.Verify(n, ledger.Options{AllPlaces: true, NoControl: true})
		if err != nil {
			t.Fatal(err)
		}
		if len(n.Doubts) > 0 && v.Outcome == ledger.Pass {
			t.Fatalf("damaged notes pass:\n%s", v.Text())
		}
		_ = v.Text()
	})
}
