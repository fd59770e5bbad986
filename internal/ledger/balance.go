// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
)

const (
	samplesFile = "samples.jsonl"
	// ledgerPrefix begins the series of the promise's equation (spec compat.md 6).
	ledgerPrefix = "holdfast_ledger_"
	transitions  = "holdfast_failover_transitions_total"
)

// Metrics is what the product says about itself: the series of one scrape that the ledger needs.
type Metrics struct {
	books       map[bookKey]*Book
	transitions float64
	found       bool // any ledger series was there
}

type bookKey struct{ pipeline, destination, signal string }

// Book is the promise's equation for one destination of one pipeline, in items.
type Book struct {
	Pipeline    string           `json:"pipeline"`
	Destination string           `json:"destination"`
	Signal      string           `json:"signal"`
	Accepted    int64            `json:"accepted"`
	Delivered   int64            `json:"delivered"`
	Queued      int64            `json:"queued"`
	Parked      int64            `json:"parked"`
	Rejected    int64            `json:"rejected"`
	Dropped     int64            `json:"dropped"`
	Imbalance   int64            `json:"imbalance"` // as the product sees it itself
	Reasons     map[string]int64 `json:"reasons,omitempty"`
}

// Difference is what is missing in the equation: accepted minus everything that can have become of it.
func (b *Book) Difference() int64 {
	return b.Accepted - b.Delivered - b.Queued - b.Parked - b.Rejected - b.Dropped
}

// ParseMetrics reads a scrape in the Prometheus text format. Series it does not need are skipped unread.
func ParseMetrics(in io.Reader) (*Metrics, error) {
	m := &Metrics{books: make(map[bookKey]*Book)}
	l := bufio.NewScanner(in)
	l.Buffer(nil, 1<<20)
	for n := 1; l.Scan(); n++ {
		line := l.Text()
		if !strings.HasPrefix(line, ledgerPrefix) && !strings.HasPrefix(line, transitions) {
			continue
		}
		name, labels, value, err := parseSeries(line)
		if err != nil {
			return nil, fmt.Errorf("metrics: line %d: %w", n, err)
		}
		if name == transitions {
			m.transitions += value
			continue
		}
		m.add(strings.TrimPrefix(name, ledgerPrefix), labels, int64(value))
	}
	if err := l.Err(); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return m, nil
}

func (m *Metrics) add(name string, labels map[string]string, v int64) {
	key := bookKey{labels["pipeline"], labels["destination"], labels["signal"]}
	b := m.books[key]
	if b == nil {
		b = &Book{Pipeline: key.pipeline, Destination: key.destination, Signal: key.signal, Reasons: make(map[string]int64)}
	}
	switch name {
	case "accepted_items_total":
		b.Accepted += v
	case "delivered_items_total":
		b.Delivered += v
	case "rejected_items_total":
		b.Rejected += v
	case "dropped_items_total":
		b.Dropped += v
		b.Reasons[labels["reason"]] += v
	case "queued_items":
		b.Queued += v
	case "parked_items":
		b.Parked += v
	case "imbalance_items":
		b.Imbalance += v
	default:
		return
	}
	m.books[key] = b
	m.found = true
}

// Books returns the books, sorted by signal, pipeline and destination.
func (m *Metrics) Books() []Book {
	var out []Book
	for _, b := range m.books {
		out = append(out, *b)
	}
	sort.Slice(out, func(i, j int) bool {
		a, b := out[i], out[j]
		if a.Signal != b.Signal {
			return a.Signal < b.Signal
		}
		if a.Pipeline != b.Pipeline {
			return a.Pipeline < b.Pipeline
		}
		return a.Destination < b.Destination
	})
	return out
}

// parseSeries reads name{label="value",...} value [timestamp].
func parseSeries(line string) (name string, labels map[string]string, value float64, err error) {
	labels = make(map[string]string)
	end := strings.IndexAny(line, "{ ")
	if end < 0 {
		return "", nil, 0, errors.New("no value")
	}
	name, rest := line[:end], line[end:]
	if rest[0] == '{' {
		rest = rest[1:]
		for !strings.HasPrefix(rest, "}") {
			key, after, found := strings.Cut(rest, "=")
			if !found {
				return "", nil, 0, errors.New("damaged labels")
			}
			quoted, err := strconv.QuotedPrefix(after)
			if err != nil {
				return "", nil, 0, fmt.Errorf("label %q: %w", key, err)
			}
			text, err := strconv.Unquote(quoted)
			if err != nil {
				return "", nil, 0, fmt.Errorf("label %q: %w", key, err)
			}
			labels[strings.TrimSpace(key)] = text
			rest = strings.TrimPrefix(after[len(quoted):], ",")
		}
		rest = rest[1:]
	}
	words := strings.Fields(rest)
	if len(words) == 0 {
		return "", nil, 0, errors.New("no value")
	}
	value, err = strconv.ParseFloat(words[0], 64)
	return name, labels, value, err
}

// Sample is one line of samples.jsonl: a scrape at a quiet point.
type Sample struct {
	T       int64  `json:"t"` // microseconds since 1970
	Metrics string `json:"metrics"`
}

