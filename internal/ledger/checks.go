// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
)

// Restart is the text of a fault line that says a victim was started again; expect counts them as "restarts".
const Restart = "restart"

// ReasonRejected is the reason under which Options.AllowDrop allows what backends refused for good.
const ReasonRejected = "rejected"

// checkDeclared compares what the product says it dropped with what is missing, per signal.
func (c *count) checkDeclared() {
	if c.o.Metrics == nil {
		return
	}
	for _, s := range item.Signals {
		sums := c.v.Signals[s.String()]
		var dropped, rejected int64
		for _, b := range c.o.Metrics.Books() {
			if b.Signal != s.String() {
				continue
			}
			for reason, n := range b.Reasons {
				dropped += n
				if n > 0 && !slices.Contains(c.o.AllowDrop, reason) {
					c.v.fail("declared", "%s: %s %s were dropped for %s, and the scenario does not allow it", b.Destination, num(n), s,
						reason)
				}
			}
			rejected += b.Rejected
		}
		if dropped+rejected == 0 {
			continue
		}
		if sums == nil {
			c.v.fail("declared", "%s %s are declared dropped, and none was sent", num(dropped+rejected), s)
			continue
		}
		// Dead letters are a place; what a partial success told the producer is no loss.
		rejected = max(0, rejected-int64(c.stored[Dead][s])-int64(sums.Partial))
		if rejected > 0 && !slices.Contains(c.o.AllowDrop, ReasonRejected) {
			c.v.fail("declared", "%s %s were rejected by backends, and the scenario does not allow it", num(rejected), s)
		}
		sums.Declared = dropped + rejected
		c.v.Declared += sums.Declared
		// Items that were never acknowledged may have been taken, and dropped, too.
		if could := int64(sums.Missing + sums.MissingElse); sums.Declared > could {
			c.v.fail("declared", "%s %s are declared dropped, but only %s are missing", num(sums.Declared), s, num(could))
		}
	}
}

// checkArrivals judges what arrived and should not have, or not so, or not there.
func (c *count) checkArrivals() {
	v := c.v
	if v.Corrupted > 0 {
		v.fail("corrupted", "%s items arrived with carriers that disagree or another padding%s", num(int64(v.Corrupted)), c.example())
	}
	if v.Phantom > 1 {
		v.fail("phantom", "%s in all", num(int64(v.Phantom)))
	}
	if v.Undead > 1 {
		v.fail("undead", "%s in all", num(int64(v.Undead)))
	}
	if d := v.Duplicates; int64(d.Ours) > d.Bound {
		v.fail("duplicates", "%s duplicates are ours, the bound is %s", num(int64(d.Ours)), num(d.Bound))
	}
	if v.Foreign > 0 && c.o.Strict {
		v.fail("foreign", "%s items have no identity", num(int64(v.Foreign)))
	}
	if v.Stripped > 0 && !c.o.AllowStripped {
		v.doubt("stripped", "%s items arrived without attributes: their content is not proven", num(int64(v.Stripped)))
	}
	c.checkWindows()
}

// example names one corrupted arrival.
func (c *count) example() string {
	for i := range c.notes.Arrivals {
		a := &c.notes.Arrivals[i]
		if a.Flags&item.Corrupted != 0 {
			return fmt.Sprintf(", the first: %s producer %d item %d at %s", a.Signal, a.Producer, a.First, c.notes.Places[a.Place].Name)
		}
	}
	return ""
}

// checkWindows counts what sinks stored outside of the times they may have been used. Sinks that no window names may
// always be used.
func (c *count) checkWindows() {
	windows := make(map[string][]Window)
	for _, w := range c.o.Allow {
		windows[w.Sink] = append(windows[w.Sink], w)
	}
	for i := range c.notes.Arrivals {
		a := &c.notes.Arrivals[i]
		p := &c.notes.Places[a.Place]
		if p.Kind != AtSink || !a.Stored || windows[p.Name] == nil {
			continue
		}
		t := time.UnixMicro(a.T)
		inside := slices.ContainsFunc(windows[p.Name], func(w Window) bool {
			return (w.From.IsZero() || !t.Before(w.From.Add(-slack))) && (w.To.IsZero() || !t.After(w.To.Add(slack)))
		})
		if inside {
			continue
		}
		if c.v.Misrouted == 0 {
			c.v.fail("misrouted", "%s producer %d items %d-%d arrived at %s at %s, outside its windows", a.Signal, a.Producer,
				a.First, a.Last, p.Name, clock(a.T))
		}
		c.v.Misrouted += a.Last - a.First + 1
	}
}

// checkLost judges what is missing. Where a queue may still hold it, or something may still arrive, it is a doubt.
func (c *count) checkLost() {
	v := c.v
	for _, s := range v.Signals {
		if m := int64(s.Missing) - max(s.Declared, 0); m > 0 {
			v.Lost += uint64(m)
		}
	}
	if c.o.AllowFiltered {
		v.Filtered, v.Lost, v.LostItems = v.Lost, 0, nil
	}
	if v.Lost == 0 {
		v.LostItems = nil
		return
	}
	for i := range v.LostItems[:min(len(v.LostItems), maxShown)] {
		v.LostItems[i].Seen = c.lastSeen(&v.LostItems[i])
	}
	if why := c.unsure(); why != "" {
		v.doubt("lost", "%s items are in no place that was given, but %s", num(int64(v.Lost)), why)
		return
	}
	v.fail("lost", "%s acknowledged items are in no place", num(int64(v.Lost)))
}

