// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package crash

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// orderMark names the variable with the orders of a child: this binary, run once more.
const orderMark = "HOLDFAST_CRASH_ORDER"

// order is what a child does. It obeys further words on its standard input, see heed.
type order struct {
	Role string // watchdog, or what is below
	Dir  string // of the store

	Synced                         bool
	SegmentKiB, CapMiB, MinFreeMiB int64
	CacheMiB                       int64
	Timeout                        time.Duration // for the lock
	Destinations                   []string
	Files                          int  // descriptors it may open; 0 = as many as usual
	Inventory                      bool // tell first what is there
	Seed                           uint64

	First     int // number of the first record that is appended
	Size      int // of bodies; 0 = mixed
	Appenders int
	Idle      bool // appenders and consumers wait for a word
	Backlog   int  // appenders pause while a destination has more records
	Bytes     int64
	Consumers map[string]string // by destination: see consume
	Letters   int               // dead letters each of them may make
	Syncs     bool              // tell of syncs of segments
	Effects   bool              // tell of all effects
	Die       death
	Lie       lie
}

func (o *order) options() journal.Options {
	opts := journal.Options{
		Config: *journal.Default().(*journal.Config), Heads: 1, Segments: o.SegmentKiB << 10,
		Owner: fmt.Sprintf("crash test, pid %d", os.Getpid()), Now: time.Now,
	}
	opts.Directory, opts.FSync, opts.Timeout = o.Dir, o.Synced, o.Timeout
	opts.MaxFileSizeMiB, opts.MinFreeMiB = o.CapMiB, max(1, o.MinFreeMiB)
	if o.CacheMiB > 0 {
		opts.TailCacheMiB = o.CacheMiB
	}
	return opts
}

func (o *order) wanted() []queue.Destination {
	var all []queue.Destination
	for _, name := range o.Destinations {
		all = append(all, queue.Destination{Name: name, Exporters: []string{name}, Stored: true})
	}
	return all
}

// say writes one line, unbuffered: once it returns, no kill takes it back.
func say(format string, args ...any) {
	if _, err := os.Stdout.Write(fmt.Appendf(nil, format+"\n", args...)); err != nil {
		os.Exit(4) // nobody listens any more
	}
}

// child is a process that works on a journal.
type child struct {
	order
	disk    *border
	store   *journal.Store
	journal *journal.Journal
	cursors map[string]queue.Cursor // one handle each, for looking

	next      atomic.Int64
	bytes     atomic.Int64
	appending gate
	consuming gate
	ctx       context.Context
	stop      context.CancelFunc
	work      sync.WaitGroup
	renamed   sync.Map // cursors whose files have got their names, and when
	filled    sync.Once
}

// opened is what a child tells when its journal is open.
type opened struct {
	Took     time.Duration // opening, in the process
	Read     int64         // bytes
	Segments int
	Books    []books
}

// books are what a journal says of one destination.
type books struct {
	Name      string
	Counts    queue.Counts
	Imbalance int64
	Records   int64 // owed
}

// obey is the child's main.
func obey(text string) int {
	c := &child{}
	if err := json.Unmarshal([]byte(text), &c.order); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	if c.Role == roleWatchdog {
		return guard(c.Dir)
	}
	if c.Files > 0 {
		if err := starve(c.Files); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 2
		}
	}
	c.disk = &border{FS: vfs.OS(), die: c.Die, lie: c.Lie, tell: c.tell, began: c.began}
	c.ctx, c.stop = context.WithCancel(context.Background())
	c.next.Store(int64(c.First))
	c.appending.set(!c.Idle)
	c.consuming.set(!c.Idle)
	if err := c.open(); err != nil {
		say("failed %s", oneLine(err))
		return 1
	}
	if c.Inventory {
		found, err := takeAll(c.ctx, c.journal, c.Destinations, c.Size)
		for name, list := range found {
			for n, seq := range list {
				say("found %s %d %d", name, n, seq)
			}
		}
		if err != nil {
			say("wrong %s", oneLine(err))
		}
		say("told %s", strings.Join(c.Destinations, " "))
	}
	c.start()
	return c.heed()
}

// starve leaves the process so many descriptors beyond those it has, and beyond what the runtime takes for itself.
func starve(files int) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	free := min(r.Fd(), w.Fd())
	if err := errors.Join(r.Close(), w.Close()); err != nil {
		return err
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Cur = uint64(free) + uint64(files)
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
}

