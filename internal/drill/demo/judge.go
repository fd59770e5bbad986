// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"bytes"
	"context"
	"os"
	"path/filepath"

	"github.com/holdfast-telemetry/holdfast/internal/drill/child"
	"github.com/holdfast-telemetry/holdfast/internal/ledger"
)

// atRisk adds to the bound of duplicates what may come twice if the child dies now: what is owed, for that may be in
// flight, and what was delivered in the last moments, for its cursor may not be written yet; and what the collector
// counts itself, which a restart forgets (journal, G9: 100 ms, and on a slow disk the time of twenty cursor writes, as
// the disk of a machine with a desktop on it may be).
func (s *stage) atRisk(ctx context.Context) (*snapshot, error) {
	const moments = 1 // seconds; the time of these questions is in it
	text, err := child.Scrape(ctx, s.metrics())
	if err != nil {
		return nil, err
	}
	n := s.look(ctx)
	s.bound += int64(n.books().Queued) + child.Sum(text, child.Doubled) + moments*itemsPerSecond
	return n, nil
}

// end takes the child's books, stops everything in order and returns the books.
func (s *stage) end(ctx context.Context) (*ledger.Metrics, error) {
	text, err := child.Scrape(ctx, s.metrics())
	if err != nil {
		return nil, err
	}
	s.bound += child.Sum(text, child.Doubled)
	if err := os.WriteFile(s.path("metrics.txt"), text, 0o600); err != nil {
		return nil, err
	}
	s.unwatch()
	s.watcher.Wait() // the end of the process is not news
	code, err := s.child.Stop(ctx)
	if err != nil {
		return nil, err
	}
	if code != 0 {
		s.doubt("holdfast ended with exit code %d", code)
	}
	if err := s.stopBackends(); err != nil {
		return nil, err
	}
	return ledger.ParseMetrics(bytes.NewReader(text))
}

// judge asks the ledger. Everything must have ended.
func (s *stage) judge(o ledger.Options) (*ledger.Verdict, error) {
	notes, err := ledger.Read(s.notes())
	if err != nil {
		return nil, err
	}
	if err := s.addParked(notes, o.Metrics); err != nil {
		return nil, err
	}
	o.MaxDuplicates = &s.bound
	o.NoControl = o.Control == nil
	v, err := ledger.Verify(notes, o)
	if err != nil {
		return nil, err
	}
	if v.Doubts = append(v.Doubts, s.doubts...); v.Outcome == ledger.Pass && len(v.Doubts) > 0 {
		v.Outcome = ledger.Inconclusive
	}
	return v, v.Write(s.notes())
}

// addParked shows the ledger the emergency file, where something is left in it.
func (s *stage) addParked(notes *ledger.Notes, m *ledger.Metrics) error {
	var parked int64
	for _, b := range m.Books() {
		parked += b.Parked
	}
	if parked == 0 {
		return nil
	}
	files, err := filepath.Glob(s.path("emergency", "telemetry*.jsonl"))
	if err != nil {
		return err
	}
	place := notes.AddPlace(ledger.InFile, "emergency")
	for _, f := range files {
		if err := notes.AddRecords(place, f); err != nil {
			return err
		}
	}
	return nil
}
