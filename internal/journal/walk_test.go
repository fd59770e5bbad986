// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// What the environment says of the random walk: how long it takes, and the seed of the only walk to be made.
const (
	walkVariable = "HOLDFAST_JOURNAL_WALK"
	seedVariable = "HOLDFAST_JOURNAL_SEED"
)

// oldSeeds are walks that found something once.
var oldSeeds = []uint64{}

// A journal does what its model does, whatever comes in whatever order: appends of all sizes, many destinations, every
// outcome, every call of the roster, disks that fail for a while or are full, crashes at any call, clocks that jump.
//
// Fault: P1 D1 D7
func TestJournalMatchesItsModel(t *testing.T) {
	if seed, err := strconv.ParseUint(os.Getenv(seedVariable), 10, 64); err == nil {
		walkOnce(t, seed, true)
		return
	}
	long := 10 * time.Second
	if d, err := time.ParseDuration(os.Getenv(walkVariable)); err == nil {
		long = d
	}
	var sum tally
	for _, seed := range oldSeeds {
		sum.add(walkOnce(t, seed, false))
	}
	for start := time.Now(); time.Since(start) < long && !t.Failed(); {
		sum.add(walkOnce(t, rand.Uint64(), false))
	}
	t.Logf("%+v", sum)
	if sum.Crashes == 0 || sum.Faults == 0 || sum.Refused == 0 || sum.Taken == 0 || sum.FromDisk == 0 {
		t.Errorf("these walks test little: %+v", sum)
	}
}

// tally is what happened on a walk.
type tally struct{ Walks, Steps, Appended, Refused, Taken, FromDisk, Crashes, Faults, Reopened int }

func (a *tally) add(b tally) {
	a.Walks, a.Steps, a.Appended, a.Refused = a.Walks+1, a.Steps+b.Steps, a.Appended+b.Appended, a.Refused+b.Refused
	a.Taken, a.FromDisk, a.Crashes = a.Taken+b.Taken, a.FromDisk+b.FromDisk, a.Crashes+b.Crashes
	a.Faults, a.Reopened = a.Faults+b.Faults, a.Reopened+b.Reopened
}

func walkOnce(t *testing.T, seed uint64, loud bool) (sum tally) {
	defer func() {
		if t.Failed() {
			t.Logf("replay: %s=%d go test -run TestJournalMatchesItsModel ./internal/journal", seedVariable, seed)
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		w := &walk{T: t, rng: rand.New(rand.NewPCG(seed, 7)), loud: loud}
		w.run()
		sum = w.tally
	})
	return sum
}

// walk is one random life of a journal, in many processes.
type walk struct {
	*testing.T
	rng  *rand.Rand
	loud bool
	tally

	modes   []func(*journal.Options)
	synced  bool
	roomy   bool // the disk has room for all of it
	sparse  bool // it cannot allocate
	mem     *vfs.Mem
	disk    *vfs.Faulty
	faulty  bool // a fault may strike
	store   *journal.Store
	j       *journal.Journal
	model   *model
	handles []*walkHandle
	cut     *crash
	jump    time.Duration
}

type walkHandle struct {
	queue.Cursor
	name   string
	closed bool
	leases []lease
}

type lease struct {
	queue.Delivered
	n int
}

// crash is one that comes at a disk call: what it leaves, and the model then.
type crash struct {
	mu    sync.Mutex
	after int // calls
	power bool
	seed  uint64
	disk  *vfs.Mem
	model *model
}

const walkSteps = 250

func (w *walk) run() {
	w.choose()
	w.start()
	for w.Steps = 1; w.Steps <= walkSteps && !w.Failed(); w.Steps++ {
		w.once()
		if w.cut != nil {
			w.afterCrash(w.rng.IntN(6) == 0)
		}
		if !w.Failed() && !w.faulty && w.rng.IntN(4) == 0 {
			w.compare()
		}
	}
	if !w.Failed() {
		w.end()
	}
	w.disk.Plan()
	w.disk.Watch(vfs.Watch{})
	w.store.Close(context.Background())
}

func (w *walk) say(format string, args ...any) {
	if w.loud {
		w.Logf("%4d: "+format, append([]any{w.Steps}, args...)...)
	}
}

