// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlp_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

// checkSplit splits a sound request and fails if a piece is unsound, too large without need, or if the pieces do not
// hold the same items with the same surroundings in the same order.
func checkSplit(t *testing.T, s otlp.Signal, b []byte, maxItems uint32, maxBytes int) []otlp.Piece {
	t.Helper()
	items, err := otlp.Scan(s, b)
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	pieces, err := otlp.Split(s, b, maxItems, maxBytes)
	if err != nil || len(pieces) == 0 {
		t.Fatalf("%s %x: %d pieces, %v", s, b, len(pieces), err)
	}
	sum, size := uint32(0), 0
	var got []string
	for i, p := range pieces {
		n, err := otlp.Scan(s, p.Body)
		if err != nil || n != p.Items {
			t.Fatalf("%s %x: piece %d %x says %d items, scan %d, %v", s, b, i, p.Body, p.Items, n, err)
		}
		sum += n
		size += len(p.Body)
		got = append(got, flatten(t, s, p.Body)...)
	}
	if sum != items {
		t.Fatalf("%s %x: %d items in %d pieces, %d in the request", s, b, sum, len(pieces), items)
	}
	if want := flatten(t, s, b); !slices.Equal(got, want) {
		t.Fatalf("%s %x split by %d, %d: the items differ:\n%q\n%q", s, b, maxItems, maxBytes, got, want)
	}
	for i, p := range pieces {
		tree := parse(requestMessages[s], p.Body)
		if hasGroups(tree) {
			continue // groups hide fields
		}
		full, empty := parts(requestMessages[s], tree)
		tooMany := maxItems > 0 && p.Items > maxItems && full > 1
		tooLarge := maxBytes > 0 && len(p.Body) > maxBytes && full+empty > 1
		if (tooMany || tooLarge) && size < 15*len(b) {
			t.Fatalf("%s %x split by %d, %d: piece %d %x could be cut", s, b, maxItems, maxBytes, i, p.Body)
		}
	}
	return pieces
}

// children are the messages that a request can be cut between, by the message around them.
var children = map[string][]string{
	"TracesRequest": {"ResourceSpans"}, "ResourceSpans": {"ScopeSpans"}, "ScopeSpans": {"Span"},
	"LogsRequest": {"ResourceLogs"}, "ResourceLogs": {"ScopeLogs"}, "ScopeLogs": {"LogRecord"},
	"MetricsRequest": {"ResourceMetrics"}, "ResourceMetrics": {"ScopeMetrics"}, "ScopeMetrics": {"Metric"},
	"Metric": {"Gauge", "Sum", "Histogram", "ExpHistogram", "Summary"}, "Gauge": {"NumberPoint"}, "Sum": {"NumberPoint"},
	"Histogram": {"HistogramPoint"}, "ExpHistogram": {"ExpHistogramPoint"}, "Summary": {"SummaryPoint"},
	"ProfilesRequest": {"ResourceProfiles"}, "ResourceProfiles": {"ScopeProfiles"}, "ScopeProfiles": {"Profile"},
}

// parts counts what a request could be cut into: what holds items, and what has none.
func parts(message string, nodes []node) (full, empty int) {
	for _, nd := range nodes {
		if !slices.Contains(children[message], nd.message) {
			continue
		}
		f, e := parts(nd.message, nd.kids)
		switch {
		case nd.message == "Profile" && slices.ContainsFunc(nd.kids, func(k node) bool { return k.message == "Sample" }):
			f = 1
		case nd.message != "Profile" && children[nd.message] == nil:
			f = 1
		case f+e == 0:
			e = 1
		}
		full, empty = full+f, empty+e
	}
	return full, empty
}

