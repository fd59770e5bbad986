// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package reload

import (
	"fmt"
	"time"
)

// switched knows that another generation serves.
func (m *machine) switched(ev *Event) {
	c := m.coming
	if c.seat == nil || c.seat.Generation != ev.Generation {
		return
	}
	m.coming = coming{}
	was := m.run
	before := m.trial.before
	if !c.supersedes {
		before = m.baseline(ev.Before)
	}
	m.run = c.seat
	switch {
	case m.phase == RollingBack:
		m.rolledBack(was, c)
	case !c.trial: // at boot: it is the good one
		m.boot, m.phase = nil, Idle
		m.do(Action{Kind: ActionCommit, Generation: m.run.Generation})
	default:
		if c.supersedes {
			m.do(Action{Kind: ActionRetire, Generation: was.Generation})
			m.end(&was.Record, m.asked, newer())
		} else if m.back = was; was == nil && m.boot.Good != nil && m.boot.Good.Hash != m.run.Hash {
			m.back = &seat{Record: *m.boot.Good} // it can be built, should it be needed
		}
		m.boot, m.asked = nil, c.request
		m.onTrial(before, ev.Sample)
	}
}

// onTrial starts the clock.
func (m *machine) onTrial(before *baseline, s *Sample) {
	length := m.governing().Trial
	if s == nil {
		s = &Sample{}
	}
	m.phase, m.until = Trial, time.Time{}
	if m.asked != nil && m.asked.Confirm > 0 && m.back != nil { // unconfirmable saw to it that there is one
		m.until = m.now.Add(m.asked.Confirm)
	}
	if before == nil {
		before = rememberedBaseline(nil, m.now)
	}
	m.trial = newWatch(before.withProbes(m.probes), m.back != nil, m.probes, s, length, m.now)
	m.do(Action{Kind: ActionTell, Record: m.run.Record,
		Result: Result{Outcome: OnTrial, Generation: m.run.Generation, Hash: m.run.Hash, Reason: NoReason, Text: m.fromText(&m.run.Record)}})
	switch {
	case !m.until.IsZero():
		m.tellUnconfirmed()
	case length == 0:
		m.commit("")
		return
	}
	m.sayBegun()
}

// sampled looks at what runs.
func (m *machine) sampled(s *Sample) {
	if s == nil || m.stopping { // nil: only time has passed
		return
	}
	switch m.phase {
	case Idle:
		m.peaks.add(s.Memory, m.now)
	case Trial:
		var bad *symptom
		m.trial, bad = m.trial.look(s, m.now)
		switch {
		case bad != nil:
			m.rollBack(bad)
		case !m.until.IsZero():
			if !m.now.Before(m.until) {
				m.rollBack(&symptom{ReasonNotConfirmed, "nobody confirmed it in time"})
			}
		case m.trial.over(m.now):
			m.commit("")
		}
	}
	m.storeAgain()
}

// commit keeps what is on trial: first on disk, then everything that cannot be taken back.
func (m *machine) commit(text string) {
	run := *m.run
	run.Evidence, run.At = m.trial.evidence(), m.now
	m.run = &run
	m.do(Action{Kind: ActionStoreGood, Generation: run.Generation, Record: run.Record})
	m.do(Action{Kind: ActionCommit, Generation: run.Generation})
	if m.back != nil && m.back.warm {
		m.do(Action{Kind: ActionRetire, Generation: m.back.Generation})
	}
	if m.held.Hash == run.Hash {
		m.held = Hold{}
	}
	m.settleAttempt()
	m.end(&run.Record, m.asked, Result{Outcome: Committed, Evidence: run.Evidence, Text: joined(text, m.fromText(&run.Record))})
	m.phase, m.back, m.asked, m.alarm, m.until, m.trial, m.probes = Idle, nil, nil, "", time.Time{}, watch{}, nil
}

// stored knows whether a commit is on disk. The generation stays in either case.
func (m *machine) stored(ev *Event) {
	rec := m.committed(ev.Generation)
	switch {
	case ev.Err == nil && rec != nil:
		m.good = *rec
		if m.unsaved == ev.Generation {
			m.unsaved = 0
		}
	case rec != nil:
		m.unsaved, m.again = ev.Generation, m.now.Add(storeAgain)
	}
}