func (w *walk) wrong(format string, args ...any) {
	w.Helper()
	w.Errorf("step %d: %s\n%s", w.Steps, fmt.Sprintf(format, args...), books(w.j))
}

// choose sets the scene.
func (w *walk) choose() {
	w.synced = w.rng.IntN(3) > 0
	w.sparse = w.rng.IntN(8) == 0
	capacity := int64(1) << 40
	w.roomy = w.rng.IntN(3) > 0
	if !w.roomy {
		capacity = 3 << 20
	}
	w.mem = vfs.NewMem(capacity)
	w.model = newModel(w.synced)
	size, cache := int64(64<<10)<<w.rng.IntN(3), int64(w.rng.IntN(2)*64)
	w.modes = []func(*journal.Options){func(o *journal.Options) {
		o.FSync, o.Segments, o.TailCacheMiB, o.MinFreeMiB = w.synced, size, cache, 1
		o.OnEvent = func(e journal.Event) {
			w.say("event %s %s %s %d-%d, %d records, %d items: %s %v", e.Kind, e.Destination, e.Reason, e.First, e.Last, e.Records, e.Items, e.Text, e.Err)
		}
		o.Now = func() time.Time { return stepped(time.Now(), w.jump) }
	}}
	w.say("synced %v, segments of %d, cache %d MiB, capacity %d", w.synced, size, cache, capacity)
}

// start opens what is on the disk, and attaches who was.
func (w *walk) start() {
	w.disk = vfs.NewFaulty(w.mem)
	w.plan()
	w.faulty, w.handles, w.cut = false, nil, nil
	var err error
	if w.store, err = journal.OpenStore(context.Background(), w.disk, options(w.modes...)); err != nil {
		w.Fatalf("step %d: open the store: %v", w.Steps, err)
	}
	var wanted []queue.Destination
	for _, name := range w.names(queue.Live) {
		wanted = append(wanted, destination(name))
	}
	if w.j, err = w.store.Head("traces", 1, wanted); err != nil {
		w.Fatalf("step %d: open the journal: %v", w.Steps, err)
	}
	states := map[string]queue.State{}
	for _, info := range w.j.List() {
		states[info.Name] = info.State
	}
	for _, name := range slices.Sorted(maps.Keys(w.model.dests)) {
		if least, _ := w.model.backlog(name); least > 0 && states[name] != queue.Live && states[name] != queue.Parked {
			w.wrong("%s is owed %d records and is in state %d", name, least, states[name])
		}
		if d := w.model.dest(name); d.state == queue.Live {
			w.attach(name)
		} else {
			d.state = states[name]
		}
	}
}

func destination(name string) queue.Destination {
	return queue.Destination{Name: name, Stored: true, Exporters: []string{name}}
}

// names are the destinations in a state, in order.
func (w *walk) names(state queue.State) (names []string) {
	for _, name := range []string{"a", "b", "c"} {
		if w.model.dest(name).state == state {
			names = append(names, name)
		}
	}
	return names
}

func (w *walk) once() {
	switch n := w.rng.IntN(100); {
	case n < 36:
		w.append(1)
	case n < 40:
		w.append(2 + w.rng.IntN(8))
	case n < 62:
		w.take()
	case n < 78:
		w.resolve()
	case n < 82:
		pass(time.Duration(w.rng.IntN(400)) * time.Millisecond)
	case n < 84:
		w.quiet()
	case n < 85:
		w.rehandle()
	case n < 89:
		w.roster()
	case n < 90:
		w.drainAll()
	case n < 94:
		w.fault()
	case n < 98:
		w.crashSoon()
	case n < 99:
		w.reopen()
	default:
		w.jump += time.Duration(w.rng.Int64N(int64(48*time.Hour))) - 24*time.Hour
	}
}

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
	w.takeSome(h, want, 100*time.Millisecond)
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
		if missing := w.model.drained(h.name); len(missing) > 0 {
			w.wrong("%s was never given the records %v", h.name, missing)
		}
	}
	h.Close()
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

// crashSoon lets the process die, or the power fail, at one of the next disk calls.
func (w *walk) crashSoon() {
	if w.cut != nil {
		return
	}
	c := &crash{after: 1 + w.rng.IntN(40), power: w.rng.IntN(2) == 0, seed: w.rng.Uint64N(1000)}
	w.cut = c
	w.say("power cut %v, seed %d, after %d calls", c.power, c.seed, c.after)
	mem, model := w.mem, w.model
	strike := func(vfs.Call) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.after--; c.after == 0 {
			c.strike(mem, model)
		}
	}
	if w.rng.IntN(2) == 0 {
		w.disk.Watch(vfs.Watch{Before: strike})
	} else {
		w.disk.Watch(vfs.Watch{After: strike})
	}
}