// AppendSample adds a scrape, as text, to samples.jsonl of dir.
func AppendSample(dir string, now time.Time, metrics string) error {
	return appendLine(filepath.Join(dir, samplesFile), Sample{T: now.UnixMicro(), Metrics: metrics})
}

func readSamples(dir string) (out []Sample, err error) {
	err = readLines(filepath.Join(dir, samplesFile), func(line []byte) error {
		var s Sample
		err := json.Unmarshal(line, &s)
		out = append(out, s)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("notes: %w", err)
	}
	return out, nil
}

// checkBalance judges the metrics of the end and of every sample.
func (c *count) checkBalance() {
	for _, s := range c.notes.Samples {
		m, err := ParseMetrics(strings.NewReader(s.Metrics))
		if err != nil {
			c.v.doubt("balance", "sample at %s: %v", clock(s.T), err)
			continue
		}
		for _, b := range m.Books() {
			c.checkBook(b, " at "+clock(s.T))
		}
	}
	m := c.o.Metrics
	if m == nil {
		return
	}
	if !m.found {
		c.v.doubt("balance", "the metrics hold no %s series", ledgerPrefix)
		return
	}
	for _, b := range m.Books() {
		c.v.Balance.add(b)
		c.checkBook(b, "")
	}
	c.v.Balance.Known = true
	for _, s := range item.Signals {
		c.checkAccepted(s)
	}
	c.checkDelivered()
}

func (c *count) checkBook(b Book, when string) {
	where := fmt.Sprintf("%s → %s, %s%s", b.Pipeline, b.Destination, b.Signal, when)
	if d := b.Difference(); d != 0 {
		c.v.fail("balance", "%s: accepted %s, delivered %s, queued %s, parked %s, rejected %s, dropped %s: difference %s",
			where, num(b.Accepted), num(b.Delivered), num(b.Queued), num(b.Parked), num(b.Rejected), num(b.Dropped), num(d))
	}
	if b.Imbalance != 0 {
		c.v.fail("balance", "%s: imbalance_items reads %s", where, num(b.Imbalance))
	}
}

// checkAccepted compares what pipelines say they accepted with what producers were told: at least all that was
// acknowledged, at most every attempt that may have been taken. Pipelines that share a receiver must each have it all;
// those with receivers of their own have it together.
func (c *count) checkAccepted(s item.Signal) {
	most := make(map[string]int64) // pipeline → accepted, of the destination with most
	for _, b := range c.o.Metrics.Books() {
		if b.Signal == s.String() {
			most[b.Pipeline] = max(most[b.Pipeline], b.Accepted)
		}
	}
	t := c.v.Signals[s.String()]
	if t == nil {
		return
	}
	low, high := int64(t.Acked), int64(t.MayBeAccepted)
	var sum int64
	each := len(most) > 0
	for _, v := range most {
		sum += v
		each = each && (v == 0 || v >= low && v <= high)
	}
	if each && sum > 0 || sum >= low && sum <= high {
		return
	}
	c.v.fail("balance", "%s: accepted %s, but producers know of %s to %s", s, num(sum), num(low), num(high))
}

// silentTypes are destinations that deliver to nobody who could take notes.
var silentTypes = map[string]bool{"nop": true, "debug": true, "logging": true}

// checkDelivered compares what was delivered, as the product says, with what arrived: nobody can have delivered more
// than was stored.
func (c *count) checkDelivered() {
	delivered := make(map[string]int64)
	for _, b := range c.o.Metrics.Books() {
		kind, _, _ := strings.Cut(b.Destination, "/")
		if silentTypes[kind] || kind == "file" && c.stored[InFile] == nil {
			continue
		}
		delivered[b.Signal] += b.Delivered
	}
	for _, s := range item.Signals {
		var arrived int64
		for _, kind := range []PlaceKind{AtSink, InFile} {
			arrived += int64(c.stored[kind][s])
		}
		if d := delivered[s.String()]; d > arrived {
			c.v.fail("balance", "%s: delivered %s, but %s were stored", s, num(d), num(arrived))
		}
	}
	if in := c.emergency(); in > 0 && c.v.Balance.Parked < in {
		c.v.fail("balance", "parked %s by metric, %s in the emergency file under open receipts", num(c.v.Balance.Parked), num(in))
	}
	if c.stored[Queued] != nil {
		var queued int64
		for _, n := range c.stored[Queued] {
			queued += int64(n)
		}
		if q := c.v.Balance.Queued; q != queued {
			c.v.fail("balance", "queued %s by metric, %s in the queue", num(q), num(queued))
		}
	}
}

// emergency is how many items lie in emergency files under open receipts.
func (c *count) emergency() int64 {
	for i, p := range c.notes.Places {
		if p.Kind == Parked && p.Name == emergencyPlace {
			return int64(c.v.Places[i].Stored)
		}
	}
	return 0
}

// Balance is the sum of all books.
type Balance struct {
	Known bool   `json:"known"`
	Books []Book `json:"books,omitempty"`
	Book  `json:"sum"`
}

func (b *Balance) add(o Book) {
	b.Books = append(b.Books, o)
	b.Accepted += o.Accepted
	b.Delivered += o.Delivered
	b.Queued += o.Queued
	b.Parked += o.Parked
	b.Rejected += o.Rejected
	b.Dropped += o.Dropped
	b.Imbalance += o.Imbalance
}
