// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package drill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/drill/report"
	"github.com/holdfast-telemetry/holdfast/internal/drill/topology"
	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
)

// maxRanges is how many ranges of items a broken promise shows.
const maxRanges = 8

// scrape reads the collector's metrics.
func (m *room) scrape(ctx context.Context) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.to.Metrics+"/metrics", nil)
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

// atRisk adds to the bound of duplicates what may come twice if the process dies now, as stage.atRisk does.
func (m *room) atRisk(ctx context.Context) error {
	text, err := m.scrape(ctx)
	if err != nil {
		return err
	}
	n := m.look(ctx)
	// What one destination of a pipeline may get twice every one may.
	m.bound += (int64(n.queued()+n.parked()) + roomRate) * m.rehearsal.topology.Copies()
	m.bound += sum(text, doubled)
	return nil
}

// end ends load and process in order and returns the books of the last life; late says that not everything drained.
func (m *room) end(ctx context.Context) (books *ledger.Metrics, late error, err error) {
	if err := m.stopLoads(); err != nil {
		return nil, nil, err
	}
	var since time.Time
	var had uint64
	late = m.until(ctx, drainLimit, "nothing queued, nothing parked, backends quiet", func(n *look) bool {
		has := uint64(0)
		for _, s := range n.stored {
			has += s
		}
		if n.status == nil || n.queued()+n.parked() > 0 || has != had || since.IsZero() {
			since, had = n.at, has
			return false
		}
		return n.at.Sub(since) > roomQuiet
	})
	var slow *lateError
	if late != nil && !errors.As(late, &slow) {
		return nil, nil, late
	}
	text, err := m.scrape(ctx)
	if err != nil {
		return nil, late, err
	}
	m.bound += sum(text, doubled)
	m.unwatch()
	m.watcher.Wait()
	if code, err := m.child.stop(ctx); err != nil {
		return nil, late, err
	} else if code != 0 {
		m.breaks(promiseInOrder, nil, "the process ended with exit code %d", code)
	}
	if err := m.stopBackends(); err != nil {
		return nil, late, err
	}
	books, err = ledger.ParseMetrics(bytes.NewReader(text))
	return books, late, err
}

func (m *room) breaks(promise string, items []string, format string, args ...any) {
	m.out.Broken = append(m.out.Broken, report.Broken{Promise: promise, Text: fmt.Sprintf(format, args...), Items: items})
}

func (m *room) doubt(format string, args ...any) {
	m.out.Doubts = append(m.out.Doubts, fmt.Sprintf(format, args...))
}

// prove asks the ledger, and then what the ledger does not know: that each destination has everything it is owed.
func (m *room) prove(books *ledger.Metrics) error {
	notes, err := ledger.Read(m.notes())
	if err != nil {
		return err
	}
	for _, f := range m.rehearsal.topology.Files {
		name := m.to.Files[f.ID]
		all, err := filepath.Glob(filepath.Join(filepath.Dir(name), "*"))
		if err != nil {
			return err
		}
		place := notes.AddPlace(ledger.InFile, sinkName(f.ID))
		for _, f := range all {
			if filepath.Ext(f) == ".receipts" || filepath.Ext(f) == ".sidecar" {
				continue
			}
			if err := notes.AddRecords(place, f); err != nil {
				return err
			}
		}
	}
	// An item that goes to several destinations may be rejected by one and be at another; the ledger's books know one.
	alone := m.rehearsal.topology.Copies() == 1
	for _, p := range m.rehearsal.topology.Pipelines {
		alone = alone && len(p.Destinations) == 1
	}
	o := ledger.Options{Metrics: books, QuietFor: time.Second, NoControl: true}
	if m.poor {
		if o.AllowDrop = []string{ledger.ReasonRejected}; !alone {
			o.Metrics, o.AllPlaces = nil, true
		}
	}
	if m.lives > 0 && m.memory() != "" { // books in memory end with their process
		o.Metrics, o.AllPlaces = nil, true
	}
	bound := m.bound
	n, _ := m.latest()
	bound += (m.rehearsal.topology.Copies() - 1) * int64(n.acked)
	o.MaxDuplicates = &bound
	v, err := ledger.Verify(notes, o)
	if err != nil {
		return err
	}
	m.read(v)
	if !alone || v.Lost == 0 { // of one destination the ledger has said it
		m.each(notes, books)
	}
	return v.Write(m.notes())
}

