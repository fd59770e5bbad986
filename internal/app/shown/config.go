// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package shown

import (
	"strings"

	"github.com/holdfast-telemetry/holdfast/internal/reload"
	"github.com/holdfast-telemetry/holdfast/internal/status"
)

// Config fills in what the status says of configurations, as the reload driver has them.
func Config(s *status.Status, x *reload.Snapshot) {
	c := &s.Config
	c.State, c.Drift, c.Store, c.TrialSeconds = x.State, x.Drift, x.Store, x.TrialLeft.Seconds()
	c.ConfirmUntil = x.ConfirmUntil.UTC()
	c.Running.Generation, c.Running.Evidence = uint64(x.Running.Generation), string(x.Running.Evidence)
	c.Good = status.Generation{SHA256: x.Good.Hash, Generation: uint64(x.Good.Generation), Evidence: string(x.Good.Evidence)}
	c.Offered = status.Generation{SHA256: x.Offered.Hash, Generation: uint64(x.Offered.Generation)}
	for _, e := range x.Attempts {
		c.Attempts = append(c.Attempts, status.Attempt{
			Generation: uint64(e.Generation), Time: e.Time.UTC(), SHA256: e.Hash, Source: e.Source, State: string(e.State),
			Reason: string(e.Reason), Text: e.Text,
		})
	}
	switch {
	case x.Alarm != "":
		s.Degraded = append(s.Degraded, "the configuration: "+x.Alarm)
	case x.Drift && len(x.Attempts) > 0:
		s.Degraded = append(s.Degraded, "the configuration that runs is not the one that is offered: "+firstLine(x.Attempts[0].Text))
	case x.Drift:
		s.Degraded = append(s.Degraded, "the configuration that runs is not the one that is offered")
	}
	if x.Unsaved || x.StoreErr != "" {
		s.Degraded = append(s.Degraded, "the state directory cannot be written: a restart would not know the good configuration")
	}
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}
