// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"fmt"
	"strings"
	"time"
)

// Outcome is what a verdict says.
type Outcome string

// The outcomes.
const (
	Pass         Outcome = "pass"
	Fail         Outcome = "fail"
	Inconclusive Outcome = "inconclusive"
)

// ExitCode is the exit code of a command that ends with this outcome: 0, 1, 2.
func (o Outcome) ExitCode() int {
	switch o {
	case Pass:
		return 0
	case Fail:
		return 1
	}
	return 2
}

// Options say by what a run is judged. The zero value judges by run.json, and proves nothing about a product with a
// queue: for that, Metrics or AllPlaces are needed.
type Options struct {
	Want      string   // any, or each:a,b; empty: run.json's
	Allow     []Window // when sinks may have been used; none: always
	AllowDrop []string // reasons of declared drops the scenario allows; "rejected" for what backends refused

	AllowFiltered bool // a sampler or filter stands between: items may be missing
	AllowStripped bool // a processor that removes attributes stands between: padding is not checked
	Strict        bool // foreign items are a failure

	MaxDuplicates *int64        // bound for duplicates of ours, in items; nil: run.json's
	Expect        []string      // what must have been seen; joined with run.json's
	QuietFor      time.Duration // how long nothing may have arrived before the notes ended

	Metrics   *Metrics // the product's own books at the end; nil: not given
	AllPlaces bool     // the notes hold all places there are: no queue stands between
	Control   *Verdict // the verdict of the run without the fault
	NoControl bool     // the caller knows that there is no control run
}

// Window is a time in which a sink may have been used.
type Window struct {
	Sink     string
	From, To time.Time // zero: open
}

// ParseWindow reads SINK:FROM..TO. FROM and TO are times as RFC 3339, microseconds since 1970, or an offset from the
// run's base such as +10s; either may be empty.
func ParseWindow(text string, base time.Time) (Window, error) {
	sink, times, found := strings.Cut(text, ":")
	from, to, dots := strings.Cut(times, "..")
	if !found || !dots || sink == "" {
		return Window{}, fmt.Errorf("allow %q: SINK:FROM..TO is needed", text)
	}
	w := Window{Sink: sink}
	for _, side := range []struct {
		text string
		to   *time.Time
	}{{from, &w.From}, {to, &w.To}} {
		t, err := parseTime(side.text, base)
		if err != nil {
			return Window{}, fmt.Errorf("allow %q: %w", text, err)
		}
		*side.to = t
	}
	return w, nil
}

func parseTime(text string, base time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if offset, ok := strings.CutPrefix(text, "+"); ok {
		d, err := time.ParseDuration(offset)
		return base.Add(d), err
	}
	var micros int64
	if _, err := fmt.Sscanf(text, "%d", &micros); err == nil && fmt.Sprint(micros) == text {
		return time.UnixMicro(micros), nil
	}
	return time.Parse(time.RFC3339Nano, text)
}

// Finding is a reason for an outcome: the quantity it is about, and a sentence.
type Finding struct {
	Quantity string `json:"quantity"`
	Text     string `json:"text"`
}

// Totals are the items of one signal, as producers know them.
type Totals struct {
	Invoked uint64 `json:"invoked"`
	Acked   uint64 `json:"acked"` // without what partial successes rejected
	Partial uint64 `json:"rejected_by_partial"`
	Unknown uint64 `json:"unknown"`
	Refused uint64 `json:"refused"`
	// MayBeAccepted counts an item once per attempt that may have been taken.
	MayBeAccepted uint64 `json:"may_be_accepted"`
	Missing       uint64 `json:"missing"`     // acknowledged and in no place, before declared is subtracted
	MissingElse   uint64 `json:"missingelse"` // not acknowledged and in no place
	Declared      int64  `json:"declared"`
}

// PlaceTotals are the items in one place.
type PlaceTotals struct {
	Kind     PlaceKind `json:"kind"`
	Name     string    `json:"name"`
	Items    uint64    `json:"items"`  // distinct
	Stored   uint64    `json:"stored"` // with repetitions
	Foreign  uint64    `json:"foreign,omitempty"`
	Inverted uint64    `json:"inversions"` // arrivals behind a later number of the same producer
}

// Lost is a run of items that are missing, and where they were last seen.
type Lost struct {
	Signal   string `json:"signal"`
	Producer uint16 `json:"producer"`
	First    uint64 `json:"first"`
	Last     uint64 `json:"last"`
	At       string `json:"at,omitempty"` // the sink that should have it, under each:
	AckedAt  int64  `json:"acked_us"`
	Seen     string `json:"last_seen"`
}

// Verdict is what the ledger says of a run.
type Verdict struct {
	Run      string    `json:"run"`
	Outcome  Outcome   `json:"outcome"`
	Failures []Finding `json:"failures"`
	Doubts   []Finding `json:"doubts"`

	Mode    string             `json:"mode"`
	Want    string             `json:"want"`
	Signals map[string]*Totals `json:"signals"`
	Totals  Totals             `json:"totals"`
	Places  []PlaceTotals      `json:"places"`

	Lost       uint64 `json:"lost"`
	Declared   int64  `json:"declared"`
	Phantom    uint64 `json:"phantom"`
	Corrupted  uint64 `json:"corrupted"`
	Undead     uint64 `json:"undead"`
	Recovered  uint64 `json:"recovered"`
	Misrouted  uint64 `json:"misrouted"`
	Foreign    uint64 `json:"foreign"`
	Stripped   uint64 `json:"stripped"`
	Filtered   uint64 `json:"filtered"`
	Duplicates struct {
		Ours   uint64 `json:"ours"`
		Resent uint64 `json:"resent"`
		Across uint64 `json:"across"`
		Bound  int64  `json:"bound"`
	} `json:"duplicates"`
	Balance Balance  `json:"balance"`
	Faults  []Fault  `json:"faults,omitempty"`
	Timing  []string `json:"timing,omitempty"`

	LostItems []Lost `json:"lost_items,omitempty"` // the first ranges
	base      int64
}

func (v *Verdict) fail(quantity, format string, args ...any) {
	v.Failures = append(v.Failures, Finding{quantity, fmt.Sprintf(format, args...)})
}

func (v *Verdict) doubt(quantity, format string, args ...any) {
	v.Doubts = append(v.Doubts, Finding{quantity, fmt.Sprintf(format, args...)})
}

// Verify judges a run. The error says that it could not be judged at all: options that make no sense for these notes.
func Verify(n *Notes, o Options) (*Verdict, error) {
	c, err := newCount(n, o)
	if err != nil {
		return nil, err
	}
	c.shelve()
	c.countRequests()
	c.checkDeclared()
	c.checkArrivals()
	c.checkBalance()
	c.checkLost()
	c.checkEvidence()
	c.time()
	switch {
	case len(c.v.Failures) > 0:
		c.v.Outcome = Fail
	case len(c.v.Doubts) > 0:
		c.v.Outcome = Inconclusive
	default:
		c.v.Outcome = Pass
	}
	return c.v, nil
}
