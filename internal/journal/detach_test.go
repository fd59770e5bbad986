// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// Fault: D10. What a whole process does then is shown in test/crash.
func TestAJournalThatLostItsDirectorySaysSoAtTheNextSegment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem(1 << 40)
		var alarms []string
		s := openStore(t, disk, small, func(o *journal.Options) {
			o.OnEvent = func(e journal.Event) {
				if e.Level == journal.Alarm {
					alarms = append(alarms, e.Text)
				}
			}
		})
		j := head(t, s, queue.Destination{Name: "a", Exporters: []string{"a"}, Stored: true})
		a := j.Attach("a")
		story := newStory(t)
		for range 10 {
			story.append(j, 10<<10) // nobody is attached in the story: it only counts
		}
		if err := disk.Rename(directory, directory+".moved"); err != nil {
			t.Fatal(err)
		}
		other := openStore(t, disk, small) // somebody else begins there
		o := head(t, other, queue.Destination{Name: "a", Exporters: []string{"a"}, Stored: true})
		o.Attach("a")
		theirs := newStory(t)
		for range 30 {
			theirs.append(o, 10<<10)
		}
		began := time.Now()
		for j.Snapshot().State != "detached" {
			if err := story.append(j, 10<<10); err != nil && !errors.Is(err, queue.ErrDisk) {
				t.Fatalf("an append says %v", err)
			}
			if time.Since(began) > time.Second {
				t.Fatalf("state %q after a second of appends", j.Snapshot().State)
			}
			pass(time.Millisecond)
		}
		if len(alarms) != 1 || !strings.HasPrefix(alarms[0], "detached") {
			t.Errorf("alarms: %q", alarms)
		}
		if len(theirs.refused) > 0 || o.Snapshot().State != "ok" {
			t.Errorf("the other journal is %q", o.Snapshot().State)
		}
		before := o.Snapshot().Segments
		got, wrong := drain(a) // all of it is in memory
		if wrong != "" || len(got) != len(story.accepted) {
			t.Errorf("%d records are delivered, %d were accepted; %s", len(got), len(story.accepted), wrong)
		}
		pass(5 * time.Second)
		if err := errors.Join(s.Close(context.Background()), other.Close(context.Background())); err != nil {
			t.Error(err)
		}
		if len(alarms) != 1 {
			t.Errorf("alarms: %q", alarms)
		}
		s = openStore(t, disk, small)
		j = head(t, s, queue.Destination{Name: "a", Exporters: []string{"a"}, Stored: true})
		got, wrong = drain(j.Attach("a"))
		if wrong != "" || len(got) != len(theirs.accepted) {
			t.Errorf("the other journal had %d records in %d segments, and %d are there; %s", len(theirs.accepted), before, len(got), wrong)
		}
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}
