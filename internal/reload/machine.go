// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package reload

import (
	"fmt"
	"time"
)

// Phase is what the machine is about, seen from what runs. Loading and preparing go on beside it.
type Phase uint8

// The phases.
const (
	Booting     Phase = iota // nothing runs yet
	Idle                     // what runs is committed
	Switching                // a new generation takes over
	Trial                    // what runs is watched
	RollingBack              // the one before takes over again
	Stopping                 // what is half built is being unwound
	Ended                    // nothing is under way, and nothing begins
)

// stage is how far the generation beside what runs has got.
type stage uint8

const (
	noWork stage = iota
	loading
	preparing
	cancelled // its answer is still to come, and is thrown away
)

// loadGap is the least time between the beginnings of two loads: a storm of requests costs a load a second. A request
// that comes alone is served at once.
const loadGap = time.Second

// maxRestarts is how often in a row work is cancelled for a newer request. Then it goes on to its end, and what came
// meanwhile is served after it: a storm of requests must not keep every configuration from being tried.
const maxRestarts = 3

// storeAgain is how long after the store refused a commit it is tried again.
const storeAgain = 30 * time.Second

// State is all the machine knows. It is a value: what it points to never changes. The zero value is a process that has
// not begun.
//
// Two things go on beside each other. The phase is about what runs: it changes by a switch and by what a trial shows.
// The work is about the newest configuration offered: it is loaded and prepared whatever the phase, but for a phase in
// which a switch is under way; then it waits as next.
type State struct {
	phase Phase
	last  Generation // highest number given

	run  *seat // serves; nil before the first switch
	back *seat // on trial and rolling back: where a rollback leads; nil = nowhere
	good Record
	boot *Boot // what the store said; nil after the first switch

	coming coming // switching: who; rolling back: why
	trial  watch  // on trial
	until  time.Time
	asked  *Request // who waits for the end of the trial
	probes []Probe

	work     work
	next     *Request
	restarts int
	begun    time.Time // the last load of what is offered

	offered   Record // what the sources said last
	refused   bool   // and it does not run
	held      Hold
	alarm     string     // why there is no way back
	attempted bool       // an attempt of ours is on disk
	unsaved   Generation // committed, and not on disk; 0 = none
	again     time.Time
	peaks     peaks
	forgets   bool // there is no store
	stopping  bool
}

// seat is a generation that runs, or that a rollback leads to.
type seat struct {
	Record
	warm bool // its instance is there
}

// work is a generation that is being loaded or prepared.
type work struct {
	stage   stage
	record  Record
	request *Request // nil = nobody asked: the start, or the good one
	stored  bool     // the good one, instead of what is offered
	of      Generation
	errs    error // boot: why what was offered is not what is built
}

// coming is what a switch under way is for.
type coming struct {
	seat    *seat
	request *Request
	trial   bool // the new one goes on trial
	// supersedes says that one on trial is replaced; the way back stays the one before it.
	supersedes bool
	undoing    *symptom // rolling back: why; nil = by request, for what ran before
}

// Hold keeps a hash from being tried again at once.
type Hold struct {
	Hash    string
	Times   int // rolled back in a row
	Until   time.Time
	Forever bool // until another text is offered, whatever Until says; the store remembers it
	// Unconfirmed says that nobody confirmed it where that was asked for. It does not come back by itself, by a signal of a
	// script or by a restart, but by somebody who offers to confirm it again.
	Unconfirmed bool
}

// The hold after a rollback: a minute, twice as long after each further one in a row, an hour at most.
const (
	minHold = time.Minute
	maxHold = time.Hour
)

func (h Hold) holds(hash string, now time.Time) bool {
	return h.Hash != "" && h.Hash == hash && (h.Forever || now.Before(h.Until))
}

// after is the hold of hash after one more rollback.
func (h Hold) after(hash string, now time.Time) Hold {
	if h.Hash != hash {
		h = Hold{Hash: hash}
	}
	h.Times++
	h.Forever, h.Unconfirmed = false, false
	length := maxHold
	if h.Times <= 6 { // 2^6 minutes are more than an hour
		length = min(maxHold, minHold<<(h.Times-1))
	}
	h.Until = now.Add(length)
	return h
}

func (h Hold) text() string {
	switch {
	case h.Unconfirmed:
		return "held until another text is offered: nobody confirmed it (--confirm tries it again; --force without a confirmation)"
	case h.Forever:
		return "held until another text is offered: the process ended twice while it was on trial (--force tries it now)"
	}
	return fmt.Sprintf("held until %s after %d rollbacks in a row (--force tries it now)", h.Until.UTC().Format(time.RFC3339),
		h.Times)
}

// peaks is the most memory of each of the last minutes.
type peaks struct {
	minute [6]int64
	bytes  [6]uint64
}

func (p *peaks) add(bytes uint64, now time.Time) {
	m := now.Unix() / 60
	i := m % int64(len(p.minute))
	if p.minute[i] != m {
		p.minute[i], p.bytes[i] = m, 0
	}
	p.bytes[i] = max(p.bytes[i], bytes)
}

