// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package reload

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// The limits of the symptoms S1 to S8 (section 8). A symptom counts only if it is new and belongs to this change: what
// failed before, an outage that also hits unchanged senders, and a quiet night are no reason to go back.
const (
	listenerChecks     = 3                // S2, in a row
	appendLimit        = 5 * time.Second  // S3
	memoryLimit        = 5 * time.Second  // S4
	memoryBaseline     = 0.8              // S4: the share of the hard limit below which memory was before
	misconfiguredLimit = 3                // S5, attempts
	undeliveredLimit   = 20 * time.Second // S6
	undeliveredLoad    = 2                // S6, payloads
	rejectedLoad       = 5                // S7, payloads that got an answer that is final
	refusedLimit       = 20 * time.Second // S8
	quietLimit         = 30 * time.Second // S3, S8: after so long without another failure the clock stops
)

// The end of a trial.
const (
	earlyEnd       = 15 * time.Second // not before
	earlyDelivered = 20               // payloads of every new or changed sender
	prolongations  = 2                // times the length, while a symptom clock runs
)

// Clock is a symptom on its way.
type Clock struct {
	Symptom Reason        `json:"symptom"`
	Subject string        `json:"subject"` // exporter, pipeline, receiver or address; "" = the process
	Since   time.Time     `json:"since"`   // zero: it counts
	Limit   time.Duration `json:"limit,omitempty"`
	Count   int           `json:"count,omitempty"`
	Of      int           `json:"of,omitempty"`
}

// symptom is one that reached its limit.
type symptom struct {
	reason Reason
	text   string
}

// watch is the evidence of one trial. It is part of a State: what it leads to is replaced, never changed.
type watch struct {
	before  *baseline
	judged  bool // somebody may be rolled back to
	started time.Time
	length  time.Duration
	seen    time.Time // of the last sample
	senders map[string]senderWatch
	queues  map[string]flowWatch
	doors   map[string]flowWatch
	memory  time.Time // since when it has been over the limit; zero = it is not
	clocks  []Clock
	probes  map[string]bool // senders whose preflight was good
}

// senderWatch is one sender on trial.
type senderWatch struct {
	changed     bool
	first, last Sender
	since       time.Time // first failure after which nothing but failures came; zero = none
	payloads    uint64    // attempted before since
}

// flowWatch is what goes into one queue or through one door: good and bad, counted.
type flowWatch struct {
	good, bad uint64
	since     time.Time // first bad one after which no good one came
	last      time.Time // last bad one
}

// newWatch begins a trial with what the counters say now; what they counted before is not this trial's.
func newWatch(before *baseline, judged bool, probes []Probe, s *Sample, length time.Duration, now time.Time) watch {
	w := watch{before: before, judged: judged, started: now, seen: now, length: length,
		senders: map[string]senderWatch{}, queues: map[string]flowWatch{}, doors: map[string]flowWatch{},
		probes: map[string]bool{}}
	for _, p := range probes {
		w.probes[p.Sender] = p.Good
	}
	for i := range s.Senders {
		x := &s.Senders[i]
		w.senders[x.ID] = senderWatch{changed: x.Changed, first: *x, last: *x}
	}
	for i := range s.Queues {
		w.queues[s.Queues[i].Pipeline] = flowWatch{good: s.Queues[i].Appended, bad: s.Queues[i].Failed}
	}
	for i := range s.Doors {
		w.doors[s.Doors[i].ID] = flowWatch{good: s.Doors[i].Accepted, bad: s.Doors[i].Refused}
	}
	return w
}