func FuzzSplit(f *testing.F) {
	for _, s := range otlp.Signals {
		for seed, b := range seeds(f, s) {
			f.Add(b, uint64(seed), uint16(seed%7), uint16(seed*37%900))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, seed uint64, maxItems, maxBytes uint16) {
		r := rand.New(rand.NewPCG(seed, 1))
		for s, root := range requestMessages {
			for _, b := range [][]byte{b, write(r, generate(r, root, 10+r.IntN(150)), r.IntN(2)*50)} {
				if _, err := otlp.Scan(s, b); err != nil {
					// Only that it ends in good order.
					_, _ = otlp.Split(s, b, uint32(maxItems), int(maxBytes))
					continue
				}
				checkSplit(t, s, b, uint32(maxItems), int(maxBytes))
			}
		}
	})
}

func TestSplitKeepsEveryItemOnceInOrderWithWhatStandsAroundIt(t *testing.T) {
	rounds := 400
	if testing.Short() {
		rounds = 50
	}
	for s, root := range requestMessages {
		t.Run(s.String(), func(t *testing.T) {
			cut := 0
			for seed := range rounds {
				r := rand.New(rand.NewPCG(uint64(seed), 2))
				b := write(r, generate(r, root, 10+r.IntN(400)), seed%2*30)
				if _, err := otlp.Scan(s, b); err != nil {
					continue
				}
				for _, bounds := range [][2]int{{1, 0}, {2, 0}, {3, 0}, {0, 1}, {0, len(b) / 3}, {2, 100 + len(b)/2}} {
					cut += len(checkSplit(t, s, b, uint32(bounds[0]), bounds[1])) - 1
				}
			}
			if cut < rounds {
				t.Errorf("only %d cuts in %d rounds", cut, rounds)
			}
		})
	}
}

func TestSplitCutsOrdinaryRequestsToSize(t *testing.T) {
	for _, s := range otlp.Signals {
		plain := sample(t, s, 160)
		back := write(nil, reversed(parse(requestMessages[s], plain)), 0)
		for _, b := range [][]byte{plain, back} {
			for i, p := range checkSplit(t, s, b, 50, 0) {
				if want := [...]uint32{50, 50, 50, 10}; s != otlp.Profiles && p.Items != want[i] {
					t.Errorf("%s: piece %d has %d items", s, i, p.Items)
				} else if p.Items > 50 || s == otlp.Profiles && p.Items%16 != 0 {
					t.Errorf("%s: piece %d has %d items", s, i, p.Items)
				}
			}
			if s == otlp.Profiles {
				continue // whose dictionary is most of the request
			}
			maxBytes := len(b) / 4
			for i, p := range checkSplit(t, s, b, 0, maxBytes) {
				if len(p.Body) > maxBytes || i < 4 && len(p.Body) < maxBytes*9/10 {
					t.Errorf("%s: piece %d has %d of %d bytes", s, i, len(p.Body), maxBytes)
				}
			}
		}
	}
}

func TestSplitReturnsARequestWithinTheBoundsAsItIs(t *testing.T) {
	for _, s := range otlp.Signals {
		b := sample(t, s, 20)
		for _, bounds := range [][2]int{{0, 0}, {20, 0}, {0, len(b)}, {20, len(b)}} {
			pieces := checkSplit(t, s, b, uint32(bounds[0]), bounds[1])
			if len(pieces) != 1 || &pieces[0].Body[0] != &b[0] || len(pieces[0].Body) != len(b) {
				t.Errorf("%s %v: %d pieces", s, bounds, len(pieces))
			}
		}
		if pieces, err := otlp.Split(s, nil, 1, 1); len(pieces) != 1 || len(pieces[0].Body) != 0 || err != nil {
			t.Errorf("%s: an empty request becomes %v, %v", s, pieces, err)
		}
	}
}

func TestSplitMakesAPieceOfAnItemLargerThanTheBound(t *testing.T) {
	for _, s := range []otlp.Signal{otlp.Traces, otlp.Metrics, otlp.Logs} {
		pieces := checkSplit(t, s, sample(t, s, 7), 0, 1)
		if len(pieces) != 7 {
			t.Errorf("%s: %d pieces of 7 items", s, len(pieces))
		}
	}
}

