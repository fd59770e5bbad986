// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package layout_test

import (
	"path"
	"strings"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
)

func TestNamesAreSafeAndComeBack(t *testing.T) {
	for id, want := range map[string]string{
		"traces":          "traces",
		"traces/input":    "traces~2finput",
		"otlp_grpc/a-b.c": "otlp_grpc~2fa-b.c",
		"..":              "~2e.",
		".hidden":         "~2ehidden",
		"a~b":             "a~7eb",
		"grün":            "gr~c3~bcn",
	} {
		if got := layout.Escape(id); got != want {
			t.Errorf("%q is written %q, want %q", id, got, want)
		}
		if got, ok := layout.Unescape(want); !ok || got != id {
			t.Errorf("%q is read %q, %v", want, got, ok)
		}
	}
	for _, name := range []string{"", "a~", "a~2", "a~zz", "a~61", "~~"} {
		if id, ok := layout.Unescape(name); ok {
			t.Errorf("%q is read as %q", name, id)
		}
	}
}

func TestLongNamesStayApart(t *testing.T) {
	a, b := strings.Repeat("x", 200)+"a", strings.Repeat("x", 200)+"b"
	ea, eb := layout.Escape(a), layout.Escape(b)
	if ea == eb || len(ea) > 100 || len(eb) > 100 {
		t.Errorf("%q and %q", ea, eb)
	}
	if _, ok := layout.Unescape(ea); ok {
		t.Error("a shortened name pretends to be whole")
	}
	if again := layout.Escape(ea); again != ea {
		t.Errorf("a shortened name leads elsewhere: %q", again)
	}
}

func TestSegmentNamesSortAndComeBack(t *testing.T) {
	for _, id := range []uint64{1, 42, 9_999_999_999, 12_345_678_901} {
		if got, ok := layout.SegmentID(path.Base(layout.Segment("seg", id))); !ok || got != id {
			t.Errorf("segment %d is read %d, %v", id, got, ok)
		}
	}
	if layout.Segment("seg", 42) != "seg/0000000042.seg" {
		t.Errorf("segment 42 is %s", layout.Segment("seg", 42))
	}
	for _, name := range []string{"0000000000.seg", "42.seg", "00000000042.seg", "000000004x.seg", "0000000042", ".seg"} {
		if id, ok := layout.SegmentID(name); ok {
			t.Errorf("%q is read as segment %d", name, id)
		}
	}
}