func (p *peaks) most(now time.Time) uint64 {
	most := uint64(0)
	for i, m := range p.minute {
		if now.Unix()/60-m <= int64(BaselineSpan/time.Minute) {
			most = max(most, p.bytes[i])
		}
	}
	return most
}

// Step is the machine: it takes an event at a time that does not fall, and returns the state after it and what is to be
// done, in order. It reads no clock and touches nothing; s is as it was. An event that fits nothing under way, the late
// answer of a call that was given up, changes nothing.
func Step(s State, ev Event, now time.Time) (State, []Action) {
	m := machine{State: s, now: now}
	switch ev.Kind {
	case EventBoot:
		m.booted(ev.Boot)
	case EventRequested:
		m.requested(ev.Request)
	case EventLoaded:
		m.loaded(&ev)
	case EventPrepared:
		m.prepared(&ev)
	case EventSwitched:
		m.switched(&ev)
	case EventStored:
		m.stored(&ev)
	case EventSampled:
		m.sampled(ev.Sample)
	case EventConfirmed:
		m.confirmed(&ev.Request)
	case EventStop:
		m.stopping = true
	}
	m.settle()
	return m.State, m.out
}

// machine is a State on its way to the next one.
type machine struct {
	State
	now time.Time
	out []Action
}

func (m *machine) do(a Action) { m.out = append(m.out, a) }

// settle begins what has waited for the event to be over.
func (m *machine) settle() {
	switch {
	case m.phase == Ended:
	case m.stopping:
		m.stop()
	case m.work.stage != noWork:
	case m.phase == RollingBack && m.coming.seat == nil:
		m.loadGood(&m.back.Record, nil)
	case (m.phase == Idle || m.phase == Trial) && m.next != nil && m.now.Sub(m.begun) >= loadGap:
		m.begin()
	}
}

func (m *machine) answer(r *Request, res Result) {
	if r != nil && r.ID != 0 {
		m.do(Action{Kind: ActionAnswer, Request: r.ID, Result: res})
	}
}

// end says what has become of a generation, to the world and to who waits for it.
func (m *machine) end(rec *Record, r *Request, res Result) {
	res.Generation, res.Hash = rec.Generation, rec.Hash
	if res.Reason == "" {
		res.Reason = NoReason
	}
	m.do(Action{Kind: ActionTell, Record: *rec, Result: res})
	m.answer(r, res)
}

// stop ends what is half built and whoever waits. What runs is stopped by its owner, after Ended.
func (m *machine) stop() {
	res := Result{Outcome: Rejected, Reason: ReasonStopping, Text: "the process is stopping"}
	m.answer(m.next, res)
	m.next = nil
	if m.work.stage == loading || m.work.stage == preparing {
		if !m.work.stored {
			m.end(&m.work.record, m.work.request, res)
		}
		m.cancel()
	}
	switching := m.coming.seat != nil // its answer is to come, and then what it makes of it is stopped
	if m.phase != Stopping && m.phase != Ended && !switching {
		res.Outcome = Superseded
		if m.phase == Trial && !m.until.IsZero() && m.run.Hash == m.offered.Hash && !m.forgets {
			res.Text += "; nobody confirmed it, and the next start runs the one before"
		}
		if m.phase == Trial || m.phase == RollingBack {
			m.end(&m.run.Record, m.asked, res)
			m.asked = nil
		}
		if m.back != nil && m.back.warm {
			m.do(Action{Kind: ActionRetire, Generation: m.back.Generation})
		}
		m.back = nil
		m.leaveAttempt()
		m.phase = Stopping
	}
	if m.phase == Stopping && m.work.stage == noWork {
		m.phase = Ended
	}
}

// leaveAttempt clears the attempt at a clean stop, unless the next start must know of it: a crash loop is not over
// because somebody stopped it, and what was never confirmed is undone by the end of the process.
func (m *machine) leaveAttempt() {
	switch {
	case !m.attempted, m.held.Forever && m.phase != Trial, m.held.Forever && m.held.Hash == m.run.Hash: // it says so
	case m.held.Forever:
		m.settleAttempt()
	case m.phase == Trial && !m.until.IsZero():
		m.writeAttempt(Attempt{Generation: m.run.Generation, Hash: m.run.Hash, Held: true, Confirm: true})
	default:
		m.clearAttempt()
	}
}

func (m *machine) writeAttempt(a Attempt) {
	m.attempted = true
	m.do(Action{Kind: ActionWriteAttempt, Generation: a.Generation, Attempt: a})
}

func (m *machine) clearAttempt() {
	m.attempted = false
	m.do(Action{Kind: ActionClearAttempt})
}

// cancel ends the work under way. Its answer comes, and is thrown away.
func (m *machine) cancel() {
	m.work.stage = cancelled
	m.do(Action{Kind: ActionCancel, Generation: m.work.record.Generation})
}