// read takes over the ledger's verdict.
func (m *room) read(v *ledger.Verdict) {
	m.out.Acked, m.out.Lost, m.out.Twice = v.Totals.Acked, v.Lost, v.Duplicates.Ours
	for _, p := range v.Places {
		m.out.Places = append(m.out.Places, report.Place{Name: p.Name, Items: p.Items})
	}
	var items []string
	for _, l := range v.LostItems[:min(len(v.LostItems), maxRanges)] {
		items = append(items, fmt.Sprintf("%s producer %d, %d-%d, acknowledged at %.1f s, last seen: %s", l.Signal, l.Producer, l.First, l.Last,
			m.since(time.UnixMicro(l.AckedAt)), l.Seen))
	}
	names := map[string]string{"lost": promiseLost, "declared": promiseLost, "phantom": promiseMade, "corrupted": promiseMade,
		"undead": promiseMade, "duplicates": promiseTwice, "balance": promiseBooks}
	for _, f := range v.Failures {
		promise, ok := names[f.Quantity]
		if !ok {
			promise = f.Quantity
		}
		shown, text := items, f.Text
		if f.Quantity != "lost" {
			shown = nil
		} else if m.lives > 0 {
			text += m.memory()
		}
		m.breaks(promise, shown, "%s", text)
	}
	for _, d := range v.Doubts {
		m.doubt("%s: %s", d.Quantity, d.Text)
	}
}

// each checks every destination by itself: what was acknowledged and is not at one of its levels, and was not declared
// rejected or dropped there, is missing.
func (m *room) each(notes *ledger.Notes, books *ledger.Metrics) {
	at := map[itemKey]map[string]bool{}
	for i := range notes.Arrivals {
		if a := &notes.Arrivals[i]; a.Stored {
			for seq := a.First; seq <= a.Last; seq++ {
				k := itemKey{a.Signal, a.Producer, seq}
				if at[k] == nil {
					at[k] = map[string]bool{}
				}
				at[k][notes.Places[a.Place].Name] = true
			}
		}
	}
	for _, p := range m.rehearsal.topology.Pipelines {
		for i := range p.Destinations {
			d := &p.Destinations[i]
			if !m.visible(d) {
				continue
			}
			missing, ranges := m.missing(notes, at, &p, d)
			for _, b := range books.Books() {
				if b.Pipeline == p.ID && b.Destination == d.Label {
					missing -= b.Queued + b.Parked
					if m.poor {
						missing -= b.Rejected
					}
				}
			}
			if missing > 0 {
				m.breaks(promiseEach, ranges, "%s → %s: %s acknowledged %s are at none of its levels", p.ID, d.Label, count(missing), p.Signal)
				if m.out.Lost == 0 {
					m.out.Lost = uint64(missing)
				}
			}
		}
	}
}

// visible reports whether a drill can see what all levels of a destination were given.
func (m *room) visible(d *topology.Destination) bool {
	for _, l := range d.Levels {
		for _, id := range l {
			if _, ok := m.backends[id]; !ok && m.to.Files[id] == "" {
				return false
			}
		}
	}
	return true
}

type itemKey struct {
	signal   item.Signal
	producer uint16
	seq      uint64
}

func (m *room) missing(notes *ledger.Notes, at map[itemKey]map[string]bool, p *topology.Pipeline, d *topology.Destination) (n int64,
	ranges []string) {
	seen := map[itemKey]bool{}
	type span struct {
		itemSource
		first, last uint64
		ended       int64
	}
	var spans []span
	for i := range notes.Tried {
		a := &notes.Tried[i]
		source := itemSource{a.Signal, a.Producer}
		if a.Signal.String() != p.Signal || a.Result.State != ledger.Acked || !slices.Contains(p.Receivers, m.via[source]) {
			continue
		}
		for seq := a.First; seq <= a.Last; seq++ {
			k := itemKey{a.Signal, a.Producer, seq}
			if seen[k] || has(at[k], d) {
				continue
			}
			seen[k] = true
			n++
			at := slices.IndexFunc(spans, func(s span) bool { return s.itemSource == source && s.last+1 == seq })
			if at < 0 {
				spans = append(spans, span{source, seq, seq, a.Ended})
			} else {
				spans[at].last = seq
			}
		}
	}
	for _, s := range spans[:min(len(spans), maxRanges)] {
		ranges = append(ranges, fmt.Sprintf("%s producer %d, %d-%d, acknowledged at %.1f s", s.signal, s.producer, s.first, s.last,
			m.since(time.UnixMicro(s.ended))))
	}
	return n, ranges
}

// has reports whether all members of one of the levels have an item.
func has(places map[string]bool, d *topology.Destination) bool {
	for _, l := range d.Levels {
		all := true
		for _, id := range l {
			all = all && places[sinkName(id)]
		}
		if all {
			return true
		}
	}
	return false
}
