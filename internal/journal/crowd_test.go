// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// Everything at once: many append, many take for several destinations, destinations come and go, the disk fails now and
// then. Who stays gets every record that was accepted, once; then the power fails, and nothing is missing either.
//
// Fault: D2 P1
func TestACrowdLosesNothing(t *testing.T) {
	for name, mode := range map[string][]func(*journal.Options){
		"synced": {small}, "unsynced": {small, unsynced}, "uncached": {small, uncached},
	} {
		t.Run(name, func(t *testing.T) {
			rng := luck(t)
			synctest.Test(t, func(t *testing.T) { crowd(t, rng, mode) })
		})
	}
}

func crowd(t *testing.T, rng *rand.Rand, mode []func(*journal.Options)) {
	const appenders, takers, records = 8, 3, 400
	mem := vfs.NewMem(1 << 40)
	disk := vfs.NewFaulty(mem)
	store := openStore(t, disk, mode...)
	defer func() { store.Close(context.Background()) }()
	j := head(t, store, wants("a", "b", "c")...)
	s := newStory(t)
	s.attach(j, "a")
	s.attach(j, "b")
	var all, appending sync.WaitGroup
	for range appenders {
		seed := rng.Uint64()
		appending.Go(func() {
			rng := rand.New(rand.NewPCG(seed, 2))
			for n := 0; n < records/appenders; {
				if s.append(j, []int{50, 500, 5000, 40 << 10}[rng.IntN(4)]) == nil {
					n++
				} else {
					pass(50 * time.Millisecond)
				}
				pass(time.Duration(rng.IntN(100)) * time.Millisecond)
			}
		})
	}
	done := make(chan struct{})
	all.Go(func() { appending.Wait(); close(done) })
	var mu sync.Mutex
	delivered := map[string]map[int]int{"a": {}, "b": {}}
	for name := range delivered {
		for range takers {
			seed := rng.Uint64()
			all.Go(func() {
				rng := rand.New(rand.NewPCG(seed, 3))
				c := j.Attach(name)
				defer c.Close()
				for {
					ctx, cancel := context.WithTimeout(context.Background(), time.Second)
					got, err := c.Take(ctx, queue.Want{Sizer: queue.Items, Max: 1 + rng.Int64N(50), Joins: func(_, _ *queue.Record) bool { return true }})
					cancel()
					if err != nil {
						select {
						case <-done:
							return
						default:
							continue
						}
					}
					pass(time.Duration(rng.IntN(20)) * time.Millisecond)
					for _, d := range got {
						o := queue.Outcome{Kind: queue.Ack}
						switch rng.IntN(12) {
						case 0:
							o = queue.Outcome{Kind: queue.Nack, Delay: time.Duration(rng.IntN(300)) * time.Millisecond}
						case 1:
							o = queue.Outcome{Kind: queue.Release}
						}
						if n, ok := numberOf(d.Body); !ok {
							t.Errorf("%s got bytes nobody appended", name)
						} else if o.Kind == queue.Ack {
							mu.Lock()
							delivered[name][n]++
							mu.Unlock()
						}
						s.resolve(c, name, o, d)
					}
				}
			})
		}
	}
	seeds := []uint64{rng.Uint64(), rng.Uint64()}
	all.Go(func() { // c comes and goes
		rng := rand.New(rand.NewPCG(seeds[0], 4))
		for {
			select {
			case <-done:
				return
			case <-time.After(time.Duration(rng.IntN(60)) * time.Millisecond):
			}
			switch rng.IntN(5) {
			case 0:
				j.Forget("c")
			case 1:
				j.Detach("c")
			case 2:
				if c, err := j.Inherit("c", "heir of c"); err == nil {
					for range 3 {
						ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
						if got, err := c.Take(ctx, queue.Want{}); err == nil {
							c.Resolve(queue.Outcome{Kind: queue.Ack}, got[0].Seq)
						}
						cancel()
					}
					c.Close()
				}
			default:
				j.Prepare(wants("c")[0])
				j.Attach("c").Close()
			}
		}
	})
	hits := 0
	all.Go(func() { // the disk fails now and then
		rng := rand.New(rand.NewPCG(seeds[1], 5))
		for {
			select {
			case <-done:
				hits += disk.Hits()
				disk.Plan()
				return
			case <-time.After(time.Duration(rng.IntN(300)) * time.Millisecond):
			}
			hits += disk.Hits()
			calls := []string{"datasync *.seg", "write *.seg", "write *.cur*", "create *", "rename *", "syncdir *", "remove *", "open *.seg"}
			disk.Plan(vfs.Rule{Call: calls[rng.IntN(len(calls))], Times: 1 + rng.IntN(2), Err: []error{syscall.EIO, syscall.EMFILE, syscall.ENOSPC}[rng.IntN(3)]})
		}
	})
	all.Wait()
	pass(5 * time.Second)
	for name := range delivered {
		s.mu.Lock()
		left := len(s.owed[name])
		s.mu.Unlock()
		c := j.Attach(name)
		if f := c.Fill(); int(f.Records) != left || f.Leased != 0 {
			t.Errorf("%s is left with %+v, and %d records were not acked", name, f, left)
		}
		for n, times := range delivered[name] {
			if times != 1 || !s.accepted[n] {
				t.Errorf("%s got record %d, accepted: %v, %d times", name, n, s.accepted[n], times)
			}
		}
		if len(delivered[name])+left != len(s.accepted) {
			t.Errorf("%s was given %d and is owed %d of %d accepted records", name, len(delivered[name]), left, len(s.accepted))
		}
	}
	if wrong := unbalanced(j); wrong != "" {
		t.Error(wrong)
	}
	if len(s.accepted) != records || hits == 0 {
		t.Errorf("%d records were accepted, %d calls failed", len(s.accepted), hits)
	}
	was := s.now()
	was.done = nil
	for seed := range uint64(4) {
		if wrong := survivors(mem.CrashClone(seed), was, mode...); wrong != "" {
			t.Errorf("power cut %d: %s", seed, wrong)
		}
	}
	if wrong := survivors(mem.KillClone(), was, mode...); wrong != "" {
		t.Errorf("killed: %s", wrong)
	}
}

