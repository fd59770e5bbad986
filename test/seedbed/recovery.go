// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package seedbed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
	"github.com/holdfast-telemetry/holdfast/internal/loadgen"
)

const (
	// offerWindow is the time over which what is offered is compared with what is taken (failover, 11.4).
	offerWindow = 10 * time.Second
	// oldEnough is the age from which on a backlog leaves new data its share (failover, 11.4).
	oldEnough = 30 * time.Second
	// A request of the backlog: so many items of about so many bytes each.
	backlogItems, backlogPad, itemBytes = 500, 300, 460
	// backlogProducers send the backlog; who has a higher number is live.
	backlogProducers = 4
)

// RecoveryOptions say what has to be recovered from.
type RecoveryOptions struct {
	Backlog  int64 // bytes
	Capacity int   // of the primary, when it is back, in items per second
	Live     int   // load that goes on meanwhile, in items per second
	Signals  []item.Signal
	Limit    time.Duration // for the drain
}

// Recovery is what became of a backlog when the primary came back and took only so much.
type Recovery struct {
	Backlog   uint64        // items owed when the primary was back
	Took      time.Duration // until the last of them had arrived
	Ideal     time.Duration // at full capacity, without what is live
	Offered   float64       // most that was offered in any ten seconds since the first overload, as a share of capacity
	Overloads int           // requests that were asked to wait
	Requests  int           // all requests at the primary
	// Live are the items accepted since the first request arrived, and delivered, while there was a backlog; their delays,
	// from acknowledgement to arrival. What was accepted before that is of the outage.
	Live              uint64
	Median, P99, Most time.Duration
	Paced             bool    // the collector says that it paces a drain
	LiveShare         float64 // delivered of what was live, of what was accepted of it, while there was a backlog
	Verdict           *ledger.Verdict
}

// Share is the time the drain took, of the ideal time.
func (r *Recovery) Share() float64 { return r.Took.Seconds() / r.Ideal.Seconds() }

func (r *Recovery) String() string {
	return fmt.Sprintf("backlog of %d items: drained in %.1f s, %.2f of the ideal %.1f s; offered at most %.1f %% of capacity in any 10 s "+
		"since the first overload; %d of %d requests asked to wait; live, while there was a backlog: %d items, %.1f %% of what was "+
		"accepted, delay %.2f s median, %.2f s p99, %.2f s at most; %s, lost %d, duplicates %d", r.Backlog, r.Took.Seconds(),
		r.Share(), r.Ideal.Seconds(), 100*r.Offered, r.Overloads, r.Requests, r.Live, 100*r.LiveShare, r.Median.Seconds(),
		r.P99.Seconds(), r.Most.Seconds(), r.Verdict.Outcome, r.Verdict.Lost, r.Verdict.Duplicates.Ours)
}

// Batches are the settings for batches of at most so many items. What a capacity in items per second means to requests
// that are nearly as large as a second's worth of it depends on chance more than on who sends them.
func Batches(items int) []string {
	return []string{
		fmt.Sprintf("processors::batch::send_batch_size=%d", items),
		fmt.Sprintf("processors::batch::send_batch_max_size=%d", items),
	}
}

// Recover plays a recovery: both backends are gone until the backlog is there, then the primary is back with its
// capacity and its wishes to wait, under a load that goes on.
func (b *Bed) Recover(ctx context.Context, o RecoveryOptions) (*Recovery, error) {
	for _, s := range b.sinks() {
		if err := s.SetFaults("refuse"); err != nil {
			return nil, err
		}
	}
	if err := b.Start(ctx); err != nil {
		return nil, err
	}
	requests := max(int(o.Backlog/(backlogItems*itemBytes))/(backlogProducers*len(o.Signals)), 1)
	sum, err := b.Load(loadgen.Options{Run: "recovery", Signals: o.Signals, Producers: backlogProducers, Requests: requests,
		Items: backlogItems, ItemBytes: backlogPad}).Wait()
	if err != nil {
		return nil, err
	}
	if sum.Unknown+sum.Refused > 0 {
		return nil, fmt.Errorf("the backlog was not accepted: %+v", sum)
	}
	err = b.Until(ctx, 2*oldEnough, "the backlog is old enough", func(s Series) bool {
		for _, v := range s.Each("holdfast_journal_oldest_seconds", "pipeline") {
			if v >= oldEnough.Seconds() {
				return true
			}
		}
		return false
	})
	if err != nil {
		return nil, err
	}
	live := b.Load(loadgen.Options{Run: "recovery", Signals: o.Signals, Producers: 1, Items: 50, ItemBytes: backlogPad,
		Rate: float64(o.Live)})
	healed := time.Now()
	if err := b.Primary.SetFaults(fmt.Sprintf("capacity:%d,burst=%d", o.Capacity, o.Capacity)); err != nil {
		return nil, err
	}
	r := &Recovery{Backlog: sum.Acked}
	err = b.Until(ctx, o.Limit, "the backlog is drained", func(s Series) bool {
		_, r.Paced = s.Sum("holdfast_failover_pace")
		queued, found := s.Sum("holdfast_ledger_queued_items")
		return found && queued < float64(2*o.Live)
	})
	if err != nil {
		return nil, err
	}
	if _, err := live.Stop(); err != nil {
		return nil, err
	}
	if err := b.Drained(ctx); err != nil {
		return nil, err
	}
	bound := int64(0) // who is asked to wait was not taken
	v, notes, err := b.Judge(ctx, ledger.Options{MaxDuplicates: &bound})
	if err != nil {
		return nil, err
	}
	r.Verdict = v
	r.Ideal = time.Duration(float64(sum.Acked) / float64(max(o.Capacity-o.Live, 1)) * float64(time.Second))
	return r, r.read(notes, healed, o)
}

