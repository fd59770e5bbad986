// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package extension

import (
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// RegisterHealth makes holdfast_health{check}, 1 while the check live, ready or pipelines passes (compat, 6). status
// must return at once. A later call replaces status.
func RegisterHealth(reg *telemetry.Registry, status func() Health) {
	gauge := func(check string, passes func(*Health, time.Time) bool) {
		reg.GaugeFunc("holdfast_health", "Whether the health check passes: 1 or 0.", func() float64 {
			h := status()
			if passes(&h, time.Now()) {
				return 1
			}
			return 0
		}, "check", check)
	}
	gauge("live", func(h *Health, now time.Time) bool { return len(h.Stuck(now)) == 0 })
	var readiness Readiness
	gauge("ready", func(h *Health, now time.Time) bool {
		ok, _ := readiness.Ready(h, now)
		return ok
	})
	failing := DefaultFailing()
	gauge("pipelines", func(h *Health, now time.Time) bool {
		for i := range h.Destinations {
			if failing.Fails(&h.Destinations[i], now) {
				return false
			}
		}
		return true
	})
}
