// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package drill

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
)

// maxScrape bounds what is read of the metrics, in bytes.
const maxScrape = 16 << 20

// doubled is what the collector itself counts as sent again although it may have been taken.
const doubled = "holdfast_failover_possible_duplicate_items_total"

var client = &http.Client{Timeout: 10 * time.Second}

// scrape reads the child's metrics.
func (s *stage) scrape(ctx context.Context) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.metrics()+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("read metrics: %w", err)
	}
	defer resp.Body.Close() // it was read
	return io.ReadAll(io.LimitReader(resp.Body, maxScrape))
}

// sum adds up the series of a name.
func sum(scrape []byte, name string) (total int64) {
	for l := bufio.NewScanner(bytes.NewReader(scrape)); l.Scan(); {
		rest, found := strings.CutPrefix(l.Text(), name)
		at := strings.LastIndexByte(rest, ' ')
		if !found || at < 0 || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		if v, err := strconv.ParseFloat(rest[at+1:], 64); err == nil {
			total += int64(v)
		}
	}
	return total
}

// atRisk adds to the bound of duplicates what may come twice if the child dies now: what is owed, for that may be in
// flight, and what was delivered in the last moments, for its cursor may not be written yet; and what the collector
// counts itself, which a restart forgets (journal, G9: 100 ms, and on a slow disk the time of twenty cursor writes, as
// the disk of a machine with a desktop on it may be).
func (s *stage) atRisk(ctx context.Context) (*snapshot, error) {
	const moments = 1 // seconds; the time of these questions is in it
	text, err := s.scrape(ctx)
	if err != nil {
		return nil, err
	}
	n := s.look(ctx)
	s.bound += int64(n.books().Queued) + sum(text, doubled) + moments*itemsPerSecond
	return n, nil
}

// end takes the child's books, stops everything in order and returns the books.
func (s *stage) end(ctx context.Context) (*ledger.Metrics, error) {
	text, err := s.scrape(ctx)
	if err != nil {
		return nil, err
	}
	s.bound += sum(text, doubled)
	if err := os.WriteFile(s.path("metrics.txt"), text, 0o600); err != nil {
		return nil, err
	}
	s.unwatch()
	s.watcher.Wait() // the end of the process is not news
	code, err := s.child.stop(ctx)
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
