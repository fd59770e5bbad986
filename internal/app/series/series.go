// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package series shows on the metrics page what only the whole process knows: queues and their books, storages, what
// emergency files owe, and how long certificates are good for.
//
// It stands beside the path, between the snapshots of those who have something to show and the registry. Every series is
// there before it counts, and reading one never waits for the data path. It holds nothing that it shows: it is handed
// functions that read, and knows neither a configuration nor who runs.
package series

import (
	"sync"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// labelled registers the readers of one queue or storage.
type labelled struct {
	m      *telemetry.Registry
	labels []string
}

func (s labelled) with(labels ...string) labelled {
	return labelled{s.m, append(s.labels[:len(s.labels):len(s.labels)], labels...)}
}

func (s labelled) counter(name, help string, read func() float64, labels ...string) {
	s.m.CounterFunc("holdfast_journal_"+name, help, read, s.with(labels...).labels...)
}

func (s labelled) gauge(name, help string, read func() float64, labels ...string) {
	s.m.GaugeFunc("holdfast_journal_"+name, help, read, s.with(labels...).labels...)
}

// glanceAge is how old a shown snapshot may be: one scrape asks for dozens of series of one queue, and they should tell
// of one moment.
const glanceAge = 10 * time.Millisecond

// glance keeps a snapshot for a moment.
type glance[T any] struct {
	take func() T
	mu   struct {
		sync.Mutex
		at   time.Time
		last T
	}
}

func glanceAt[T any](take func() T) *glance[T] { return &glance[T]{take: take} }

func (g *glance[T]) get() T {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now := time.Now(); g.mu.at.IsZero() || now.Sub(g.mu.at) > glanceAge {
		g.mu.at, g.mu.last = now, g.take()
	}
	return g.mu.last
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
