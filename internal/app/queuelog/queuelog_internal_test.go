// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package queuelog

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

func listening(t *testing.T) (*Lines, *Journals, *observer.ObservedLogs) {
	t.Helper()
	core, seen := observer.New(zap.InfoLevel)
	l := New(zap.New(core))
	return l, NewJournals(l, telemetry.NewRegistry()), seen
}

// A burst is one line at once and one with the sums of the rest, and nothing of it is left out.
func TestABurstOfDropsIsTwoLinesThatTellOfAllOfThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, e, seen := listening(t)
		tell := e.Of("file_storage", func(p string) string { return p })
		for i := range 1000 {
			tell(journal.Event{Kind: journal.Dropped, Level: journal.Warn, Pipeline: "traces", Destination: "otlp",
				Reason: "overflow", Records: 2, Items: 10, First: queue.Seq(2*i + 1), Last: queue.Seq(2*i + 2)})
		}
		l.Flush(time.Now(), false)
		if n := seen.Len(); n != 1 {
			t.Fatalf("%d lines at once, want 1", n)
		}
		time.Sleep(lineEvery)
		l.Flush(time.Now(), false)
		if n := seen.Len(); n != 2 {
			t.Fatalf("%d lines in all, want 2", n)
		}
		items := uint64(0)
		for _, entry := range seen.All() {
			if entry.Message != "Queue: records dropped" || entry.Level != zapcore.ErrorLevel {
				t.Errorf("%s %q", entry.Level, entry.Message)
			}
			items += entry.ContextMap()["items"].(uint64)
		}
		if items != 10000 {
			t.Errorf("the lines tell of %d items, want 10000", items)
		}
		if m := seen.All()[1].ContextMap(); m["first"] != uint64(3) || m["last"] != uint64(2000) {
			t.Errorf("the second line is about %v to %v, want 3 to 2000", m["first"], m["last"])
		}
		time.Sleep(lineEvery)
		l.Flush(time.Now(), false)
		l.Flush(time.Now(), true)
		if seen.Len() != 2 || len(l.mu.subjects) != 0 {
			t.Errorf("%d lines, %d subjects remembered after all was said", seen.Len(), len(l.mu.subjects))
		}
	})
}

func TestEveryKindOfEventHasItsWordsAndAlarmsAreCounted(t *testing.T) {
	_, e, seen := listening(t)
	tell := e.Of("file_storage/x", func(p string) string { return p + "@file_storage/x" })
	e.Register("traces@file_storage/x")
	cause := errors.New("EIO\x1b[2J")
	for _, c := range []struct {
		kind  journal.Kind
		level journal.Level
		want  string // level and words; empty: no line
	}{
		{journal.Opened, journal.Info, ""},
		{journal.Changed, journal.Info, ""}, // from full
		{journal.Changed, journal.Warn, ""}, // full
		{journal.Changed, journal.Alarm, "error Queue: disk error"},
		{journal.Changed, journal.Info, "info Queue: disk is back"},
		{journal.SetAside, journal.Warn, ""},
		{journal.Evicted, journal.Alarm, "error Queue: records dropped"},
		{journal.Damaged, journal.Alarm, "error Queue: damage found"},
		{journal.Condemned, journal.Alarm, "error Queue: disk error"},
		{journal.Parked, journal.Warn, "warn Queue parked"},
		{journal.Inherited, journal.Info, ""},
		{journal.Slow, journal.Alarm, "error Queue: disk error"},
		{journal.Slow, journal.Info, "info Queue: disk is back"},
		{journal.Noted, journal.Info, "info Queue: note"},
		{journal.Kind("of another day"), journal.Alarm, ""},
	} {
		before := seen.Len()
		counted := e.alarms("traces@file_storage/x", c.kind).Value()
		// A destination of its own, so that no line is held back.
		tell(journal.Event{Kind: c.kind, Level: c.level, Pipeline: "traces", Destination: fmt.Sprint(before, c.kind, c.level),
			Text: "it happened", Err: cause})
		got := ""
		if seen.Len() > before {
			entry := seen.All()[before]
			got = entry.Level.String() + " " + entry.Message
			if m := entry.ContextMap(); m["otelcol.pipeline.id"] != "traces@file_storage/x" || m["error"] != `EIO\x1b[2J` {
				t.Errorf("%s: fields %v", c.kind, m)
			}
		}
		if got != c.want {
			t.Errorf("%s at %d: %q, want %q", c.kind, c.level, got, c.want)
		}
		if known := slices.Contains(eventKinds, c.kind); known && c.level == journal.Alarm &&
			e.alarms("traces@file_storage/x", c.kind).Value() != counted+1 {
			t.Errorf("an alarm about %s is not counted", c.kind)
		}
	}
}

func TestADirectorysOwnTroubleHasALabelOfItsOwn(t *testing.T) {
	_, e, seen := listening(t)
	e.Of("file_storage", func(string) string { t.Error("asked for a pipeline"); return "" })(
		journal.Event{Kind: journal.Slow, Level: journal.Alarm})
	if e.alarms("@file_storage", journal.Slow).Value() != 1 || seen.Len() != 1 {
		t.Errorf("%d lines", seen.Len())
	}
}

// What is remembered of subjects is bounded; beyond the bound nothing is held back.
func TestMoreSubjectsThanAreRememberedAreStillTold(t *testing.T) {
	l, _, seen := listening(t)
	for i := range maxSubjects + 10 {
		l.note(subject{words: wordsNote, destination: fmt.Sprint(i)}, gathered{})
	}
	if len(l.mu.subjects) != maxSubjects || seen.Len() != maxSubjects+10 {
		t.Errorf("%d subjects, %d lines", len(l.mu.subjects), seen.Len())
	}
}
