// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
)

// maxSpan bounds the items one line of notes may name; a request holds at most a million.
const maxSpan = 16 << 20

// PlaceKind is what it means for an item to be in a place.
type PlaceKind string

// The kinds of places. All but Bad count as "not lost".
const (
	AtSink PlaceKind = "sink"
	InFile PlaceKind = "file"   // the emergency file
	Queued PlaceKind = "queued" // in the product's queue; the place is named after the destination
	Parked PlaceKind = "parked"
	Dead   PlaceKind = "dead" // dead letters
	Bad    PlaceKind = "bad"  // quarantine; for diagnosis only
)

// Place is where items may be.
type Place struct {
	Kind PlaceKind
	Name string
	// Ended is the time of the last end line of a sink's notes, in microseconds; 0 if there is none.
	Ended   int64
	Foreign uint64 // items without identity that arrived here
	Damaged uint64 // items with an identity that cannot be read
}

// PlaceIndex is the place of a Place in Notes.Places.
type PlaceIndex int

// Arrival is a run of consecutive items that reached a place at once.
type Arrival struct {
	T           int64 // microseconds since 1970; 0 where the place does not tell
	Place       PlaceIndex
	Conn        uint64
	Signal      item.Signal
	Producer    uint16
	Request     uint64
	First, Last uint64
	Stored      bool
	Answer      string
	Flags       item.Flags
}

// Tried is an attempt with its end.
type Tried struct {
	Attempt
	T      int64 // invoked, microseconds since 1970
	Ended  int64 // answered; 0 if no answer is noted, which is the same as Unknown
	Result Result
}

// Notes is all that is known about a run. The zero value with a Run is ready for use; methods are not for several
// goroutines at once.
type Notes struct {
	Run      *Run
	Tried    []Tried
	Places   []Place
	Arrivals []Arrival
	Faults   []Fault
	Samples  []Sample
	LoadEnd  int64 // the latest end line of a producer's notes, microseconds since 1970
	// Doubts are reasons why these notes cannot prove anything: an end line is missing, a line is damaged.
	Doubts []string
}