// committed is the record of a generation that is, or is to become, the good one.
func (m *machine) committed(g Generation) *Record {
	switch {
	case m.back != nil && m.back.Generation == g:
		return &m.back.Record
	case m.run != nil && m.run.Generation == g:
		return &m.run.Record
	}
	return nil
}

func (m *machine) storeAgain() {
	if m.unsaved == 0 || m.now.Before(m.again) {
		return
	}
	rec := m.committed(m.unsaved)
	if rec == nil { // something newer is good
		m.unsaved = 0
		return
	}
	m.again = m.now.Add(storeAgain)
	m.do(Action{Kind: ActionStoreGood, Generation: rec.Generation, Record: *rec})
}

// rollBack undoes the trial. What is being built beside it is begun again afterwards: it was built beside something
// that is gone.
func (m *machine) rollBack(why *symptom) {
	if m.work.stage == loading || m.work.stage == preparing {
		if m.next == nil {
			m.next = m.work.request
		} else {
			m.end(&m.work.record, m.work.request, newer())
		}
		m.cancel()
	}
	m.goBack(coming{undoing: why})
}

// wayBack: a request for what ran before needs no trial and builds nothing.
func (m *machine) wayBack() {
	r := m.work.request
	m.work, m.restarts = work{}, 0
	if r.Back {
		m.takeBack(r)
		return
	}
	m.goBack(coming{request: r})
}

func (m *machine) goBack(c coming) {
	m.phase, m.coming = RollingBack, c
	if m.back.warm { // else settle loads it
		m.coming.seat = m.back
		m.do(Action{Kind: ActionSwitch, Generation: m.back.Generation})
	}
}

// rolledBack: what ran before runs again.
func (m *machine) rolledBack(was *seat, c coming) {
	m.phase, m.back = Idle, nil
	m.do(Action{Kind: ActionRetire, Generation: was.Generation})
	if c.undoing == nil {
		m.settleAttempt()
		if !c.request.Back {
			m.offered, m.refused = m.run.Record, false
		}
		m.end(&was.Record, m.asked, Result{Outcome: Superseded, Reason: ReasonWayBack,
			Text: "what ran before was asked for"})
	} else {
		unconfirmed, aside := c.undoing.reason == ReasonNotConfirmed, was.From != 0 && was.Hash != m.offered.Hash
		switch {
		case aside && (unconfirmed || m.held.Forever):
			// The sources do not say it: it does not come back by itself, and a hold of what they say stays.
		case unconfirmed:
			m.keepOut(was.Hash)
		default:
			m.held = m.held.after(was.Hash, m.now)
		}
		m.settleAttempt()
		m.refused = m.refused || !aside
		m.end(&was.Record, m.asked, Result{Outcome: RolledBack, Reason: c.undoing.reason, Text: c.undoing.text})
	}
	m.answer(c.request, Result{Outcome: Committed, Generation: m.run.Generation, Hash: m.run.Hash, Reason: NoReason,
		Evidence: m.run.Evidence, Text: joined(fmt.Sprintf("generation %d, which ran before, runs again", m.run.Generation), m.aside())})
	m.asked, m.until, m.trial, m.probes = nil, time.Time{}, watch{}, nil
}

// stuck: the trial failed, and what ran before cannot be built any more. What is on trial stays, and nobody must
// believe that it is good.
func (m *machine) stuck(cause error) {
	why := m.coming.undoing
	m.coming = coming{}
	m.alarm = fmt.Sprintf("%s; and there is no way back to generation %d: %v", why.text, m.back.Generation, cause)
	m.do(Action{Kind: ActionCommit, Generation: m.run.Generation})
	m.clearAttempt()
	m.end(&m.run.Record, m.asked, Result{Outcome: Stuck, Reason: why.reason, Text: m.alarm})
	m.phase, m.back, m.asked, m.until, m.trial, m.probes = Idle, nil, nil, time.Time{}, watch{}, nil
}
