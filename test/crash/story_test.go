// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package crash

import (
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// story is what is known of a journal from outside, over all the lives of the processes that worked on it: what was
// acknowledged and what was resolved. A record is known by its number, which stands in its body.
type story struct {
	mu     sync.Mutex
	names  []string
	synced bool
	items  []item // by number
	seqs   map[queue.Seq]int
	low    int     // below it everybody is through with every record
	life   int     // of a process, from 1
	ends   []int64 // of each life, in ticks
	// Of this life:
	first     int              // number of its first record
	answered  int              // records that got an answer
	appenders int              // at most so many more were appended
	slots     map[string]int64 // end of the last slot write, by destination
	doing     map[string][]int // resolved since, oldest first

	crashes map[int]crash // how a life ended, if that matters
	cut     int64         // when the power went in this one, in ticks; 0 = it did not
	wrong   []string      // promises that were broken
	tally   tally
}

// tally is what a story counts.
type tally struct {
	acked, refused, resolved, letters int
	inventories, records              int   // records found in them
	late                              int   // acknowledged after the power went
	unanswered, survived              int   // appended and not answered when it crashed; of them there all the same
	duplicates, mostAtOnce            int   // resolved in a former life, and delivered or found again
	oldest                            int64 // the longest ago that one of them was resolved, before the crash, in ticks
	came                              int   // refused, and there after a crash
	lost, lostItems                   int   // given up by policy: unsynced mode, power cut
	booked                            int   // items that the books of whoever lost most give up
}

// item is one record.
type item struct {
	tried    bool
	seq      queue.Seq // the journal's number, as far as it is known
	life     int
	acked    int64 // when, in ticks; 0 = not
	refused  bool
	lost     bool // acknowledged, and given up by policy
	void     bool // appended without an answer, and not there after the crash
	fates    []fate
	resolved []int64 // when, in ticks; 0 = not
	in       []int   // the life of that
}

// fate is where a destination stands with a record.
type fate uint8

const (
	owed    fate = iota
	maybe        // about to be resolved when the process ended, or resolved since the last slot write
	settled      // resolved, and a slot that is on disk knows it
	gone         // resolved as a crash showed, or lost by policy: it never comes again
)

func newStory(o order) *story {
	return &story{names: o.Destinations, synced: o.Synced, items: make([]item, 1), seqs: map[queue.Seq]int{}, ends: make([]int64, 1), low: 1,
		crashes: map[int]crash{}}
}

func (s *story) failLocked(format string, args ...any) {
	if len(s.wrong) < 20 {
		s.wrong = append(s.wrong, fmt.Sprintf("life %d: ", s.life)+fmt.Sprintf(format, args...))
	}
}

// broken lists the promises that were broken so far.
func (s *story) broken() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wrong
}

// begin is a new process with so many appenders. It returns the number of its first record.
func (s *story) begin(appenders int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.life++
	s.first, s.answered, s.appenders, s.cut = len(s.items), 0, appenders, 0
	s.slots, s.doing = map[string]int64{}, map[string][]int{}
	return s.first
}

// end is the end of the process, at a moment in ticks: every record that it may have appended is known.
func (s *story) end(at int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := s.first; n < s.first+s.answered+s.appenders; n++ {
		if it := s.itemLocked(n); it.acked == 0 && !it.refused {
			s.tally.unanswered++ // as far as one can tell: so many more may have been appended
		}
	}
	s.ends = append(s.ends, at)
}

func (s *story) itemLocked(n int) *item {
	for n >= len(s.items) {
		s.items = append(s.items, item{})
	}
	it := &s.items[n]
	if !it.tried {
		*it = item{tried: true, life: s.life, fates: make([]fate, len(s.names)), resolved: make([]int64, len(s.names)),
			in: make([]int, len(s.names))}
	}
	return it
}

func (s *story) indexLocked(name string) int {
	for i, known := range s.names {
		if known == name {
			return i
		}
	}
	s.failLocked("destination %q is unknown", name)
	return 0
}

// hear takes in one line of a child. False: it is none of those that tell of records.
func (s *story) hear(line string) bool {
	f := strings.Fields(line)
	if len(f) < 2 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch f[0] {
	case "a": // number, when
		it := s.itemLocked(number(f[1]))
		s.answered++
		if at := ticksOf(f[2]); s.counts(at) {
			it.acked = at
			s.tally.acked++
		} else {
			s.tally.late++
		}
	case "x": // number, when, kind, text
		s.itemLocked(number(f[1])).refused = true
		s.answered++
		s.tally.refused++
	case "r": // destination, {number, seq}: about to be resolved
		s.resolvingLocked(s.indexLocked(f[1]), f[2:])
	case "u": // destination, {number, seq}: could not be resolved
		for i, d := 2, s.indexLocked(f[1]); i < len(f); i += 2 {
			s.itemLocked(number(f[i])).fates[d] = owed
		}
	case "R", "D": // destination, when, {number, seq}: resolved
		s.resolvedLocked(f[1], ticksOf(f[2]), f[3:])
		if f[0] == "D" && s.counts(ticksOf(f[2])) {
			s.tally.letters++
		}
	case "w": // destination, when: a slot is durable
		if at := ticksOf(f[2]); s.counts(at) {
			s.slotLocked(f[1], at)
		}
	case "s", "S":
	default:
		return false
	}
	return true
}

