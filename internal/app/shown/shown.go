// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package shown turns what runs into what the status shows of it: destinations and routes, their books and levels.
//
// It stands beside the path, between the snapshots that pipelines and the switch give and the types that the page, the
// terminal and the command read. It copies, waits for nobody, and lets nothing through that must not be seen: foreign text
// is escaped, secrets in sources are left out.
package shown

import (
	"net/url"
	"strings"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/extension"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/status"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// Sources names where the configuration came from, without what may be secret in it.
func Sources(cfg *config.Config) []string {
	out := []string{}
	for _, s := range cfg.Sources {
		uri := s.URI
		if strings.HasPrefix(uri, "yaml:") {
			uri = "yaml:…"
		}
		if u, err := url.Parse(uri); err == nil && u.User != nil {
			uri = u.Redacted()
		}
		out = append(out, uri)
	}
	return out
}

// Destination is a destination of a pipeline; its queue, if it has one, is shown as in memory and ok.
func Destination(pipelineID string, d *pipeline.Shown, failing extension.Failing, now time.Time) status.Destination {
	h := extension.DestinationHealth{Failed: d.Health.Failed, LastFailure: d.Health.LastFailure}
	out := status.Destination{
		Pipeline: pipelineID, Name: d.Label, Books: Books(&d.Counts), Fails: failing.Fails(&h, now),
	}
	if d.Health.Failed > 0 && now.Sub(d.Health.LastFailure) < failing.Interval {
		out.Failed, out.LastError = d.Health.Failed, telemetry.Escape(d.Health.LastError)
	}
	if d.Queued {
		out.Queue = Queue(&d.Fill)
	}
	return out
}

// Queue is what waits, in a queue that is ok.
func Queue(f *queue.Fill) *status.Queue {
	return &status.Queue{
		Items: f.Items, Records: f.Records, Bytes: f.Bytes, Size: f.Size, Capacity: f.Capacity,
		OldestSeconds: f.Oldest.Seconds(), State: "ok",
	}
}

// Books are the books of a cursor; what was dropped is summed up over the reasons.
func Books(c *queue.Counts) status.Books {
	b := status.Books{
		Accepted: c.Accepted, Delivered: c.Delivered, Queued: c.Queued, Parked: c.Parked, Rejected: c.Rejected,
	}
	for _, n := range c.Dropped {
		b.Dropped += n
	}
	return b
}
