// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// append appends records, at once if there are several.
func (w *walk) append(records int) {
	full := w.rng.IntN(20) == 0
	var wait sync.WaitGroup
	for range records {
		size := []int{10, 300, 3000, 3000, 20 << 10, 100 << 10, 300 << 10}[w.rng.IntN(5+w.rng.IntN(3))]
		if full {
			size = 0
		}
		wait.Go(func() { w.appendOne(size) })
	}
	wait.Wait()
}

func (w *walk) appendOne(size int) {
	n := w.model.begin()
	body := bodyOf(n, size)
	err := w.j.Append(context.Background(), queue.Record{
		Tag: 1, Items: uint32(itemsOf(n)), Size: uint32(len(body)), Meta: []byte("meta"), Body: body,
	})
	w.model.answered(n, err)
	w.say("record %d of %d bytes: %v", n, size, err)
	w.model.change(func() {
		w.Appended++
		if err != nil {
			w.Refused++
		}
		if err != nil && !w.faulty && w.roomy {
			w.wrong("a good disk refused: %v", err)
		}
	})
}

// take leases what one destination has.
func (w *walk) take() {
	if len(w.handles) == 0 {
		return
	}
	h := w.handles[w.rng.IntN(len(w.handles))]
	if h.closed {
		return
	}
	want := queue.Want{Sizer: queue.Items, Max: int64(w.rng.IntN(40)), MaxBytes: int64(w.rng.IntN(3)) * 5000}
	if w.rng.IntN(3) > 0 {
		want.Joins = func(_, _ *queue.Record) bool { return true }
	}
	if w.rng.IntN(3) == 0 { // beside what is older
		if w.fresh == nil {
			w.fresh = map[string]queue.Seq{}
		}
		if f := h.Fill(); w.fresh[h.name] == 0 || w.rng.IntN(12) == 0 {
			w.fresh[h.name] = f.Last + 1
			w.say("%s is asked for records from %d on", h.name, f.Last+1)
		}
		want.From = w.fresh[h.name]
	}
	for _, l := range w.takeSome(h, want, 100*time.Millisecond) {
		if want.From > 0 && l.Seq >= want.From {
			w.Fresh++
		}
	}
}

func (w *walk) takeSome(h *walkHandle, want queue.Want, wait time.Duration) []lease {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	got, err := h.Take(ctx, want)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		w.wrong("take of %s: %v", h.name, err)
	}
	var leases []lease
	for i, d := range got {
		n, wrong := w.model.came(h.name, d)
		if wrong == "" && i > 0 && got[i-1].Seq >= d.Seq {
			wrong = fmt.Sprintf("number %d comes behind %d", d.Seq, got[i-1].Seq)
		}
		if wrong != "" {
			w.wrong("%s: %s", h.name, wrong)
		}
		leases = append(leases, lease{d, n})
		w.say("%s takes record %d (number %d)", h.name, n, d.Seq)
	}
	w.Taken += len(got)
	h.leases = append(h.leases, leases...)
	return leases
}

// resolve ends some leases of one handle.
func (w *walk) resolve() {
	if len(w.handles) == 0 {
		return
	}
	h := w.handles[w.rng.IntN(len(w.handles))]
	if len(h.leases) == 0 {
		return
	}
	w.rng.Shuffle(len(h.leases), func(i, k int) { h.leases[i], h.leases[k] = h.leases[k], h.leases[i] })
	n := 1 + w.rng.IntN(len(h.leases))
	o := queue.Outcome{Kind: []queue.Kind{queue.Ack, queue.Ack, queue.Ack, queue.Nack, queue.Release, queue.Dead,
		queue.Drop}[w.rng.IntN(7)], Reason: "operator"}
	if o.Kind == queue.Nack {
		o.Delay = time.Duration(w.rng.IntN(3000)) * time.Millisecond
	}
	if o.Kind == queue.Ack && w.rng.IntN(3) == 0 {
		n, o.Rejected = 1, uint32(w.rng.IntN(4))
	}
	done := slices.Clone(h.leases[:n])
	h.leases = slices.Delete(h.leases, 0, n)
	w.settle(h, o, done)
}