// Read reads the notes of a run: run.json, load-*.tsv, sink-*.tsv, faults.jsonl, samples.jsonl.
func Read(dir string) (*Notes, error) {
	run, err := ReadRun(dir)
	if err != nil {
		return nil, err
	}
	n := &Notes{Run: run}
	for _, kind := range []string{"load", "sink"} {
		paths, err := filepath.Glob(filepath.Join(dir, kind+"-*.tsv"))
		if err != nil {
			return nil, fmt.Errorf("notes: %w", err)
		}
		sort.Strings(paths)
		for _, path := range paths {
			if err := n.addFile(kind, path); err != nil {
				return nil, err
			}
		}
	}
	err = readLines(filepath.Join(dir, faultsFile), func(line []byte) error {
		var f Fault
		err := json.Unmarshal(line, &f)
		n.Faults = append(n.Faults, f)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("notes: %w", err)
	}
	n.Samples, err = readSamples(dir)
	return n, err
}

func (n *Notes) addFile(kind, path string) error {
	f, err := os.Open(path) //nolint:gosec // the directory is the caller's
	if err != nil {
		return fmt.Errorf("notes: %w", err)
	}
	defer f.Close() // read-only
	name := strings.TrimSuffix(filepath.Base(path), ".tsv")
	if kind == "load" {
		return n.AddProducer(name, f)
	}
	return n.AddSink(strings.TrimPrefix(name, "sink-"), f)
}

// AddPlace adds a place, or finds it.
func (n *Notes) AddPlace(kind PlaceKind, name string) PlaceIndex {
	for i := range n.Places {
		if n.Places[i].Kind == kind && n.Places[i].Name == name {
			return PlaceIndex(i)
		}
	}
	n.Places = append(n.Places, Place{Kind: kind, Name: name})
	return PlaceIndex(len(n.Places) - 1)
}

func (n *Notes) doubt(format string, args ...any) {
	n.Doubts = append(n.Doubts, fmt.Sprintf(format, args...))
}

// section is what of a notes file the lines being read belong to.
type section struct {
	open  bool // a header was read and no end line yet
	ours  bool // it belongs to the run in question
	lines uint64
}

// readBook reads a notes file. Sections of other runs are left out; damaged lines and missing end lines are doubts.
func (n *Notes) readBook(kind, name string, in io.Reader, base func(header []string), line func(f []string) error,
	end func(t int64)) error {
	l := &lineReader{name: name, in: bufio.NewReaderSize(in, 64<<10)}
	var s section
	sections := 0
	for {
		f, err := l.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if rest, ok := strings.CutPrefix(f[0], magic+kind+" "); ok {
			if s.open && s.ours {
				n.doubt("%s has no end line before line %d: its writer was killed", name, l.line)
			}
			words := strings.Fields(rest)
			s = section{open: true, ours: len(words) > 0 && (words[0] == n.Run.Name || words[0] == "tag:"+n.Run.Tag || words[0] == "-")}
			sections++
			if s.ours {
				base(words)
			}
			continue
		}
		if !s.open {
			if f[0] != "" {
				n.doubt("%v", l.errorf("a line outside of any section"))
			}
			continue
		}
		if f[0] == "E" {
			s.open = false
			t, lines, err := endLine(f)
			switch {
			case !s.ours:
			case err != nil:
				n.doubt("%v", l.errorf("%v", err))
			case lines != s.lines:
				n.doubt("%v", l.errorf("the end line counts %d lines, there are %d", lines, s.lines))
			default:
				end(t)
			}
			continue
		}
		s.lines++
		if !s.ours {
			continue
		}
		if err := line(f); err != nil {
			n.doubt("%v", l.errorf("%v", err))
		}
	}
	if s.open && s.ours || sections == 0 {
		n.doubt("%s has no end line: its writer was killed or is still running", name)
	}
	return nil
}

func endLine(f []string) (t int64, lines uint64, err error) {
	if len(f) != 3 {
		return 0, 0, errors.New("damaged end line")
	}
	t, err = strconv.ParseInt(f[1], 10, 64)
	if err == nil {
		lines, err = strconv.ParseUint(f[2], 10, 64)
	}
	return t, lines, err
}

// AddProducer reads a producer's notes.
func (n *Notes) AddProducer(name string, in io.Reader) error {
	open := make(map[[4]uint64]int) // attempt → index in Tried
	return n.readBook("load", name, in, func([]string) {}, func(f []string) error {
		p := fields{f: f, at: 1}
		t := p.time()
		a := Attempt{Signal: p.signal(), Producer: p.producer(), Request: p.number(), Attempt: uint32(p.number())}
		key := [4]uint64{uint64(a.Signal), uint64(a.Producer), a.Request, uint64(a.Attempt)}
		switch f[0] {
		case "I":
			a.First, a.Last = p.span()
			if p.err != nil {
				return p.err
			}
			open[key] = len(n.Tried)
			n.Tried = append(n.Tried, Tried{Attempt: a, T: t, Result: Result{State: Unknown}})
		case "R":
			r := p.result()
			i, ok := open[key]
			if p.err != nil || !ok {
				return errors.Join(p.err, p.unless(ok, "an answer without its attempt"))
			}
			delete(open, key)
			n.Tried[i].Ended, n.Tried[i].Result = t, r
		default:
			return fmt.Errorf("unknown line %q", f[0])
		}
		return nil
	}, func(t int64) { n.LoadEnd = max(n.LoadEnd, t) })
}

// AddSink reads a sink's notes.
func (n *Notes) AddSink(name string, in io.Reader) error {
	place := n.AddPlace(AtSink, name)
	shifted := false
	return n.readBook("sink", "sink-"+name, in, func(words []string) {
		shifted = false
		for _, w := range words[1:] {
			if text, ok := strings.CutPrefix(w, "base="); ok {
				shifted = text != strconv.FormatInt(n.Run.BaseMicro, 10)
			}
		}
	}, func(f []string) error {
		p := fields{f: f, at: 1}
		a := Arrival{T: p.time(), Place: place, Conn: p.number(), Signal: p.signal()}
		switch f[0] {
		case "S":
			a.Producer, a.Request = p.producer(), p.number()
			a.First, a.Last = p.span()
			a.Stored, a.Answer, a.Flags = p.yes(), p.text(), p.flags()
			if p.err != nil {
				return p.err
			}
			if shifted {
				// The sink learned its base from what arrived, and that is not the producer's: all times are wrong.
				a.Flags |= item.Corrupted
			}
			n.Arrivals = append(n.Arrivals, a)
		case "F":
			foreign, damaged := p.number(), p.number()
			if p.err != nil {
				return p.err
			}
			n.Places[place].Foreign += foreign
			n.Places[place].Damaged += damaged
		default:
			return fmt.Errorf("unknown line %q", f[0])
		}
		return nil
	}, func(t int64) { n.Places[place].Ended = max(n.Places[place].Ended, t) })
}

// fields reads the fields of a line one after the other; the first error stays.
type fields struct {
	f   []string
	at  int
	err error
}

func (p *fields) text() string {
	if p.at >= len(p.f) {
		p.err = errors.Join(p.err, errors.New("line is too short"))
		return ""
	}
	p.at++
	return plainText(p.f[p.at-1])
}

func (p *fields) number() uint64 {
	v, err := strconv.ParseUint(p.text(), 10, 64)
	if err != nil && p.err == nil {
		p.err = err
	}
	return v
}

func (p *fields) time() int64 {
	v := p.number()
	return int64(min(v, 1<<62))
}

func (p *fields) signal() item.Signal {
	s, ok := item.ParseSignal(p.text())
	p.err = errors.Join(p.err, p.unless(ok, "unknown signal"))
	return s
}

func (p *fields) producer() uint16 {
	v := p.number()
	p.err = errors.Join(p.err, p.unless(v > 0 && v <= item.MaxProducer, "producer out of range"))
	return uint16(v)
}

func (p *fields) span() (first, last uint64) {
	first, last = p.number(), p.number()
	p.err = errors.Join(p.err, p.unless(first > 0 && last >= first && last-first < maxSpan, "items out of range"))
	return first, last
}

func (p *fields) yes() bool { return p.text() == "1" }

func (p *fields) flags() item.Flags {
	f, ok := item.ParseFlags(p.text())
	p.err = errors.Join(p.err, p.unless(ok, "unknown flags"))
	return f
}

func (p *fields) result() (r Result) {
	state := p.text()
	if count, ok := strings.CutPrefix(state, string(Partial)+"("); ok {
		v, err := strconv.ParseUint(strings.TrimSuffix(count, ")"), 10, 64)
		p.err = errors.Join(p.err, err)
		state, r.Rejected = string(Partial), v
	}
	r.State = State(state)
	switch r.State {
	case Acked, Partial, Unknown, Refused:
	default:
		p.err = errors.Join(p.err, fmt.Errorf("unknown state %q", state))
	}
	r.Code, r.Text = p.text(), p.text()
	return r
}

func (p *fields) unless(ok bool, text string) error {
	if ok {
		return nil
	}
	return errors.New(text)
}