func (c *child) open() (err error) {
	began := time.Now()
	opts := c.options()
	opts.OnEvent = func(e journal.Event) {
		text := e.Text
		if e.Reason != "" {
			text += " (" + e.Reason + ")"
		}
		if e.Err != nil {
			text += ": " + oneLine(e.Err)
		}
		say("event %d %s %s %s", e.Level, e.Kind, e.Destination, strings.ReplaceAll(text, "\n", "; "))
	}
	if c.store, err = journal.OpenStore(c.ctx, c.disk, opts); err != nil {
		return err
	}
	say("store")
	if c.journal, err = c.store.Head("traces", 1, c.wanted()); err != nil {
		return errors.Join(err, c.store.Close(c.ctx))
	}
	took := time.Since(began)
	c.cursors = map[string]queue.Cursor{}
	for _, name := range c.Destinations {
		c.cursors[name] = c.journal.Attach(name)
	}
	say("open %s", c.summary(took))
	return nil
}

func (c *child) summary(took time.Duration) []byte {
	snap := c.journal.Snapshot()
	sum := opened{Took: took, Read: c.disk.read.Load(), Segments: snap.Segments, Books: booksOf(&snap)}
	text, err := json.Marshal(sum)
	if err != nil {
		panic(err)
	}
	return text
}

func booksOf(snap *journal.Snapshot) (all []books) {
	for _, d := range snap.Destinations {
		all = append(all, books{d.Name, d.Counts, d.Imbalance, d.Fill.Records})
	}
	return all
}

// tell reports the effects that the story needs: a slot that is durable, syncs of segments. A slot is durable when it was
// written in place and synced, or when the name of the file that has it was.
func (c *child) tell(op, name string, began int64, err error) {
	file := path.Base(name)
	cursor, isCursor := strings.CutSuffix(file, layout.CursorSuffix)
	switch {
	case op == "datasync" && c.Syncs && strings.HasSuffix(file, layout.SegmentSuffix):
		say("S %s %d %d %t", file, began, ticks(), err == nil)
	case err != nil:
	case op == "datasync" && isCursor:
		say("w %s %d", cursor, ticks())
	case op == "rename" && isCursor:
		c.renamed.Store(cursor, ticks())
	case op == "syncdir" && path.Base(name) == layout.Cursors:
		c.renamed.Range(func(cursor, at any) bool {
			if at.(int64) < began && c.renamed.CompareAndDelete(cursor, at) {
				say("w %s %d", cursor, ticks())
			}
			return true
		})
	}
	if c.Effects {
		word := "ok"
		if err != nil {
			word = oneLine(err)
		}
		say("effect %s %s %s", op, name, word)
	}
}

func (c *child) began(op, name string) {
	if c.Syncs && op == "datasync" && strings.HasSuffix(name, layout.SegmentSuffix) {
		say("s %s %d", path.Base(name), ticks())
	}
}

// heed does what standard input says, until it ends or says so.
func (c *child) heed() int {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		switch word := in.Text(); word {
		case "append on", "append off":
			c.appending.set(word == "append on")
		case "consume on", "consume off":
			c.consuming.set(word == "consume on")
		case "show":
			snap := c.journal.Snapshot()
			say("state %s %s", snap.State, oneLine(snap.Err))
			say("show %s", c.summary(0))
		case "memory":
			say("memory %d", peak())
		case "exit":
			return 0 // as a crash, but for what the runtime does at an exit
		case "close":
			c.stop()
			c.work.Wait()
			err := c.store.Close(context.Background())
			say("closed %s", oneLine(err))
			return 0
		default:
			say("wrong word %q", word)
			return 2
		}
	}
	return 3 // the parent is gone
}

// gate lets pass, or not.
type gate struct {
	mu   sync.Mutex
	open chan struct{} // closed: open
}

func (g *gate) set(open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open == nil {
		g.open = make(chan struct{})
	}
	select {
	case <-g.open:
		if !open {
			g.open = make(chan struct{})
		}
	default:
		if open {
			close(g.open)
		}
	}
}

// pass waits until the gate is open, or ctx ends.
func (g *gate) pass(ctx context.Context) bool {
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	select {
	case <-open:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// peak is the most memory this process ever had, in bytes (VmHWM).
func peak() int64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return -1
	}
	for line := range strings.Lines(string(text)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	return -1
}

func oneLine(err error) string {
	if err == nil {
		return "-"
	}
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}