func (w *walk) settle(h *walkHandle, o queue.Outcome, done []lease) {
	final := o.Kind != queue.Nack && o.Kind != queue.Release
	if h.closed {
		final = o.Kind == queue.Ack
	}
	var seqs []queue.Seq
	var before []duty
	for _, l := range done {
		seqs = append(seqs, l.Seq)
		w.model.change(func() { before = append(before, w.model.dest(h.name).duties[l.n]) })
		if !h.closed {
			w.model.resolved(h.name, l.n, final)
		} else if final { // it counts unless it was resolved otherwise
			w.model.change(func() {
				if d := w.model.dest(h.name); d.duties[l.n] == owed || d.duties[l.n] == perhaps {
					d.duties[l.n] = settled
				}
			})
		}
	}
	w.say("%s resolves %v as %d", h.name, seqs, o.Kind)
	if err := h.Resolve(o, seqs...); err != nil {
		w.say("%v", err)
		if o.Kind != queue.Dead || !w.faulty && w.roomy {
			w.wrong("resolve as %d: %v", o.Kind, err)
		}
		w.model.change(func() {
			for i, l := range done {
				w.model.dest(h.name).duties[l.n] = before[i]
			}
		})
	}
}

// rehandle closes a handle, and opens another one.
func (w *walk) rehandle() {
	if len(w.handles) == 0 {
		return
	}
	h := w.handles[w.rng.IntN(len(w.handles))]
	h.Close()
	w.say("a handle of %s is closed", h.name)
	if !h.closed {
		h.closed = true
		for _, l := range h.leases {
			w.model.resolved(h.name, l.n, false)
		}
	}
	if w.model.dest(h.name).state == queue.Live {
		w.attach(h.name)
	}
}

func (w *walk) attach(name string) {
	w.model.change(func() { w.model.dest(name).state = queue.Live })
	w.handles = append(w.handles, &walkHandle{Cursor: w.j.Attach(name), name: name})
	w.say("%s is attached", name)
}

// letGo closes all handles of a destination.
func (w *walk) letGo(name string) {
	for _, h := range w.handles {
		if h.name == name && !h.closed {
			h.Close()
			h.closed = true
			for _, l := range h.leases {
				w.model.resolved(name, l.n, false)
			}
		}
	}
	w.handles = slices.DeleteFunc(w.handles, func(h *walkHandle) bool { return h.name == name })
}

// roster changes who is owed what.
func (w *walk) roster() {
	name := []string{"a", "b", "c"}[w.rng.IntN(3)]
	d := w.model.dest(name)
	switch {
	case d.state != queue.Live:
		if d.state != queue.Parked || w.rng.IntN(2) == 0 {
			if err := w.j.Prepare(destination(name)); err != nil {
				w.say("prepare %s: %v", name, err)
				if !w.faulty && w.roomy {
					w.wrong("prepare %s: %v", name, err)
				}
				return
			}
			w.attach(name)
			return
		}
		w.inherit(name)
	case w.rng.IntN(3) == 0:
		w.say("%s is forgotten", name)
		w.letGo(name)
		w.model.change(func() {
			d.state = queue.Done
			for n, duty := range d.duties {
				if duty == owed || duty == perhaps {
					d.duties[n] = settled
				}
			}
		})
		w.j.Forget(name)
	default:
		w.say("%s is detached", name)
		w.letGo(name)
		w.model.change(func() { d.state = queue.Parked })
		w.j.Detach(name)
		w.model.change(func() { d.state = w.stateOf(name) })
	}
}

func (w *walk) stateOf(name string) queue.State {
	for _, info := range w.j.List() {
		if info.Name == name {
			return info.State
		}
	}
	return queue.Done
}

// inherit delivers what is parked.
func (w *walk) inherit(name string) {
	c, err := w.j.Inherit(name, "heir of "+name)
	if err != nil {
		if w.stateOf(name) == queue.Parked {
			w.wrong("inherit %s: %v", name, err)
		}
		return
	}
	w.say("%s is inherited", name)
	w.drain(&walkHandle{Cursor: c, name: name})
	w.model.change(func() { w.model.dest(name).state = w.stateOf(name) })
}

// drain acks all there is.
func (w *walk) drain(h *walkHandle) {
	for h.Fill().Records > 0 && !w.Failed() {
		h.Wake()
		wait := 40 * time.Second
		if w.faulty {
			wait = 5 * time.Second
		}
		got := w.takeSome(h, queue.Want{Joins: func(_, _ *queue.Record) bool { return true }}, wait)
		if len(got) == 0 {
			if !w.faulty && h.Fill().Records > 0 {
				w.wrong("%s gives nothing of %+v", h.name, h.Fill())
			}
			break
		}
		h.leases = nil
		w.settle(h, queue.Outcome{Kind: queue.Ack}, got)
	}
	if h.Fill().Records == 0 {
		missing := w.model.drained(h.name)
		if given := w.givenUp(h.name); len(missing) > 0 && (!w.lossy || given < itemsOf(missing...)) {
			w.wrong("%s was never given the records %v; %d items were given up", h.name, missing, given)
		}
	}
	h.Close()
}

