// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package ledger_test

import (
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
)

// summed is a line of receipts with its sum.
func summed(text string) string {
	text = strings.TrimSuffix(text, "}")
	return fmt.Sprintf("%s,\"sum\":\"%08x\"}   \n", text, crc32.Checksum([]byte(text), crc32.MakeTable(crc32.Castagnoli)))
}

// spanLine is a request with one span of nobody's, in a line.
const spanLine = `{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"a"}]}]}]}` + "\n"

func TestOfAnEmergencyFileOnlyWhatIsOwedCounts(t *testing.T) {
	dir := t.TempDir()
	path, old := filepath.Join(dir, "telemetry.jsonl"), "telemetry-2026-11-20T10-15-00.000-size.jsonl"
	n := len(spanLine)
	receipts := summed(fmt.Sprintf(`{"n":1,"file":"telemetry.jsonl","offset":0,"length":%d,"items":1}`, n)) +
		summed(fmt.Sprintf(`{"n":2,"file":"telemetry.jsonl","offset":%d,"length":%d,"items":1}`, n, n)) +
		summed(fmt.Sprintf(`{"renamed":"telemetry.jsonl","to":%q}`, old)) +
		summed(fmt.Sprintf(`{"n":3,"file":"telemetry.jsonl","offset":0,"length":%d,"items":2}`, 2*n)) +
		summed(`{"settled":1,"how":"delivered"}`) + `{"n":4,"file":"telemetry.js`
	for name, text := range map[string]string{
		old: strings.Repeat(spanLine, 3), "telemetry.jsonl": strings.Repeat(spanLine, 4), "telemetry.jsonl.receipts": receipts,
		"telemetry.jsonl.lock": "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	notes := &ledger.Notes{Run: &ledger.Run{Name: "r"}}
	file := notes.AddPlace(ledger.InFile, "file")
	for _, name := range []string{old, "telemetry.jsonl", "telemetry.jsonl.receipts", "telemetry.jsonl.lock"} {
		if err := notes.AddRecords(file, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if len(notes.Doubts) > 0 {
		t.Errorf("doubts %q", notes.Doubts)
	}
	parked := notes.AddPlace(ledger.Parked, "emergency")
	if got := notes.Places[parked].Foreign; got != 3 || notes.Places[file].Foreign != 0 {
		t.Errorf("%d items are parked and %d in the file, want 3 and 0", got, notes.Places[file].Foreign)
	}

	// A receipt whose data is not all there, and a line that was tampered with, are doubts.
	if err := os.WriteFile(path, []byte(spanLine), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".receipts", []byte(strings.Replace(receipts, `"items":2`, `"items":1`, 1)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	notes = &ledger.Notes{Run: &ledger.Run{Name: "r"}}
	if err := notes.AddRecords(notes.AddPlace(ledger.InFile, "file"), path); err != nil {
		t.Fatal(err)
	}
	if len(notes.Doubts) != 2 {
		t.Errorf("doubts %q", notes.Doubts)
	}
}
