// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package item

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"sync"
)

// maxRuns bounds the runs one checker tells apart; items of later ones are foreign.
const maxRuns = 64

// ErrMalformed says that bytes are no export request.
var ErrMalformed = errors.New("malformed request")

// Flags say what a checker saw at an item besides its identity.
type Flags uint8

// The flags, as letters c, t and p in a sink's notes.
const (
	Corrupted Flags = 1 << iota // carriers disagree, or the padding is another
	Stripped                    // attributes are gone; the padding was not checked
	Poison                      // a sink may refuse it
)

// String is the letters of the flags.
func (f Flags) String() string {
	var b []byte
	for i, c := range []byte("ctp") {
		if f&(1<<i) != 0 {
			b = append(b, c)
		}
	}
	return string(b)
}

// ParseFlags reads what String wrote.
func ParseFlags(text string) (Flags, bool) {
	var f Flags
	for _, c := range []byte(text) {
		switch c {
		case 'c':
			f |= Corrupted
		case 't':
			f |= Stripped
		case 'p':
			f |= Poison
		default:
			return 0, false
		}
	}
	return f, true
}

// Range is a run of items with consecutive numbers, as they stood in one request.
type Range struct {
	Run         *Run
	Signal      Signal
	Producer    uint16
	Request     uint64 // as the producer numbered it; 0 if that was stripped
	First, Last uint64
	Flags       Flags
}

// Items is how many items the range holds.
func (r Range) Items() int { return int(r.Last - r.First + 1) }

// Content is what a request held.
type Content struct {
	Ranges  []Range
	Items   int // all items, foreign ones included
	Foreign int // items without any identity of ours
	Damaged int // items whose identity is there but cannot be read; not in Ranges, not in Foreign
}

// Run is a run a checker knows.
type Run struct {
	Name string // empty as long as only its tag was seen
	Tag  Tag
	base int64 // microseconds since 1970; what items are checked against
	set  bool  // base is known
	// learned says that base was taken from the first item seen and not given.
	learned bool
}

// Label names the run in notes: its name, or its tag if the name was never seen.
func (r *Run) Label() string {
	if r.Name != "" {
		return r.Name
	}
	return "tag:" + hex.EncodeToString(r.Tag[:])
}

// Checker reads requests and says which items they hold. It may be used by many goroutines at once.
//
// The base time of a run is not carried by its items. A checker that was not told takes it from the first item it sees;
// all later ones have to agree.
type Checker struct {
	mu   sync.RWMutex
	runs map[Tag]*Run
}

// NewChecker returns a checker that knows no run yet.
func NewChecker() *Checker { return &Checker{runs: make(map[Tag]*Run)} }

// Know tells the name and the base time of a run, in microseconds since 1970.
func (c *Checker) Know(name string, base int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	tag := TagOf(name)
	c.runs[tag] = &Run{Name: name, Tag: tag, base: base, set: true}
}

// Base is the base time of a run in microseconds since 1970, 0 if it is not known yet.
func (c *Checker) Base(r *Run) int64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return r.base
}

// named finds or adds the run of a name.
func (c *Checker) named(name []byte) *Run {
	tag := TagOf(string(name))
	r := c.tagged(tag)
	if r != nil && r.Name == "" {
		// Seen by its tag alone before: from here on it has a name. The old entry stays with who holds it.
		c.mu.Lock()
		defer c.mu.Unlock()
		named := *r
		named.Name = string(name)
		c.runs[tag] = &named
		return &named
	}
	if r != nil && r.Name != string(name) {
		return nil
	}
	if r == nil {
		return c.add(&Run{Name: string(name), Tag: tag})
	}
	return r
}

func (c *Checker) add(r *Run) *Run {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.runs[r.Tag]; old != nil {
		return old
	}
	if len(c.runs) >= maxRuns {
		return nil
	}
	c.runs[r.Tag] = r
	return r
}

func (c *Checker) tagged(tag Tag) *Run {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.runs[tag]
}