func TestSplitKeepsUnknownFieldsAndEmptyGroupsAround(t *testing.T) {
	odd := func(n int) node { return node{number: n, wire: 2, bytes: []byte{byte(n)}} }
	span := func(name string) node {
		return node{number: 2, wire: 2, message: "Span", kids: []node{{number: 5, wire: 2, bytes: []byte(name)}}}
	}
	scope := node{number: 2, wire: 2, message: "ScopeSpans", kids: []node{span("a"), odd(102), span("b")}}
	empty := node{number: 2, wire: 2, message: "ScopeSpans", kids: []node{odd(103)}}
	group := node{number: 1, wire: 2, message: "ResourceSpans", kids: []node{scope, odd(101), empty}}
	b := write(nil, []node{odd(100), group}, 0)

	pieces := checkSplit(t, otlp.Traces, b, 1, 0)
	if len(pieces) != 2 {
		t.Fatalf("%d pieces", len(pieces))
	}
	around := func(name string, more ...node) []byte {
		s := node{number: 2, wire: 2, message: "ScopeSpans", kids: []node{odd(102), span(name)}}
		g := node{number: 1, wire: 2, message: "ResourceSpans", kids: append([]node{odd(101), s}, more...)}
		return write(nil, []node{odd(100), g}, 0)
	}
	if want := around("a"); !bytes.Equal(pieces[0].Body, want) {
		t.Errorf("first piece\n%x, want\n%x", pieces[0].Body, want)
	}
	if want := around("b", empty); !bytes.Equal(pieces[1].Body, want) {
		t.Errorf("second piece\n%x, want\n%x", pieces[1].Body, want)
	}
}

func TestSplitDoesNotMultiplyWhatStandsAroundItemsWithoutBound(t *testing.T) {
	large := node{number: 1, wire: 2, bytes: wrap([]int{1, 1}, make([]byte, 1<<20))}
	spans := node{number: 2, wire: 2, bytes: bytes.Repeat([]byte{2<<3 | 2, 0}, 10_000)}
	b := write(nil, []node{{number: 1, wire: 2, bytes: write(nil, []node{large, spans}, 0)}}, 0)
	pieces, err := otlp.Split(otlp.Traces, b, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	size, items := 0, 0
	for _, p := range pieces {
		size += len(p.Body)
		items += int(p.Items)
	}
	if items != 10_000 || len(pieces) < 10 || size > 20*len(b) {
		t.Errorf("%d pieces of %d bytes with %d items from %d bytes", len(pieces), size, items, len(b))
	}
}

func TestSplitRefusesWhatIsNoRequest(t *testing.T) {
	for _, s := range otlp.Signals {
		for _, path := range [][]int{{}, {1}, {1, 2}} {
			_, err := otlp.Split(s, wrap(path, []byte{2<<3 | 2, 9, 'x'}), 1, 0)
			var fault *otlp.ScanError
			if !errors.As(err, &fault) || !errors.Is(err, otlp.ErrMalformed) {
				t.Errorf("%s %v: %v", s, path, err)
			}
		}
	}
	if _, err := otlp.Split(0, nil, 1, 0); !errors.Is(err, otlp.ErrSignal) {
		t.Error(err)
	}
}

func TestSplitAllocatesOncePerPiece(t *testing.T) {
	for _, s := range otlp.Signals {
		b := sample(t, s, 512)
		pieces := 0
		allocs := testing.AllocsPerRun(20, func() {
			p, err := otlp.Split(s, b, 16, 0)
			if err != nil {
				t.Fatal(err)
			}
			pieces = len(p)
		})
		if pieces < 32 || allocs > float64(pieces)+25 { // scratch and the list of pieces grow a few times
			t.Errorf("%s: %v allocations for %d pieces", s, allocs, pieces)
		}
	}
}