// counts says whether what a process was told by the disk at that moment holds: it was before the power went. When it
// goes the process lives on for a moment, unlike with a real cut, and a sync that is then at work may end well.
func (s *story) counts(at int64) bool { return s.cut == 0 || at < s.cut }

// unplug tells the story that the power goes now, and returns when that is.
func (s *story) unplug() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = ticks()
	return s.cut
}

func (s *story) resolvingLocked(d int, pairs []string) {
	for i := 0; i+1 < len(pairs); i += 2 {
		n := number(pairs[i])
		s.seenLocked(n, queue.Seq(number(pairs[i+1])))
		it := s.itemLocked(n)
		switch it.fates[d] {
		case settled, gone:
			s.failLocked("record %d was resolved by %s for good and is delivered again", n, s.names[d])
		case maybe:
			if it.in[d] == s.life {
				s.failLocked("record %d is delivered to %s again in the life in which it was resolved", n, s.names[d])
			}
			s.duplicateLocked(it, d)
		}
		it.fates[d], it.in[d], it.resolved[d] = maybe, s.life, 0
	}
}

// duplicateLocked counts a record that was resolved in a former life and comes again.
func (s *story) duplicateLocked(it *item, d int) {
	if it.resolved[d] != 0 {
		s.tally.duplicates++
		s.tally.oldest = max(s.tally.oldest, s.ends[it.in[d]]-it.resolved[d])
	}
}

func (s *story) resolvedLocked(name string, at int64, pairs []string) {
	d := s.indexLocked(name)
	for i := 0; i+1 < len(pairs); i += 2 {
		n := number(pairs[i])
		it := s.itemLocked(n)
		it.fates[d], it.in[d], it.resolved[d] = maybe, s.life, at
		s.doing[name] = append(s.doing[name], n)
		s.tally.resolved++
	}
}

// slotLocked: the slot that was written by then knows of all that was resolved when the slot before it was finished,
// since only then it began to be made.
func (s *story) slotLocked(name string, at int64) {
	d := s.indexLocked(name)
	before := s.slots[name]
	s.slots[name] = at
	list := s.doing[name]
	for len(list) > 0 {
		it := &s.items[list[0]]
		if it.resolved[d] >= before {
			break
		}
		it.fates[d] = settled
		list = list[1:]
	}
	s.doing[name] = list
}

// seenLocked: a number of the journal belongs to one record for ever.
func (s *story) seenLocked(n int, seq queue.Seq) {
	if other, ok := s.seqs[seq]; ok && other != n {
		s.failLocked("the journal's number %d was record %d and is record %d", seq, other, n)
	}
	it := s.itemLocked(n)
	if it.seq != 0 && it.seq != seq {
		s.failLocked("record %d was the journal's number %d and is %d", n, it.seq, seq)
	}
	s.seqs[seq], it.seq = n, seq
}

// lostLocked: nobody on disk knows of the record any more; its number may be given out again.
func (s *story) lostLocked(it *item) {
	delete(s.seqs, it.seq)
	it.seq = 0
}

// crash is how a process ended, for judging what is there of what it appended. What is there when the next one opens the
// journal is durable then.
type crash struct {
	// excused: a record that was acknowledged then may be lost (unsynced mode, power cut).
	excused func(acked int64) bool
	refused bool // what was refused may be there (G14)
	power   bool // what a destination was given may be gone with the disk: it lived on for a moment without one
	lies    bool // the disk has lost what it took: the books may tell of losses
}