// read measures from the notes.
func (r *Recovery) read(n *ledger.Notes, healed time.Time, o RecoveryOptions) error {
	type id struct {
		signal   item.Signal
		producer uint16
		seq      uint64
	}
	var offers []ledger.Arrival
	drained, overload := healed, time.Time{}
	arrived := map[id]time.Time{}
	slices.SortFunc(n.Arrivals, func(a, b ledger.Arrival) int { return int(a.T - b.T) })
	requests := map[int64]bool{}
	for _, a := range n.Arrivals {
		t := time.UnixMicro(a.T)
		if n.Places[a.Place].Name != Primary || t.Before(healed) {
			continue
		}
		offers = append(offers, a)
		requests[a.T] = true
		if !a.Stored {
			if overload.IsZero() {
				overload = t
			}
			continue
		}
		if a.Producer <= backlogProducers {
			drained = t
			continue
		}
		for seq := a.First; seq <= a.Last; seq++ {
			if k := (id{a.Signal, a.Producer, seq}); arrived[k].IsZero() {
				arrived[k] = t
			}
		}
	}
	if len(offers) == 0 {
		return errors.New("nothing arrived at the primary")
	}
	r.Took, r.Requests = drained.Sub(healed), len(requests)
	r.offered(offers, overload, o.Capacity)
	var delays []time.Duration
	back := time.UnixMicro(offers[0].T) // when the collector found that it is
	accepted, taken := uint64(0), uint64(0)
	for i := range n.Tried {
		a := &n.Tried[i]
		ended := time.UnixMicro(a.Ended)
		if a.Producer <= backlogProducers || a.Result.State != ledger.Acked || ended.Before(back) || ended.After(drained) {
			continue
		}
		for seq := a.First; seq <= a.Last; seq++ {
			accepted++
			t, ok := arrived[id{a.Signal, a.Producer, seq}]
			if !ok {
				continue
			}
			if delays = append(delays, max(0, t.Sub(ended))); !t.After(drained) {
				taken++
			}
		}
	}
	r.Live = taken
	if accepted > 0 {
		r.LiveShare = float64(taken) / float64(accepted)
	}
	if slices.Sort(delays); len(delays) > 0 {
		r.Median, r.P99, r.Most = delays[len(delays)/2], delays[len(delays)*99/100], delays[len(delays)-1]
	}
	return nil
}

// offered finds the ten seconds since the first overload in which most was offered. A capacity of so many items a second
// takes ten times as many in ten seconds.
func (r *Recovery) offered(offers []ledger.Arrival, overload time.Time, capacity int) {
	if overload.IsZero() {
		return
	}
	sum, from := uint64(0), 0
	refused := map[int64]bool{}
	for i := range offers {
		if offers[i].T <= overload.UnixMicro() { // the one that found out
			from = i + 1
			continue
		}
		sum += offers[i].Last - offers[i].First + 1
		for offers[i].T-offers[from].T > offerWindow.Microseconds() {
			sum -= offers[from].Last - offers[from].First + 1
			from++
		}
		r.Offered = max(r.Offered, float64(sum)/(float64(capacity)*offerWindow.Seconds()))
	}
	for i := range offers {
		if !offers[i].Stored {
			refused[offers[i].T] = true
		}
	}
	r.Overloads = len(refused)
}
