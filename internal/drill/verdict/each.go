// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"fmt"
	"slices"

	"github.com/holdfast-telemetry/holdfast/internal/drill/report"
	"github.com/holdfast-telemetry/holdfast/internal/drill/topology"
	"github.com/holdfast-telemetry/holdfast/internal/drill/words"
	"github.com/holdfast-telemetry/holdfast/internal/ledger"
)

// key is an item.
type key struct {
	Source
	seq uint64
}

// span is a range of items of a producer.
type span struct {
	Source
	first, last uint64
	ended       int64
}

// each checks every destination by itself: what was acknowledged and is not at one of its levels, and was not declared
// rejected or dropped there, is missing.
func (n *Notes) each(notes *ledger.Notes, out *report.Scenario) {
	if len(n.Topology.Filtered) > 0 {
		out.Tell("judge", "what each destination has is not checked: "+n.Topology.Filtered[0]+" may take items out")
		return
	}
	at := places(notes)
	for _, p := range n.Topology.Pipelines {
		for i := range p.Destinations {
			d := &p.Destinations[i]
			if !n.visible(d) {
				continue
			}
			if f := n.shared(d); f != "" { // receipts tell what is owed in it, not what was delivered to it
				out.Tell("judge", "what "+f+" has of "+p.ID+" is not checked: it is the emergency level of a connector, too")
				continue
			}
			missing, ranges := n.missing(notes, at, &p, d, out)
			for _, b := range n.Books.Books() {
				if b.Pipeline == p.ID && b.Destination == d.Label {
					missing -= b.Queued + b.Parked
					if n.Rejects {
						missing -= b.Rejected
					}
					if n.MayDrop {
						missing -= b.Dropped
					}
				}
			}
			if missing > 0 {
				out.Breaks(Each, ranges, "%s → %s: %s acknowledged %s are at none of its levels", p.ID, d.Label, words.Count(missing), p.Signal)
				if out.Lost == 0 {
					out.Lost = uint64(missing)
				}
			}
		}
	}
}

// places are where each item is.
func places(notes *ledger.Notes) map[key]map[string]bool {
	at := map[key]map[string]bool{}
	for i := range notes.Arrivals {
		a := &notes.Arrivals[i]
		if !a.Stored {
			continue
		}
		for seq := a.First; seq <= a.Last; seq++ {
			k := key{Source{a.Signal, a.Producer}, seq}
			if at[k] == nil {
				at[k] = map[string]bool{}
			}
			at[k][notes.Places[a.Place].Name] = true
		}
	}
	return at
}

// visible reports whether a drill can see what all levels of a destination were given.
func (n *Notes) visible(d *topology.Destination) bool {
	for _, l := range d.Levels {
		for _, id := range l {
			if _, ok := n.Topology.Backend(id); !ok && n.Files[id] == "" {
				return false
			}
		}
	}
	return true
}

// shared is a file that a plain destination writes, and a connector empties after an outage.
func (n *Notes) shared(d *topology.Destination) string {
	for _, p := range n.Topology.Pipelines {
		for _, other := range p.Destinations {
			for _, l := range other.Levels {
				if !d.Connector && other.Connector && n.Files[d.Label] != "" && slices.Contains(l, d.Label) {
					return d.Label
				}
			}
		}
	}
	return ""
}

func (n *Notes) missing(notes *ledger.Notes, at map[key]map[string]bool, p *topology.Pipeline, d *topology.Destination,
	out *report.Scenario) (items int64, ranges []string) {
	seen := map[key]bool{}
	var spans []span
	for i := range notes.Tried {
		a := &notes.Tried[i]
		source := Source{a.Signal, a.Producer}
		if a.Signal.String() != p.Signal || a.Result.State != ledger.Acked || !slices.Contains(p.Receivers, n.Via[source]) {
			continue
		}
		for seq := a.First; seq <= a.Last; seq++ {
			k := key{source, seq}
			if seen[k] || has(at[k], d) {
				continue
			}
			seen[k] = true
			items++
			at := slices.IndexFunc(spans, func(s span) bool { return s.Source == source && s.last+1 == seq })
			if at < 0 {
				spans = append(spans, span{source, seq, seq, a.Ended})
			} else {
				spans[at].last = seq
			}
		}
	}
	for _, s := range spans[:min(len(spans), maxRanges)] {
		ranges = append(ranges, fmt.Sprintf("%s producer %d, %d-%d, acknowledged at %.1f s", s.Signal, s.Producer, s.first, s.last,
			since(out, s.ended)))
	}
	return items, ranges
}

// has reports whether all members of one of the levels have an item.
func has(places map[string]bool, d *topology.Destination) bool {
	for _, l := range d.Levels {
		all := true
		for _, id := range l {
			all = all && places[SinkName(id)]
		}
		if all {
			return true
		}
	}
	return false
}

// second is a second of a scenario, of one signal.
type second struct {
	signal string
	at     int
}

// gaps asks what a person asks who looks at a chart of everything that was sent: is there a time of which something is
// missing? It also says how long the backends were silent, which is no gap: what was sent then came later.
func (n *Notes) gaps(notes *ledger.Notes, out *report.Scenario) {
	at := places(notes)
	sent, gone := map[second]int{}, map[second]int{}
	for i := range notes.Tried {
		a := &notes.Tried[i]
		if a.Result.State != ledger.Acked {
			continue
		}
		s := second{a.Signal.String(), int(since(out, a.Ended))}
		for seq := a.First; seq <= a.Last; seq++ {
			if sent[s]++; at[key{Source{a.Signal, a.Producer}, seq}] == nil {
				gone[s]++
			}
		}
	}
	var holes []string
	for s, items := range gone {
		holes = append(holes, fmt.Sprintf("%s acknowledged in second %d: %s of %s are nowhere", s.signal, s.at, words.Count(items),
			words.Count(sent[s])))
	}
	if slices.Sort(holes); len(holes) > 0 {
		out.Breaks(NoGap, holes[:min(len(holes), maxRanges)], "%d seconds are not complete", len(holes))
		return
	}
	var times []int64
	for i := range notes.Arrivals {
		if a := &notes.Arrivals[i]; a.Stored && a.T > 0 {
			times = append(times, a.T)
		}
	}
	slices.Sort(times)
	longest := int64(0)
	for i := 1; i < len(times); i++ {
		longest = max(longest, times[i]-times[i-1])
	}
	out.Tell("judge", fmt.Sprintf("no gap: of every second and signal (%d) everything acknowledged is at a backend; "+
		"the longest silence of all of them together was %.1f s", len(sent), float64(longest)/1e6))
}
