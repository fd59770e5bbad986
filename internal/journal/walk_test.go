// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
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
	if sum.Crashes == 0 || sum.Faults == 0 || sum.Refused == 0 || sum.Taken == 0 || sum.Fresh == 0 || sum.FromDisk == 0 {
		t.Errorf("these walks test little: %+v", sum)
	}
}

// tally is what happened on a walk.
type tally struct{ Walks, Steps, Appended, Refused, Taken, Fresh, FromDisk, Crashes, Faults, Reopened int }

func (a *tally) add(b tally) {
	a.Walks, a.Steps, a.Appended, a.Refused = a.Walks+1, a.Steps+b.Steps, a.Appended+b.Appended, a.Refused+b.Refused
	a.Taken, a.Fresh, a.FromDisk, a.Crashes = a.Taken+b.Taken, a.Fresh+b.Fresh, a.FromDisk+b.FromDisk, a.Crashes+b.Crashes
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
	size    int64 // of segments
	maxSize int64 // of the journal, if it is lossy
	synced  bool
	roomy   bool // the disk has room for all of it
	sparse  bool // it cannot allocate
	lossy   bool // what is oldest gives way
	mem     *vfs.Mem
	disk    *vfs.Faulty
	faulty  bool // a fault may strike
	store   *journal.Store
	j       *journal.Journal
	model   *model
	handles []*walkHandle
	cut     *crash
	step    atomic.Int64
	jump    atomic.Int64         // by how many nanoseconds the clock is off
	fresh   map[string]queue.Seq // from where a destination is asked for fresh records
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
		w.step.Store(int64(w.Steps))
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
		w.Logf("%4d: "+format, append([]any{w.step.Load()}, args...)...)
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
	w.lossy = w.rng.IntN(4) == 0
	w.roomy = w.roomy && !w.lossy
	w.mem = vfs.NewMem(capacity)
	w.model = newModel(w.synced)
	size, cache := int64(64<<10)<<w.rng.IntN(3), int64(w.rng.IntN(2)*64)
	w.size, w.maxSize = size, 16*size
	w.modes = []func(*journal.Options){func(o *journal.Options) {
		o.FSync, o.Segments, o.TailCacheMiB, o.MinFreeMiB = w.synced, size, cache, 1
		if w.lossy {
			o.MaxSize, o.Overflow, o.ParkedHold = w.maxSize, "drop_oldest", 30*time.Second
		}
		o.OnEvent = func(e journal.Event) {
			w.say("event %s %s %s %d-%d, %d records, %d items: %s %v", e.Kind, e.Destination, e.Reason, e.First, e.Last, e.Records, e.Items, e.Text, e.Err)
		}
		o.Now = func() time.Time { return stepped(time.Now(), time.Duration(w.jump.Load())) }
	}}
	w.say("synced %v, segments of %d, cache %d MiB, capacity %d", w.synced, size, cache, capacity)
}

// start opens what is on the disk, and attaches who was.
func (w *walk) start() {
	w.disk = vfs.NewFaulty(w.mem)
	w.plan()
	w.faulty, w.handles, w.cut, w.fresh = false, nil, nil, nil
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
		before := w.model.dest(name).gone
		w.givenUp(name)
		w.model.dest(name).gone = min(before, w.model.dest(name).gone) // a crash may have taken a drop back
		if least, _ := w.model.backlog(name); least > 0 && !w.lossy && states[name] != queue.Live && states[name] != queue.Parked {
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
		w.jump.Add(w.rng.Int64N(int64(48*time.Hour)) - int64(24*time.Hour))
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
	struck := c.disk != nil
	c.mu.Unlock()
	if !struck {
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
		if n := d.Fill.Records; n < least && !w.lossy || n > most {
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
		w.wrong("%d segments are left of an empty queue\n%s", got, listing(w.mem, directory))
	}
	w.compareBytes()
	if used := w.store.Snapshot().DiskBytes; w.lossy && w.maxSize-used["cursors"]-used["dead"]-used["bad"] > 330<<10+3*w.size {
		w.takesAgain(300 << 10) // there is room for it, beside an active and a prepared segment
	}
	w.takesAgain(300)
	w.reopen()
	w.drainAll()
	w.compare()
}

// takesAgain sees that an empty queue takes a record of that size.
func (w *walk) takesAgain(size int) {
	n := w.model.tried
	if w.appendOne(size); !w.Failed() && len(w.names(queue.Live)) > 0 {
		if _, ok := w.model.answers[n+1]; !ok {
			w.wrong("with everything delivered it does not take %d bytes: %v\n%s", size, w.store.Snapshot().DiskBytes,
				listing(w.mem, directory))
		}
	}
}

// compareBytes looks whether the books know what is allocated. Quarantine is estimated, and what cannot be allocated is
// booked all the same. Books that a fault made too high, which harms nobody, are put right by the third recount.
func (w *walk) compareBytes() {
	if _, err := w.mem.Stat(directory + "/pipelines/traces/bad"); err == nil || w.sparse {
		return
	}
	got, booked := w.bytes()
	if booked > got {
		pass(45 * time.Second)
		got, booked = w.bytes()
	}
	if got != booked {
		w.wrong("%d bytes are allocated and %d are in the books: %v\n%s", got, booked, w.store.Snapshot().DiskBytes,
			listing(w.mem, directory))
	}
}

// bytes is what is allocated, and what the books say.
func (w *walk) bytes() (got, booked int64) {
	synctest.Wait() // a keeper that woke at the same instant may be between the books and the disk
	for _, bytes := range w.store.Snapshot().DiskBytes {
		booked += bytes
	}
	return allocated(w.T, w.mem, directory), booked
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