// look takes a sample and returns what the evidence is now, and the first symptom that reached its limit.
func (w watch) look(s *Sample, now time.Time) (watch, *symptom) {
	w.senders, w.queues, w.doors = maps.Clone(w.senders), maps.Clone(w.queues), maps.Clone(w.doors)
	w.clocks, w.seen = nil, now
	var found []symptom
	report := func(c Clock, fires bool, text string, args ...any) {
		switch {
		case !w.judged:
		case fires:
			found = append(found, symptom{c.Symptom, fmt.Sprintf(text, args...)})
		default:
			w.clocks = append(w.clocks, c)
		}
	}
	if n := len(s.Fatal); n > 0 {
		report(Clock{Symptom: ReasonFatal}, true, "%s", s.Fatal[n-1])
	}
	for _, l := range s.Listeners {
		if l.FailedChecks > 0 {
			report(Clock{Symptom: ReasonListener, Subject: l.Address, Count: l.FailedChecks, Of: listenerChecks},
				l.FailedChecks >= listenerChecks, "listener %s does not answer", l.Address)
		}
	}
	w.lookAtQueues(s, now, report)
	w.lookAtMemory(s, now, report)
	for i := range s.Senders {
		w.lookAtSender(&s.Senders[i], s, now, report)
	}
	w.lookAtDoors(s, now, report)
	slices.SortFunc(w.clocks, func(a, b Clock) int {
		return cmp.Or(cmp.Compare(a.Symptom, b.Symptom), cmp.Compare(a.Subject, b.Subject))
	})
	if len(found) == 0 {
		return w, nil
	}
	return w, &found[0]
}

type reporter func(c Clock, fires bool, text string, args ...any)

// step lets counters move on; bad says that something bad and nothing good came.
func (f flowWatch) step(good, bad uint64, now time.Time) (next flowWatch, isBad bool) {
	isBad = bad > f.bad && good == f.good
	switch {
	case good > f.good:
		f.since = time.Time{}
	case isBad:
		if f.since.IsZero() {
			f.since = now
		}
		f.last = now
	case now.Sub(f.last) > quietLimit:
		f.since = time.Time{}
	}
	f.good, f.bad = good, bad
	return f, isBad
}

// lookAtQueues is S3: appends fail for a while where the old queue took data.
func (w *watch) lookAtQueues(s *Sample, now time.Time, report reporter) {
	for i := range s.Queues {
		q := &s.Queues[i]
		f, bad := w.queues[q.Pipeline].step(q.Appended, q.Failed, now)
		w.queues[q.Pipeline] = f
		if q.Changed && !f.since.IsZero() && w.before.queues[twinOf(q.Pipeline, q.Twin)] {
			report(Clock{Symptom: ReasonAppend, Subject: q.Pipeline, Since: f.since, Limit: appendLimit},
				bad && now.Sub(f.since) >= appendLimit, "queue of %s takes nothing for %s, the old one did", q.Pipeline,
				now.Sub(f.since).Round(time.Second))
		}
	}
}

// lookAtMemory is S4.
func (w *watch) lookAtMemory(s *Sample, now time.Time, report reporter) {
	if s.HardLimit == 0 || s.Memory <= s.HardLimit {
		w.memory = time.Time{}
		return
	}
	if w.memory.IsZero() {
		w.memory = now
	}
	if w.before.memory > 0 && float64(w.before.memory) < memoryBaseline*float64(s.HardLimit) {
		report(Clock{Symptom: ReasonMemory, Since: w.memory, Limit: memoryLimit}, now.Sub(w.memory) >= memoryLimit,
			"memory above the hard limit of %d bytes, %d at most before", s.HardLimit, w.before.memory)
	}
}

// lookAtSender is S5, S6 and S7, of a sender that is new or changed and whose twin delivered.
func (w *watch) lookAtSender(x *Sender, s *Sample, now time.Time, report reporter) {
	v, known := w.senders[x.ID]
	if !known {
		v = senderWatch{}
	}
	v.changed = x.Changed
	was := v.last
	v.last = *x
	badNow := x.Retry+x.Ambiguous > was.Retry+was.Ambiguous
	switch {
	case x.answers() > was.answers():
		v.since = time.Time{}
	case badNow && v.since.IsZero():
		v.since, v.payloads = now, was.Payloads
	}
	w.senders[x.ID] = v
	twin := twinOf(x.ID, x.Twin)
	if !x.Changed || w.before.senders[twin] != delivering {
		return
	}
	if n := x.Misconfigured - v.first.Misconfigured; n > 0 && n == x.attempts()-v.first.attempts() {
		report(Clock{Symptom: ReasonMisconfigured, Subject: x.ID, Count: int(n), Of: misconfiguredLimit},
			n >= misconfiguredLimit, "%s: %d attempts, all misconfigured, where %s delivered", x.ID, n, twin)
	}
	if !v.since.IsZero() && !outage(s, x.Host) {
		report(Clock{Symptom: ReasonUndelivered, Subject: x.ID, Since: v.since, Limit: undeliveredLimit},
			now.Sub(v.since) >= undeliveredLimit && x.Payloads-v.payloads >= undeliveredLoad,
			"%s: no delivery in %s, where %s delivered", x.ID, now.Sub(v.since).Round(time.Second), twin)
	}
	rejected, final := x.Rejected-v.first.Rejected, x.Rejected+x.Delivered-v.first.Rejected-v.first.Delivered
	if rejected > 0 && !w.before.rejected[twin] && (final < rejectedLoad || 2*rejected >= final) {
		report(Clock{Symptom: ReasonRefusedData, Subject: x.ID, Count: int(min(final, rejectedLoad)), Of: rejectedLoad},
			final >= rejectedLoad, "%s: %d of %d payloads rejected, where %s had none", x.ID, rejected, final, twin)
	}
}

