// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
	"github.com/holdfast-telemetry/holdfast/internal/loadgen"
)

// cut is when all connections of a backend were cut: not before from, and not after to.
type cut struct{ from, to time.Time }

// flights are the requests that may have been on their way when a backend's connections were cut: the backend has them,
// and whether its answer came through only the sender knows. On one connection those are the last ones, as many as there
// are consumers: each waits for its answer before it sends the next.
type flights struct {
	t         *testing.T
	consumers int
	cuts      []cut

	items  map[flownItem]int // of them, and the cut
	outage []int             // items of them that arrived again, by cut
	oldest time.Duration     // the longest from an arrival to the cut, of those
}

type flownItem struct {
	conn     uint64
	producer uint16
	seq      uint64
}

// arrival is one request at the backend.
type arrival struct {
	at     time.Time
	ranges []*ledger.Arrival
}

// read finds the requests in flight at a place, and checks that nothing else arrived twice there.
func (f *flights) read(n *ledger.Notes, place string) {
	f.items, f.outage = map[flownItem]int{}, make([]int, len(f.cuts))
	conns := map[uint64][]*arrival{}
	for i := range n.Arrivals {
		a := &n.Arrivals[i]
		if n.Places[a.Place].Name != place || !a.Stored {
			continue
		}
		list, at := conns[a.Conn], time.UnixMicro(a.T)
		if len(list) == 0 || !list[len(list)-1].at.Equal(at) {
			list = append(list, &arrival{at: at})
		}
		list[len(list)-1].ranges = append(list[len(list)-1].ranges, a)
		conns[a.Conn] = list
	}
	type coming struct {
		conn uint64
		at   time.Time
	}
	all := map[flownItem][]coming{}
	for conn, list := range conns {
		f.conn(conn, list)
		for _, a := range list {
			for _, r := range a.ranges {
				for seq := r.First; seq <= r.Last; seq++ {
					id := flownItem{0, r.Producer, seq}
					all[id] = append(all[id], coming{conn, a.at})
				}
			}
		}
	}
	for id, times := range all {
		slices.SortFunc(times, func(a, b coming) int { return a.at.Compare(b.at) })
		for _, c := range times[:len(times)-1] {
			id.conn = c.conn
			k, flew := f.items[id]
			if !flew {
				f.t.Errorf("item %d of producer %d arrived again, and was not in flight at a cut when it came at %s", id.seq, id.producer,
					c.at.Format("05.000000"))
				continue
			}
			f.outage[k]++
			f.oldest = max(f.oldest, f.cuts[k].to.Sub(c.at))
		}
	}
}

// conn finds the requests of one connection that were in flight when it was cut. What came in that moment may be noted
// after it, so that it is the first one that says which cut it was.
func (f *flights) conn(conn uint64, list []*arrival) {
	slices.SortFunc(list, func(a, b *arrival) int { return a.at.Compare(b.at) })
	k := slices.IndexFunc(f.cuts, func(c cut) bool { return c.to.After(list[0].at) })
	if k < 0 {
		return // it was never cut
	}
	if k+1 < len(f.cuts) && list[len(list)-1].at.After(f.cuts[k+1].from) {
		f.t.Errorf("connection %d outlived the cut at %s", conn, f.cuts[k].to.Format("05.000000"))
	}
	for _, a := range list[max(0, len(list)-f.consumers):] {
		for _, r := range a.ranges {
			for seq := r.First; seq <= r.Last; seq++ {
				f.items[flownItem{conn, r.Producer, seq}] = k
			}
		}
	}
}

// again is how many items came again and were in flight before: what may arrive twice, and no item more.
func (f *flights) again() (n int64) {
	for _, k := range f.outage {
		n += int64(k)
	}
	return n
}

// String says what came of the cuts.
func (f *flights) String() string {
	var shown []string
	for k, n := range f.outage {
		if n > 0 {
			shown = append(shown, fmt.Sprintf("%d at outage %d", n, k+1))
		}
	}
	if shown == nil {
		return fmt.Sprintf("%d items were in flight at %d outages, none arrived again", len(f.items), len(f.cuts))
	}
	return fmt.Sprintf("%d items may have been in flight at %d outages; again came %s, the first time at most %s before the cut",
		len(f.items), len(f.cuts), strings.Join(shown, ", "), f.oldest)
}

// A backend that goes in the middle of its answers has the requests and nobody knows: exactly these arrive twice, and
// the books say so.
func TestWhatABackendWasAboutToAnswerWhenItWentArrivesTwice(t *testing.T) {
	t.Parallel()
	const requests, items = 7, 10
	s := newShift(t)
	s.values["NAME"], s.values["PORT"], s.values["TRIAL"] = "primary", "14317", "1s"
	primary := s.sink("primary", "14317")
	s.start(strings.Replace(scripted, "tls: {insecure: true}", "tls: {insecure: true}\n    timeout: 60s", 1))
	has := func(n uint64) {
		t.Helper()
		eventually(t, fmt.Sprintf("the backend has %d items", n), func() bool { return primary.State().Stored["traces"] == n })
	}
	silence := faultyAt(t, primary, "hang,store=true")
	stop := s.send(loadgen.Options{Run: "unanswered", Requests: requests, Signals: []item.Signal{item.Traces}, Producers: 1,
		Items: items, ItemBytes: 50})
	if _, failed := stop(); len(failed) > 0 {
		t.Fatalf("%q", failed)
	}
	has(requests * items)
	f := flights{t: t, consumers: 10, cuts: []cut{{from: time.Now()}}}
	back := faultyAt(t, primary, "refuse")
	f.cuts[0].to = time.Now()
	silence()
	back()
	has(2 * requests * items)
	if n := s.value("holdfast_failover_possible_duplicate_items_total", "cause", "connection"); n != requests*items {
		t.Errorf("%v items are counted as possible duplicates, %d were in flight", n, requests*items)
	}
	n := s.ends()
	f.read(n, "primary")
	t.Log(f.String())
	bound := int64(requests * items)
	if v := s.judged(n, ledger.Options{MaxDuplicates: &bound}); v.Duplicates.Ours != requests*items || f.outage[0] != requests*items {
		t.Errorf("%d items arrived twice, %d of them found, %d were in flight", v.Duplicates.Ours, f.outage[0], requests*items)
	}
}
