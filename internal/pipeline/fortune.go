// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"sync"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
)

// fortune is how a destination with levels fares: what failed since its last delivery, at whatever level. With all
// levels down probes count: nothing else is sent, and it goes on failing.
type fortune struct {
	mu struct {
		sync.Mutex
		Health
	}
}

func (f *fortune) delivered(items int64, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.Failed, f.mu.LastDelivery = 0, now
	f.mu.Delivered += items
}

// failed notes an attempt or a probe that did not deliver. Throttling and refused data are no failures.
func (f *fortune) failed(v exporter.Verdict, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if failover.SpeaksAgainst(v.Kind) {
		f.mu.Failed++
		f.mu.LastFailure = now
	}
	if v.Err != nil {
		f.mu.LastError = v.Err.Error()
	}
}

func (f *fortune) health(label string) Health {
	f.mu.Lock()
	defer f.mu.Unlock()
	h := f.mu.Health
	h.Name = label
	return h
}

// health is how a destination fares: a connector as its levels do together.
func (x *dispatch) health() Health { return x.fortune.health(x.dest.Label) }