// based checks a time against the run's base, which the first time seen sets.
func (c *Checker) based(r *Run, id ID, nanos uint64) bool {
	c.mu.RLock()
	set, base := r.set, r.base
	c.mu.RUnlock()
	if set {
		return Nanos(base, id) == nanos
	}
	guess := (nanos - Nanos(0, id)) / 1000
	if guess > math.MaxInt64/1000 || Nanos(int64(guess), id) != nanos {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !r.set {
		r.base, r.set, r.learned = int64(guess), true, true
	}
	return Nanos(r.base, id) == nanos
}

// Read reads one export request, protobuf or JSON, and returns what it holds; ranges are appended to into, which may be
// nil. Bytes that are no request of that signal give an error that wraps ErrMalformed.
func (c *Checker) Read(s Signal, json bool, body []byte, into []Range) (Content, error) {
	r := reading{c: c, signal: s, out: Content{Ranges: into[:0]}}
	var err error
	if json {
		err = r.json(body)
	} else {
		err = r.proto(body)
	}
	if err != nil {
		return Content{}, fmt.Errorf("%w: %s: %w", ErrMalformed, s, err)
	}
	return r.out, nil
}

// reading is one request on its way through a Checker.
type reading struct {
	c      *Checker
	signal Signal
	out    Content

	// Of the resource whose items are being read.
	resource struct {
		present bool
		run     *Run
		id      ID // its Seq is the number of the request
	}

	// The run found last, to spare a hash per item.
	last *Run
}

// raw is what a reader of either format finds at an item.
type raw struct {
	id, pad           []byte
	hasID, hasPad     bool
	poison            bool
	traceID, spanID   []byte
	hasTime, hasValue bool
	nanos             uint64
	value             float64
	text              []byte // body of a log record, if it is a string
	hasText           bool
}

// setResource notes the resource attribute that names the request; nil if there is none.
func (r *reading) setResource(text []byte) {
	r.resource.present = false
	run, id, ok := ParseID(text)
	if !ok || id.Signal != r.signal {
		return
	}
	if r.resource.run = r.runOf(run); r.resource.run == nil {
		return
	}
	r.resource.present, r.resource.id = true, id
}

func (r *reading) runOf(name []byte) *Run {
	if r.last == nil || r.last.Name != string(name) {
		r.last = r.c.named(name)
	}
	return r.last
}

// judge decides what one item is and adds it to the content.
func (r *reading) judge(i *raw) {
	r.out.Items++
	var flags Flags
	if i.poison {
		flags |= Poison
	}
	if i.hasID {
		name, id, ok := ParseID(i.id)
		var run *Run
		if ok {
			run = r.runOf(name)
		}
		if run != nil {
			if id.Signal != r.signal || !i.hasPad || !CheckPad(i.pad, run.Tag, id) || !r.agrees(i, run, id) {
				flags |= Corrupted
				id.Signal = r.signal
			}
			r.add(run, id, flags)
			return
		}
		flags |= Corrupted
	}
	run, id, ok := r.second(i)
	switch {
	case ok:
		if i.hasPad && !CheckPad(i.pad, run.Tag, id) || !r.agrees(i, run, id) {
			flags |= Corrupted
		}
		r.add(run, id, flags|Stripped)
	case i.hasID || i.hasPad:
		r.out.Damaged++
	default:
		r.out.Foreign++
	}
}

// agrees reports whether the second carrier says id.
func (r *reading) agrees(i *raw, run *Run, id ID) bool {
	if r.signal == Metrics {
		return i.hasValue && i.value == float64(id.Seq) && i.hasTime && r.c.based(run, id, i.nanos)
	}
	trace, span := TraceID(run.Tag, id.Producer, id.Seq), SpanID(id.Seq)
	if string(i.traceID) != string(trace[:]) || string(i.spanID) != string(span[:]) {
		return false
	}
	if r.signal == Logs && !r.textAgrees(i, run, id) {
		return false
	}
	return i.hasTime && r.c.based(run, id, i.nanos)
}

// textAgrees reports whether a log record's body begins with the text of the identity, followed by a space or nothing.
func (r *reading) textAgrees(i *raw, run *Run, id ID) bool {
	if run.Name == "" {
		return i.hasText // only the tag is known; the text cannot be computed
	}
	var space [96]byte
	want := AppendID(space[:0], run.Name, id)
	return i.hasText && len(i.text) >= len(want) && string(i.text[:len(want)]) == string(want) &&
		(len(i.text) == len(want) || i.text[len(want)] == ' ')
}

// second reads the carrier that survives the removal of attributes. A trace ID counts as one of ours when it ends in
// the span ID; chance does that once in 2^64. Data points carry only their number: run and producer come from the
// resource.
func (r *reading) second(i *raw) (*Run, ID, bool) {
	if r.signal == Metrics {
		ok := r.resource.present && i.hasValue && i.value >= 1 && i.value < 1<<53 && i.value == math.Trunc(i.value)
		if !ok {
			return nil, ID{}, false
		}
		return r.resource.run, ID{Metrics, r.resource.id.Producer, uint64(i.value)}, true
	}
	if len(i.traceID) != 16 || len(i.spanID) != 8 || string(i.traceID[8:]) != string(i.spanID) {
		return nil, ID{}, false
	}
	id := ID{Signal: r.signal, Producer: uint16(i.traceID[6])<<8 | uint16(i.traceID[7])}
	for _, b := range i.spanID {
		id.Seq = id.Seq<<8 | uint64(b)
	}
	if id.Producer == 0 || id.Seq == 0 {
		return nil, ID{}, false
	}
	tag := Tag(i.traceID[:6])
	run := r.c.tagged(tag)
	if run == nil {
		run = r.c.add(&Run{Tag: tag})
	}
	return run, id, run != nil
}

// add puts an item into the content: at the end of the last range if it goes on there.
func (r *reading) add(run *Run, id ID, flags Flags) {
	var request uint64
	if r.resource.present && r.resource.run.Tag == run.Tag && r.resource.id.Producer == id.Producer {
		request = r.resource.id.Seq
	}
	if n := len(r.out.Ranges); n > 0 {
		last := &r.out.Ranges[n-1]
		if last.Run.Tag == run.Tag && last.Producer == id.Producer && last.Request == request && last.Flags == flags &&
			last.Last+1 == id.Seq {
			last.Last = id.Seq
			return
		}
	}
	r.out.Ranges = append(r.out.Ranges, Range{Run: run, Signal: r.signal, Producer: id.Producer, Request: request,
		First: id.Seq, Last: id.Seq, Flags: flags})
}
