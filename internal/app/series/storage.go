// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package series

import (
	"math"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// RegisterStorage shows one directory of journals under a name.
func RegisterStorage(m *telemetry.Registry, name string, take func() journal.StoreSnapshot) {
	shot := glanceAt(take)
	to := labelled{m, []string{"storage", name}}
	for _, kind := range []string{"segments", "cursors", "dead", "bad", "reserve", "foreign"} {
		to.gauge("disk_bytes", "Allocated bytes below the directory.",
			func() float64 { return float64(shot.get().DiskBytes[kind]) }, "kind", kind)
	}
	to.gauge("disk_limit_bytes", "Cap on everything below the directory.",
		func() float64 { return float64(shot.get().Limit) })
	to.gauge("disk_free_bytes", "What the volume has left.", func() float64 { return float64(shot.get().Free) })
	to.gauge("seconds_until_full", "At the pace of the last minutes; +Inf = it does not grow.", func() float64 {
		if d := shot.get().UntilFull; d > 0 {
			return d.Seconds()
		}
		return math.Inf(1)
	})
}

// Bounds of the histograms, in seconds and records.
var (
	secondBounds = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
	recordBounds = []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024}
)

// Observer feeds the histograms of the journals that take the appends of these pipelines.
func Observer(m *telemetry.Registry, pipelines []string) journal.Observer {
	type histograms struct{ append, sync, group *telemetry.Histogram }
	byPipeline := map[string]histograms{}
	for _, id := range pipelines {
		byPipeline[id] = histograms{
			m.Histogram("holdfast_journal_append_seconds", "From the hand-over to the commit of one record.",
				secondBounds, "pipeline", id),
			m.Histogram("holdfast_journal_sync_seconds", "One sync of a segment.", secondBounds, "pipeline", id),
			m.Histogram("holdfast_journal_group_records", "Records committed together.", recordBounds, "pipeline", id),
		}
	}
	observe := func(pipeline string, h func(histograms) *telemetry.Histogram, v float64) {
		if of, ok := byPipeline[pipeline]; ok { // a tail has none
			h(of).Observe(v)
		}
	}
	return journal.Observer{
		Append: func(pipeline string, d time.Duration) {
			observe(pipeline, func(h histograms) *telemetry.Histogram { return h.append }, d.Seconds())
		},
		Sync: func(pipeline string, d time.Duration) {
			observe(pipeline, func(h histograms) *telemetry.Histogram { return h.sync }, d.Seconds())
		},
		GroupRecords: func(pipeline string, n int) {
			observe(pipeline, func(h histograms) *telemetry.Histogram { return h.group }, float64(n))
		},
	}
}