// unsure says why something missing may not be lost, empty if it is.
func (c *count) unsure() string {
	if why := c.unquiet(); why != "" {
		return why
	}
	if len(c.notes.Doubts) > 0 {
		return "notes are incomplete"
	}
	if c.o.AllPlaces {
		return ""
	}
	m := c.o.Metrics
	if m == nil || !m.found {
		return "neither metrics nor queues were given: they may be queued"
	}
	b := c.v.Balance // of queued items the run would not be quiet
	if b.Parked > 0 && c.stored[Parked] == nil && c.stored[InFile] == nil {
		return fmt.Sprintf("%s are parked", num(b.Parked))
	}
	return ""
}

// unquiet says why the run was not quiet at its end, empty if it was.
func (c *count) unquiet() string {
	var end int64
	for _, p := range c.notes.Places {
		end = max(end, p.Ended)
	}
	last := max(c.lastAt, c.notes.LoadEnd)
	if quiet := max(0, time.Duration(end-last)*time.Microsecond); quiet < c.o.QuietFor {
		return fmt.Sprintf("sinks were watched for only %s after the last event, %s are asked for", quiet.Round(time.Millisecond),
			c.o.QuietFor)
	}
	if m := c.o.Metrics; m != nil && c.stored[Queued] == nil {
		var queued int64
		for _, b := range m.Books() {
			queued += b.Queued
		}
		if queued > 0 {
			return fmt.Sprintf("%s items are still queued", num(queued))
		}
	}
	return ""
}

// checkEvidence says what keeps the run from having proven anything.
func (c *count) checkEvidence() {
	v := c.v
	if v.Totals.Acked == 0 {
		v.doubt("acked", "nothing was acknowledged")
	}
	if why := c.unquiet(); why != "" {
		v.doubt("quiet", "%s", why)
	}
	injected := false
	for _, f := range c.notes.Faults {
		if f.Fault == Restart {
			continue
		}
		injected = true
		if f.Hits == 0 {
			v.doubt("fault", "%s at %s has no hits", f.Fault, f.Where)
		}
	}
	for _, text := range c.o.Expect {
		ok, got, err := c.expected(text)
		switch {
		case err != nil:
			v.doubt("expect", "%s: %v", text, err)
		case !ok:
			v.doubt("expect", "%s was expected, it is %s", text, num(got))
		}
	}
	switch control := c.o.Control; {
	case c.o.NoControl:
	case control == nil && injected:
		v.doubt("control", "faults were injected and no control run was given")
	case control != nil && control.Outcome != Pass:
		v.doubt("control", "the control run %s did not pass: %s", control.Run, control.Outcome)
	case control != nil && control.Duplicates.Ours > 0:
		v.doubt("control", "the control run %s has %s duplicates of ours", control.Run, num(int64(control.Duplicates.Ours)))
	}
}

// operators are tried in this order: the longer ones first.
var operators = []string{">=", "<=", "==", "!=", ">", "<", "="}

// ParseExpect reads NAME OPERATOR NUMBER, such as secondary.stored>0.
func ParseExpect(text string) (name, operator string, want int64, err error) {
	for _, op := range operators {
		name, number, found := strings.Cut(text, op)
		if !found {
			continue
		}
		want, err := strconv.ParseInt(strings.ReplaceAll(strings.TrimSpace(number), ",", ""), 10, 64)
		if err != nil {
			return "", "", 0, fmt.Errorf("expect %q: %q is no number", text, number)
		}
		return strings.TrimSpace(name), op, want, nil
	}
	return "", "", 0, fmt.Errorf("expect %q: NAME>NUMBER is needed (or >= = <= < !=)", text)
}

func (c *count) expected(text string) (ok bool, got int64, err error) {
	name, op, want, err := ParseExpect(text)
	if err != nil {
		return false, 0, err
	}
	if got, err = c.quantity(name); err != nil {
		return false, 0, err
	}
	switch op {
	case ">=":
		ok = got >= want
	case "<=":
		ok = got <= want
	case "==", "=":
		ok = got == want
	case "!=":
		ok = got != want
	case ">":
		ok = got > want
	case "<":
		ok = got < want
	}
	return ok, got, nil
}

// quantity is the value of a name that expectations use.
func (c *count) quantity(name string) (int64, error) {
	var sum int64
	switch name {
	case "unknown":
		// Answers, not items: an unknown answer counts although a later attempt was acknowledged.
		for i := range c.notes.Tried {
			if c.notes.Tried[i].Result.State == Unknown {
				sum++
			}
		}
		return sum, nil
	case "recovered":
		return int64(c.v.Recovered), nil
	case "restarts":
		for _, f := range c.notes.Faults {
			if f.Fault == Restart {
				sum += int64(max(f.Hits, 1))
			}
		}
		return sum, nil
	case "transitions":
		if c.o.Metrics == nil {
			return 0, fmt.Errorf("no metrics were given")
		}
		return int64(c.o.Metrics.transitions), nil
	case "queued", "parked":
		switch b := &c.v.Balance; {
		case !b.Known:
			return 0, fmt.Errorf("no metrics were given")
		case name == "queued":
			return b.Queued, nil
		default:
			return b.Parked, nil
		}
	}
	where, what, _ := strings.Cut(name, ".")
	switch what {
	case "stored":
		if i := c.named(where); i >= 0 {
			return int64(c.v.Places[i].Stored), nil
		}
		return 0, fmt.Errorf("there are no notes of %q", where)
	case "hits":
		for _, f := range c.notes.Faults {
			if f.Where == where {
				sum += int64(f.Hits)
			}
		}
		return sum, nil
	}
	return 0, fmt.Errorf("%q is not known (SINK.stored, SINK.hits, unknown, recovered, transitions, restarts, queued, parked)", name)
}
