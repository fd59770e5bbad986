// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package seedbed

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
)

// calm is how long nothing may arrive before a run counts as quiet.
const calm = 3 * time.Second

// pollEvery is how often conditions are looked at that no event announces.
const pollEvery = 50 * time.Millisecond

// Series is one scrape: series with labels as printed → value.
type Series map[string]float64

// Sum adds up the series of a name that have the given labels, in pairs; found says whether there is one.
func (s Series) Sum(name string, labels ...string) (sum float64, found bool) {
	for key, v := range s {
		bare, rest, _ := strings.Cut(key, "{")
		matches := bare == name
		for i := 0; matches && i+1 < len(labels); i += 2 {
			matches = strings.Contains(","+strings.TrimSuffix(rest, "}")+",", ","+labels[i]+"="+strconv.Quote(labels[i+1])+",")
		}
		if matches {
			sum, found = sum+v, true
		}
	}
	return sum, found
}

// Each returns the values of a name's series by one of their labels; what has the same label is added up.
func (s Series) Each(name, label string) map[string]float64 {
	out := map[string]float64{}
	for key, v := range s {
		bare, rest, _ := strings.Cut(key, "{")
		if bare != name {
			continue
		}
		_, after, found := strings.Cut(","+rest, ","+label+`="`)
		if found {
			value, _, _ := strings.Cut(after, `"`)
			out[value] += v
		}
	}
	return out
}

// Active is the active level of each signal that has a connector.
func (s Series) Active() map[string]float64 {
	return s.Each("otelcol_connector_failover_active_level", "signal")
}

// AllAt reports whether every signal's active level is the given one.
func (s Series) AllAt(level float64) bool {
	active := s.Active()
	for _, v := range active {
		if v != level {
			return false
		}
	}
	return len(active) > 0
}

// Scrape reads the collector's own metrics as text. It may be called by several goroutines.
func (b *Bed) Scrape(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.metrics()+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	return io.ReadAll(resp.Body)
}

// Books are what the collector says of itself. It may be called by several goroutines.
func (b *Bed) Books(ctx context.Context) (Series, error) {
	text, err := b.Scrape(ctx)
	if err != nil {
		return nil, err
	}
	out := Series{}
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		line := s.Text()
		cut := strings.LastIndexByte(line, ' ')
		if cut < 0 || strings.HasPrefix(line, "#") {
			continue
		}
		if v, err := strconv.ParseFloat(line[cut+1:], 64); err == nil {
			out[line[:cut]] = v
		}
	}
	return out, nil
}

// Until polls a condition on the collector's own metrics that no event announces. The error names what was waited for,
// and shows the failover lines so far.
func (b *Bed) Until(ctx context.Context, limit time.Duration, what string, ok func(Series) bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if s, err := b.Books(ctx); err == nil && ok(s) {
			return nil
		}
		select {
		case <-tick.C:
		case <-b.p.done:
			return fmt.Errorf("the collector ended by itself:\n%s", b.p.Output())
		case <-ctx.Done():
			return fmt.Errorf("not within %s: %s\n%s", limit, what, b.story())
		}
	}
}

// story is what the log says of failover.
func (b *Bed) story() string {
	var out strings.Builder
	for line := range strings.Lines(b.p.Output()) {
		if strings.Contains(line, "Failover: ") {
			out.WriteString(line)
		}
	}
	return out.String()
}

// Stored is how many items both backends have.
func (b *Bed) Stored() uint64 {
	sum := uint64(0)
	for _, s := range b.sinks() {
		for _, n := range s.State().Stored {
			sum += n
		}
	}
	return sum
}

// Drained waits until nothing is owed to the backends and they have been quiet for 3 s.
func (b *Bed) Drained(ctx context.Context) error {
	var since time.Time
	stored := b.Stored()
	return b.Until(ctx, 2*time.Minute, "nothing is queued, and the backends are quiet for 3 s", func(s Series) bool {
		queued, found := s.Sum("holdfast_ledger_queued_items")
		if now := b.Stored(); !found || queued > 0 || now != stored || since.IsZero() {
			since, stored = time.Now(), now
		}
		return time.Since(since) > calm
	})
}

// Judge asks the ledger. The collector must be drained and still run: it is ended in order here, and so are the
// backends. The notes are what the verdict was made of.
func (b *Bed) Judge(ctx context.Context, o ledger.Options) (*ledger.Verdict, *ledger.Notes, error) {
	text, err := b.Scrape(ctx)
	if err != nil {
		return nil, nil, err
	}
	if o.Metrics, err = ledger.ParseMetrics(bytes.NewReader(text)); err != nil {
		return nil, nil, err
	}
	if code, err := b.Stop(ctx); err != nil || code != 0 {
		return nil, nil, fmt.Errorf("exit code %d, %w", code, err)
	}
	for _, s := range b.sinks() {
		if err := s.Stop(); err != nil {
			return nil, nil, err
		}
	}
	notes, err := ledger.Read(b.Notes())
	if err != nil {
		return nil, nil, err
	}
	if b.o.Seed == A {
		place := notes.AddPlace(ledger.InFile, Emergency)
		for _, f := range b.EmergencyFiles() {
			if err := notes.AddRecords(place, f); err != nil {
				return nil, nil, err
			}
		}
	}
	o.QuietFor = calm
	o.NoControl = o.Control == nil
	v, err := ledger.Verify(notes, o)
	return v, notes, err
}

// Signals are the words of all signals that have a series of the name, in order.
func Signals(each map[string]float64) []string { return slices.Sorted(maps.Keys(each)) }
