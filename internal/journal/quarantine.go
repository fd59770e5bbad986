// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"github.com/holdfast-telemetry/holdfast/internal/journal/recovery"
	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
)

// quarantine keeps the bytes of a gap in bad/, for people, if there is room. It is no loss if that fails.
func (j *Journal) quarantine(v view, gap segment.Gap) {
	if gap.End <= gap.Off {
		return
	}
	bytes := int64(gap.End-gap.Off) + segment.BlockBytes // and a note; what it really takes the warden counts
	if err := j.ask(bytes); err != nil {
		j.event(Event{Level: Warn, Kind: Damaged, First: gap.First, Last: gap.Last, Err: err,
			Text: "damaged bytes of " + v.path + " are not copied to bad/: there is no room for them"})
		return
	}
	if err := recovery.Quarantine(j.disk, j.dir, v.path, gap, j.applySettings()); err != nil {
		j.event(Event{Level: Warn, Kind: Damaged, First: gap.First, Last: gap.Last, Err: err,
			Text: "damaged bytes of " + v.path + " could not be copied to bad/"})
	}
}
