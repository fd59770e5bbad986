// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"strings"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/snapshot"
)

// patience is how long one who asks waits for a snapshot.
const patience = 2 * time.Second

// Desk hands out statuses, judged, so that whoever asks is answered in time even if a snapshot never comes.
type Desk struct{ desk *snapshot.Desk[Status] }

// NewDesk returns a desk for what read copies; first is shown until the first copy is there.
func NewDesk(first Status, read func() Status) *Desk {
	Judge(&first)
	return &Desk{snapshot.NewDesk(first, func() Status {
		s := read()
		Judge(&s)
		return s
	})}
}

// Status is how the process is now; or how it was, with OverdueSeconds, if no snapshot comes within two seconds.
func (d *Desk) Status(ctx context.Context) Status {
	s, waited := d.desk.Take(ctx, patience)
	if waited > 0 {
		s.age(waited)
	}
	return s
}

// Wait waits for the snapshot being taken, or until ctx ends.
func (d *Desk) Wait(ctx context.Context) error { return d.desk.Wait(ctx) }

// age says that s is old. Others may be reading what s shares with them.
func (s *Status) age(waited time.Duration) {
	s.OverdueSeconds = waited.Seconds()
	s.Verdict = max(ParseVerdict(s.Verdict), Degraded).String()
	old := "what is shown is old: the next snapshot has been waited for for " + seconds(s.OverdueSeconds)
	s.Causes = append([]string{old}, s.Causes...)
	s.Sentences = append([]string{sentence(old)}, s.Sentences...)
	s.Headline = strings.Join(s.Sentences, " ")
}