// answers counts the attempts that had another end than retry or ambiguous.
func (x *Sender) answers() uint64 { return x.Delivered + x.RetryAfter + x.Misconfigured + x.Rejected }

func (x *Sender) attempts() uint64 { return x.answers() + x.Retry + x.Ambiguous }

// outage says whether an unchanged sender to the same host fails too.
func outage(s *Sample, host string) bool {
	return host != "" && slices.ContainsFunc(s.Senders, func(x Sender) bool {
		return !x.Changed && x.Host == host && !x.LastFailure.IsZero() && x.LastFailure.After(x.LastDelivery)
	})
}

// lookAtDoors is S8: clients that were let in before are all refused.
func (w *watch) lookAtDoors(s *Sample, now time.Time, report reporter) {
	for i := range s.Doors {
		d := &s.Doors[i]
		f, bad := w.doors[d.ID].step(d.Accepted, d.Refused, now)
		w.doors[d.ID] = f
		if d.Changed && !f.since.IsZero() && w.before.doors[twinOf(d.ID, d.Twin)] {
			report(Clock{Symptom: ReasonRefusesAll, Subject: d.ID, Since: f.since, Limit: refusedLimit},
				bad && now.Sub(f.since) >= refusedLimit, "%s refuses all clients for %s, it accepted before", d.ID,
				now.Sub(f.since).Round(time.Second))
		}
	}
}

// over says whether the trial has ended well.
func (w *watch) over(now time.Time) bool {
	age := now.Sub(w.started)
	if len(w.clocks) > 0 {
		return age >= w.length*(1+prolongations)
	}
	return age >= w.length || age >= earlyEnd && w.proven()
}

// left is how long the trial lasts if nothing happens.
func (w *watch) left(now time.Time) time.Duration {
	length := w.length
	if len(w.clocks) > 0 && now.Sub(w.started) >= length {
		length *= 1 + prolongations
	}
	return max(0, w.started.Add(length).Sub(now))
}

// proven says whether every new or changed sender delivered enough.
func (w *watch) proven() bool {
	for _, v := range w.senders {
		if v.changed && v.last.Delivered-v.first.Delivered < earlyDelivered {
			return false
		}
	}
	return true
}

// delivers says whether somebody delivered in this trial and nobody fails now. Who stands by has nothing to deliver.
func (w *watch) delivers() bool {
	did := false
	for _, v := range w.senders {
		if v.last.LastFailure.After(v.last.LastDelivery) {
			return false
		}
		did = did || v.last.Delivered > v.first.Delivered
	}
	return did
}

// evidence is the weakest of the new or changed senders; where there are none, one delivery by anybody counts.
func (w *watch) evidence() Evidence {
	evidence, any, delivered := EvidenceDelivered, false, false
	for id, v := range w.senders {
		did := v.last.Delivered > v.first.Delivered
		delivered = delivered || did
		switch {
		case !v.changed:
			continue
		case did:
		case !w.probes[id]:
			evidence = EvidenceNone
		case evidence == EvidenceDelivered:
			evidence = EvidenceProbe
		}
		any = true
	}
	if !any && !delivered {
		return EvidenceNone
	}
	return evidence
}