func (c *crash) strike(mem *vfs.Mem, model *model) {
	c.model = model.crashed(c.power)
	if c.power {
		c.disk = mem.CrashClone(c.seed)
	} else {
		c.disk = mem.KillClone()
	}
}

// afterCrash goes on with what the crash left, if it has come; now makes it come.
func (w *walk) afterCrash(now bool) {
	c := w.cut
	c.mu.Lock()
	if c.disk == nil && now {
		c.after = 0
		c.strike(w.mem, w.model)
	}
	c.mu.Unlock()
	if c.disk == nil {
		return
	}
	w.say("crash")
	w.FromDisk += int(w.j.Snapshot().CacheMisses)
	w.Faults += w.disk.Hits()
	w.disk.Plan()
	w.disk.Watch(vfs.Watch{})
	w.store.Close(context.Background()) // of the process that is dead: nothing it does is seen
	w.mem, w.model = c.disk, c.model
	w.Crashes++
	w.start()
	w.compare()
}

// reopen closes the journal in order, and opens it again.
func (w *walk) reopen() {
	if w.cut != nil {
		return
	}
	w.heal()
	w.say("closed and opened")
	w.FromDisk += int(w.j.Snapshot().CacheMisses)
	err := w.store.Close(context.Background())
	if err != nil && w.roomy {
		w.wrong("close: %v", err)
	}
	if err == nil {
		w.model.settle()
	}
	w.model = w.model.crashed(false)
	w.Reopened++
	w.start()
	w.compare()
}

// compare looks whether the journal says of itself what the model says.
func (w *walk) compare() {
	synctest.Wait()
	if wrong := unbalanced(w.j); wrong != "" {
		w.wrong("%s", wrong)
	}
	for _, d := range w.j.Snapshot().Destinations {
		least, most := w.model.backlog(d.Name)
		if n := d.Fill.Records; n < least || n > most {
			w.wrong("%s has a backlog of %d records, not %d to %d", d.Name, n, least, most)
		}
	}
}

// end delivers everything, and sees that nothing is left: no record, no segment, no byte that is not in the books.
func (w *walk) end() {
	w.cut = nil
	w.disk.Watch(vfs.Watch{})
	w.drainAll()
	w.compare()
	pass(25 * time.Second)
	if got := w.j.Snapshot().Segments; got > 1 && len(w.names(queue.Live)) > 0 && !w.Failed() {
		w.wrong("%d segments are left of an empty queue", got)
	}
	w.compareBytes()
	n := w.model.tried
	if w.append(1); !w.Failed() && w.model.tried == n+1 && len(w.names(queue.Live)) > 0 {
		if _, ok := w.model.answers[n+1]; !ok {
			w.wrong("with everything delivered it takes nothing")
		}
	}
	w.reopen()
	w.drainAll()
	w.compare()
}

// compareBytes looks whether the books know what is allocated. Quarantine is estimated, and what cannot be allocated is
// booked all the same.
func (w *walk) compareBytes() {
	if _, err := w.mem.Stat(directory + "/pipelines/traces/bad"); err == nil || w.sparse {
		return
	}
	var booked int64
	for _, bytes := range w.store.Snapshot().DiskBytes {
		booked += bytes
	}
	if got := allocated(w.T, w.mem, directory); got != booked {
		w.wrong("%d bytes are allocated and %d are in the books\n%s", got, booked, listing(w.mem, directory))
	}
}

// listing is the files below a directory, and what they take.
func listing(disk vfs.FS, dir string) (text string) {
	entries, err := disk.ReadDir(dir)
	if err != nil {
		return err.Error()
	}
	for _, e := range entries {
		name := dir + "/" + e.Name
		if e.Type.IsDir() {
			text += listing(disk, name)
		} else if info, err := disk.Stat(name); err == nil {
			text += fmt.Sprintf("\t%s: %d bytes, %d on the disk\n", name, info.Size, info.Allocated)
		}
	}
	return text
}