// givenUp is the items that limits have cost a destination since the last time it was asked for.
func (w *walk) givenUp(name string) (items uint64) {
	counts, _ := w.j.Counts(name)
	for reason, n := range counts.Dropped {
		if reason != "operator" {
			items += n
		}
	}
	w.model.change(func() {
		d := w.model.dest(name)
		items, d.gone = items-min(items, d.gone), items
	})
	return items
}

// drainAll delivers everything to everybody: nothing that is owed may be missing then.
func (w *walk) drainAll() {
	w.heal()
	for _, name := range w.names(queue.Live) {
		w.letGo(name)
		w.attach(name)
		h := w.handles[len(w.handles)-1]
		w.drain(h)
		w.handles = w.handles[:len(w.handles)-1]
		w.attach(name)
	}
	for _, name := range w.names(queue.Parked) {
		w.inherit(name)
	}
}

var walkFaults = []struct {
	call  string
	times int // at most
	errs  []error
}{
	{"datasync *.seg", 3, []error{syscall.EIO, syscall.ENOSPC}},
	{"datasync *.cur*", 5, []error{syscall.EIO}},
	{"datasync *", 8, []error{syscall.EIO}},
	{"write *.seg*", 4, []error{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT}},
	{"write *.cur*", 6, []error{syscall.EIO, syscall.ENOSPC}},
	{"allocate *", 6, []error{syscall.ENOSPC}},
	{"create *", 6, []error{syscall.EMFILE, syscall.ENOSPC, syscall.EROFS}},
	{"rename *", 4, []error{syscall.EIO, syscall.ENOSPC}},
	{"remove *", 6, []error{syscall.EIO, syscall.EROFS}},
	{"syncdir *", 4, []error{syscall.EIO}},
	{"truncate *", 4, []error{syscall.EIO}},
	{"open *", 6, []error{syscall.EMFILE, syscall.ENOENT}},
	{"read *.seg", 1, []error{syscall.EIO}},
	{"usage *", 6, []error{syscall.EIO}},
	{"stat *", 6, []error{syscall.EACCES}},
	{"dropbehind *", 6, []error{syscall.EIO}},
}

// fault lets some calls fail from now on, until heal.
func (w *walk) fault() {
	if w.faulty {
		w.heal()
		return
	}
	f := walkFaults[w.rng.IntN(len(walkFaults))]
	rule := vfs.Rule{
		Call: f.call, Skip: w.rng.IntN(4), Times: 1 + w.rng.IntN(f.times), Err: f.errs[w.rng.IntN(len(f.errs))],
	}
	if w.rng.IntN(2) == 0 && f.call == "write *.seg*" {
		rule.Room = int64(w.rng.IntN(64)) * 512
	}
	w.say("from now on: %s fails with %v, %d times after %d, room %d", rule.Call, rule.Err, rule.Times, rule.Skip, rule.Room)
	w.faulty = true
	w.model.change(func() { w.model.frail = true })
	w.plan(rule)
}

// plan sets the rules of the disk.
func (w *walk) plan(rules ...vfs.Rule) {
	if w.sparse {
		rules = append(rules, vfs.Rule{Call: "allocate *", Err: vfs.ErrUnsupported})
	}
	w.disk.Plan(rules...)
}

// heal ends all faults: within seconds the journal takes records again.
func (w *walk) heal() {
	if !w.faulty {
		return
	}
	w.Faults += w.disk.Hits()
	w.plan()
	pass(5 * time.Second)
	w.faulty = false
	w.say("the disk is good again")
	if state := w.j.Snapshot().State; state != "ok" && w.roomy {
		w.wrong("on a good disk it is %s: %v", state, w.j.Snapshot().Err)
	}
}

// quiet waits until all that is known is on the disk.
func (w *walk) quiet() {
	if !w.faulty {
		pass(3 * time.Second)
		w.compareBytes()
		if w.roomy {
			w.model.settle()
			w.say("quiet")
		}
	}
}
