// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package verdict says which promises a scenario showed to be kept, from what all sides noted.
//
// It stands at the end of internal/drill/stage, when every process has ended. It asks the ledger, and then what the ledger
// does not know: that each destination has everything it is owed, and that no time is missing. It promises to name a
// promise and items for whatever is wrong, and to call nothing kept that the notes cannot show. It starts nothing.
package verdict

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/drill/report"
	"github.com/holdfast-telemetry/holdfast/internal/drill/scenario"
	"github.com/holdfast-telemetry/holdfast/internal/drill/topology"
	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
)

// The promises, as a verdict names them.
const (
	Lost      = "nothing acknowledged is lost"
	Each      = "every destination gets everything"
	Made      = "nothing is made up or damaged"
	Twice     = "duplicates stay within their bound"
	Books     = "the books balance"
	Switch    = "data goes to the next level"
	Accept    = "the door goes on accepting"
	ComeBack  = "the door refuses so that clients come back"
	Return    = "data comes back to the first level"
	Clean     = "the switch back is clean"
	NoGap     = "no gap in the time line"
	Drain     = "what waited is delivered"
	Pace      = "a backlog does not overrun the backend"
	Running   = "the process goes on"
	Memory    = "memory stays within its bound"
	InOrder   = "SIGTERM ends it in order"
	OldConfig = "a broken configuration changes nothing"
	Evidence  = "a configuration that delivers nothing is rolled back"
)

// maxRanges is how many ranges of items a broken promise shows.
const maxRanges = 8

// Source is a producer of the load.
type Source struct {
	Signal   item.Signal
	Producer uint16
}

// Notes are what there is to judge by.
type Notes struct {
	Topology *topology.Topology
	Dir      string            // with everybody's notes
	Files    map[string]string // of the exporters that write one, by ID
	Via      map[Source]string // which receiver took what a producer sent
	Books    *ledger.Metrics   // the process's own, at its end
	Bound    int64             // of duplicates, in items
	Acked    uint64            // items
	Restarts int
	Memory   string // names the queues that do not outlive a process; empty if there are none

	Rejects  bool // a backend rejects what is marked
	MayDrop  bool // a full queue gives up its oldest
	NoGap    bool // it is asked whether a time is missing
	MaxTwice *uint64
}

// SinkName is what the notes call the backend of an exporter.
func SinkName(id string) string {
	out := []byte(id)
	for i, c := range out {
		if c == '/' || c == ' ' {
			out[i] = '-'
		}
	}
	return string(out)
}

// Judge writes what it finds into out.
func (n *Notes) Judge(out *report.Scenario) error {
	notes, err := ledger.Read(n.Dir)
	if err != nil {
		return err
	}
	if err := n.addFiles(notes); err != nil {
		return err
	}
	o, alone := n.options()
	v, err := ledger.Verify(notes, o)
	if err != nil {
		return err
	}
	n.read(v, out)
	if !alone || v.Lost == 0 { // of one destination the ledger has said it
		n.each(notes, out)
	}
	if n.NoGap {
		n.gaps(notes, out)
	}
	return v.Write(n.Dir)
}

// addFiles shows the ledger what exporters wrote into files.
func (n *Notes) addFiles(notes *ledger.Notes) error {
	for _, f := range n.Topology.Files {
		all, err := filepath.Glob(filepath.Join(filepath.Dir(n.Files[f.ID]), "*"))
		if err != nil {
			return err
		}
		place := notes.AddPlace(ledger.InFile, SinkName(f.ID))
		for _, name := range all {
			if ext := filepath.Ext(name); ext == ".receipts" || ext == ".sidecar" {
				continue
			}
			if err := notes.AddRecords(place, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// options are by what the ledger judges; alone says that every pipeline has one destination, and every item one place.
func (n *Notes) options() (o ledger.Options, alone bool) {
	// An item that goes to several destinations may be rejected by one and be at another; the ledger's books know one.
	alone = n.Topology.Copies() == 1
	for _, p := range n.Topology.Pipelines {
		alone = alone && len(p.Destinations) == 1
	}
	filtered := len(n.Topology.Filtered) > 0
	o = ledger.Options{Metrics: n.Books, QuietFor: time.Second, NoControl: true, AllowFiltered: filtered, AllowStripped: filtered}
	if n.Rejects {
		if o.AllowDrop = []string{ledger.ReasonRejected}; !alone {
			o.Metrics, o.AllPlaces = nil, true
		}
	}
	if n.MayDrop {
		for _, b := range n.Books.Books() {
			for reason := range b.Reasons {
				o.AllowDrop = append(o.AllowDrop, reason)
			}
		}
	}
	if n.Restarts > 0 && n.Memory != "" { // books in memory end with their process
		o.Metrics, o.AllPlaces = nil, true
	}
	bound := n.Bound + (n.Topology.Copies()-1)*int64(n.Acked)
	if n.MaxTwice != nil {
		bound = int64(*n.MaxTwice)
	}
	o.MaxDuplicates = &bound
	return o, alone
}

// read takes over the ledger's verdict.
func (n *Notes) read(v *ledger.Verdict, out *report.Scenario) {
	out.Acked, out.Lost, out.Twice = v.Totals.Acked, v.Lost, v.Duplicates.Ours
	for _, p := range v.Places {
		out.Places = append(out.Places, report.Place{Name: p.Name, Items: p.Items})
	}
	var items []string
	for _, l := range v.LostItems[:min(len(v.LostItems), maxRanges)] {
		items = append(items, fmt.Sprintf("%s producer %d, %d-%d, acknowledged at %.1f s, last seen: %s", l.Signal, l.Producer, l.First, l.Last,
			since(out, l.AckedAt), l.Seen))
	}
	names := map[string]string{"lost": Lost, "declared": Lost, "phantom": Made, "corrupted": Made, "undead": Made, "duplicates": Twice,
		"balance": Books}
	for _, f := range v.Failures {
		promise, ok := names[f.Quantity]
		if !ok {
			promise = f.Quantity
		}
		shown, text := items, f.Text
		if f.Quantity != "lost" {
			shown = nil
		} else if n.Restarts > 0 && n.Memory != "" {
			text += "; in memory is the queue of " + n.Memory
		}
		out.Breaks(promise, shown, "%s", text)
	}
	for _, d := range v.Doubts {
		if d.Quantity == "fault" && strings.HasPrefix(d.Text, scenario.Capacity) {
			continue // who keeps below it need not meet it
		}
		out.Doubt("%s: %s", d.Quantity, d.Text)
	}
}

// since is a time of the report, in seconds, from one of the notes, in microseconds since 1970.
func since(out *report.Scenario, at int64) float64 {
	return max(time.UnixMicro(at).Sub(out.Began).Seconds(), 0)
}