// judge compares what is there after a crash with the story, and goes on from what it shows.
func (s *story) judge(found map[string]map[int]queue.Seq) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tally.inventories++
	for _, name := range s.names {
		s.tally.records += len(found[name])
		for n, seq := range found[name] {
			switch {
			case n <= 0 || n >= len(s.items) || !s.items[n].tried:
				s.failLocked("%s has record %d, which was never appended", name, n)
			case s.items[n].void:
				s.failLocked("record %d was never acknowledged, was not there after a crash, and is now with %s", n, name)
			case n < s.low:
				s.failLocked("record %d was resolved by everybody for good and is now with %s", n, name)
			default:
				s.seenLocked(n, seq)
			}
		}
	}
	dups, low := 0, true
	for n := s.low; n < len(s.items); n++ {
		it := &s.items[n]
		done := !it.tried || it.void || it.acked == 0 && !s.answerLocked(n, it, found)
		if !done {
			done = true
			for d, name := range s.names {
				_, here := found[name][n]
				dups += s.meetLocked(n, it, d, here)
				done = done && it.fates[d] == gone
			}
		}
		if low = low && done; low {
			s.low = n + 1
		}
	}
	s.tally.mostAtOnce = max(s.tally.mostAtOnce, dups)
	s.doing = map[string][]int{}
}

// meetLocked compares one record with what one destination has of it. It returns how many duplicates that makes.
func (s *story) meetLocked(n int, it *item, d int, here bool) (dups int) {
	name, c := s.names[d], s.crashes[it.life]
	switch was := it.fates[d]; {
	case here && (was == settled || was == gone):
		s.failLocked("record %d was resolved by %s for good and is there again", n, name)
	case here && was == maybe:
		if it.resolved[d] != 0 {
			dups = 1
			s.duplicateLocked(it, d)
		}
		it.fates[d], it.resolved[d] = owed, 0
	case here:
	case was == owed && c.excused != nil && c.excused(it.acked):
		it.fates[d] = gone
		if !it.lost {
			it.lost = true
			s.lostLocked(it)
			s.tally.lost++
			s.tally.lostItems += int(itemsOf(n))
		}
	case was == owed:
		s.failLocked("record %d was acknowledged in life %d, %d ms before its end, and %s does not have it",
			n, it.life, (s.ends[it.life]-it.acked)/1e6, name)
		it.fates[d] = gone // said once
	default:
		if was == maybe && c.excused != nil && !slices.Contains(it.fates, settled) {
			s.lostLocked(it) // it was resolved before it was durable, and no slot that is knows of it
		}
		it.fates[d] = gone
	}
	return dups
}

// answerLocked settles a record that got no answer, or was refused: it is there for everybody or for nobody. False: it is
// not there.
func (s *story) answerLocked(n int, it *item, found map[string]map[int]queue.Seq) bool {
	c := s.crashes[it.life]
	there, missing := "", ""
	for d, name := range s.names {
		_, here := found[name][n]
		switch {
		case here || it.fates[d] != owed && !c.power: // who was given it got it from the disk
			there = name
		case it.fates[d] == owed && !c.lies:
			missing = name
		}
	}
	if there == "" {
		it.void = true
		s.lostLocked(it)
		return false
	}
	if it.refused {
		s.tally.came++
		if !c.refused {
			s.failLocked("record %d was refused and is with %s", n, there)
		}
	} else {
		s.tally.survived++
	}
	if missing != "" {
		s.failLocked("record %d was not answered; %s has it and %s has not", n, there, missing)
	}
	it.acked, it.refused = s.ends[it.life], false
	return true
}

// tornWord is the reason for which the books give up what a kill tore, in unsynced mode: on disk a group that was being
// written looks as one that was answered and not synced.
const tornWord = "unsynced"

func forgiven(synced bool) []string {
	if synced {
		return nil
	}
	return []string{tornWord}
}

// forgiven are the reasons for which the books may tell of losses; "*": all.
func (s *story) forgiven() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.crashes {
		if c.excused != nil || c.lies {
			return []string{"*"}
		}
	}
	return forgiven(s.synced)
}

func (s *story) count() tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tally
}

// booked keeps what the books of whoever lost most say was lost.
func (s *story) booked(all []books) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range all {
		sum := 0
		for _, n := range b.Counts.Dropped {
			sum += int(n)
		}
		s.tally.booked = max(s.tally.booked, sum)
	}
}

// unbalanced says whose books do not add up, or tell of losses for other reasons than these.
func unbalanced(all []books, forgiven ...string) (wrong []string) {
	for _, b := range all {
		sum := b.Counts.Delivered + b.Counts.Rejected + b.Counts.Queued + b.Counts.Parked
		for reason, n := range b.Counts.Dropped {
			sum += n
			if !slices.Contains(forgiven, reason) && !slices.Contains(forgiven, "*") {
				wrong = append(wrong, fmt.Sprintf("the books of %s tell of %d items lost as %s", b.Name, n, reason))
			}
		}
		if b.Imbalance != 0 || b.Counts.Accepted != sum {
			wrong = append(wrong, fmt.Sprintf("the books of %s do not balance by %d: %+v", b.Name, b.Imbalance, b.Counts))
		}
	}
	sort.Strings(wrong)
	return wrong
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		return -1
	}
	return n
}

func ticksOf(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return -1
	}
	return n
}