// A destination that acks every other record leaves a gap behind each: before they are too many for its slot it is
// given only what closes gaps, and nothing is lost of what it knows.
func TestGapsAlwaysFitTheSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const records = 12_000
		mem := vfs.NewMem(1 << 40)
		events := &eventLog{}
		store := openStore(t, mem, unsynced, func(o *journal.Options) { o.OnEvent = events.note })
		j := head(t, store, dest)
		a := j.Attach("a")
		body := bodyOf(1, 16)
		for range records {
			if err := j.Append(context.Background(), queue.Record{Tag: 1, Items: 1, Size: 16, Meta: []byte("meta"), Body: body}); err != nil {
				t.Fatal(err)
			}
		}
		acked := map[queue.Seq]bool{}
		take := func() []queue.Delivered {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			got, _ := a.Take(ctx, queue.Want{Joins: func(_, _ *queue.Record) bool { return true }})
			return got
		}
		ack := func(seqs ...queue.Seq) {
			for _, seq := range seqs {
				acked[seq] = true
			}
			a.Resolve(queue.Outcome{Kind: queue.Ack}, seqs...)
		}
		for {
			got := take()
			if len(got) == 0 {
				break
			}
			var odd, even []queue.Seq
			for _, d := range got {
				if d.Seq%2 == 0 {
					even = append(even, d.Seq)
				} else {
					odd = append(odd, d.Seq)
				}
			}
			ack(even...)
			a.Resolve(queue.Outcome{Kind: queue.Nack, Delay: time.Hour}, odd...)
		}
		if n := len(acked); n < 4000 || n > 5500 {
			t.Errorf("%d gaps were made", n)
		}
		pass(3 * time.Second)
		for _, e := range events.list {
			if e.Kind == journal.Slow {
				t.Errorf("told of %s: %v", e.Text, e.Err)
			}
		}
		left := mem.KillClone()
		store.Close(context.Background())
		store = openStore(t, left, unsynced)
		defer func() { store.Close(context.Background()) }()
		j = head(t, store, dest)
		a = j.Attach("a")
		if f := a.Fill(); int(f.Records) != records-len(acked) {
			t.Errorf("after a restart %d records are left, not %d", f.Records, records-len(acked))
		}
		again := map[queue.Seq]bool{}
		for got := take(); len(got) > 0; got = take() {
			for _, d := range got {
				if acked[d.Seq] || again[d.Seq] {
					t.Fatalf("number %d comes again", d.Seq)
				}
				again[d.Seq] = true
			}
			var seqs []queue.Seq
			for _, d := range got {
				seqs = append(seqs, d.Seq)
			}
			slices.Reverse(seqs)
			a.Resolve(queue.Outcome{Kind: queue.Ack}, seqs...)
		}
		if len(again)+len(acked) != records {
			t.Errorf("%d records came before the restart and %d after it, of %d", len(acked), len(again), records)
		}
		if wrong := unbalanced(j); wrong != "" && strings.TrimSpace(wrong) != "" {
			t.Error(wrong)
		}
	})
}
