// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package reload

import (
	"fmt"
	"strings"
	"time"
)

// A trial that a person is to confirm (section 8). It ends by itself only one way:
//
//	            confirmed in time ─► committed
//	on trial ─┬ a symptom         ─► rolled back, held for a minute as any other
//	          └ nobody, a stop, a crash ─► rolled back, held until another text is offered
//
// The last is kept in the attempt on disk: whatever was asked to be confirmed and was not does not come back by itself,
// neither by the signal of a script nor by a start of the process, although the sources still say it.

// confirmed: a person says that what waits for it went well.
func (m *machine) confirmed(r *Request) {
	refused := Result{Outcome: Rejected, Reason: ReasonUnasked}
	switch {
	case m.stopping || m.phase == Ended:
		refused.Reason, refused.Text = ReasonStopping, "the process is stopping"
	case m.phase == RollingBack:
		refused.Text = "it is being taken back already"
	case m.phase != Trial && m.held.Unconfirmed:
		refused.Text = fmt.Sprintf("nothing waits for a confirmation: %.12s was taken back, nobody had confirmed it", m.held.Hash)
	case m.phase != Trial:
		refused.Text = "nothing waits for a confirmation"
	case m.until.IsZero():
		refused.Text = fmt.Sprintf("generation %d waits for no confirmation: it is on trial, and stays if it does no harm",
			m.run.Generation)
	case !strings.HasPrefix(strings.ToLower(m.run.Hash), strings.ToLower(r.Expect)):
		refused.Reason = ReasonExpected
		refused.Text = fmt.Sprintf("another configuration waits for a confirmation: its hash is %s, expected was %s", m.run.Hash, r.Expect)
	default:
		g := m.run.Generation
		m.commit("it was confirmed")
		m.answer(r, Result{Outcome: Committed, Generation: g, Hash: m.run.Hash, Reason: NoReason, Evidence: m.run.Evidence,
			Text: fmt.Sprintf("generation %d is confirmed, and stays", g)})
		return
	}
	refused.Generation, refused.Hash = m.runs()
	m.answer(r, refused)
}

func (m *machine) runs() (Generation, string) {
	if m.run == nil {
		return 0, ""
	}
	return m.run.Generation, m.run.Hash
}

// unconfirmable says that a request wants a confirmation, and there is nothing to go back to if it does not come: the
// first configuration of a state directory is on trial, and was not committed yet.
func (m *machine) unconfirmable() bool {
	return m.work.request.Confirm > 0 && m.phase == Trial && m.back == nil
}

func nowhereBack() error {
	return refuse(ReasonNoWayBack, "there is nothing to go back to if nobody confirms it: what runs is the first configuration "+
		"of its state directory, and still on trial")
}

// awaits lets what is on trial wait for a confirmation from now on, for so long.
func (m *machine) awaits(d time.Duration) {
	m.until = m.now.Add(d)
	m.writeAttempt(Attempt{Generation: m.run.Generation, Hash: m.run.Hash, Confirm: true})
	m.tellUnconfirmed()
}

// tellUnconfirmed says that somebody has to confirm what is on trial.
func (m *machine) tellUnconfirmed() {
	res := m.onTrialResult()
	res.Outcome = Unconfirmed
	m.do(Action{Kind: ActionTell, Record: m.run.Record, Result: res})
}

func (m *machine) onTrialResult() Result {
	res := Result{Outcome: OnTrial, Generation: m.run.Generation, Hash: m.run.Hash, Reason: NoReason, Until: m.until}
	if !m.until.IsZero() {
		start := "and so it does if the process ends before"
		switch {
		case m.run.Hash != m.offered.Hash: // it is a rollback
			start = "but if the process ends before, the next one runs what the sources say"
		case m.forgets:
			start = "but if the process ends before, the next one runs what the sources say: there is no state directory"
		}
		res.Text = fmt.Sprintf("generation %d runs again at %s unless somebody confirms it, %s", m.back.Generation,
			m.until.UTC().Format(time.RFC3339), start)
	}
	res.Text = joined(res.Text, m.fromText(&m.run.Record))
	return res
}

// sayBegun answers who wanted to know that it is on trial. How it ends nobody is told.
func (m *machine) sayBegun() {
	if m.asked == nil || !m.asked.Begun {
		return
	}
	m.answer(m.asked, m.onTrialResult())
	r := *m.asked
	r.ID = 0
	m.asked = &r
}

// keepOut holds what nobody confirmed.
func (m *machine) keepOut(hash string) {
	m.held = Hold{Hash: hash, Times: 1, Until: m.now, Forever: true, Unconfirmed: true}
}

// settleAttempt leaves nothing on disk of what was tried, but for what the next start must not try.
func (m *machine) settleAttempt() {
	if m.held.Forever && m.held.Hash != m.run.Hash {
		m.writeAttempt(Attempt{Generation: m.last, Hash: m.held.Hash, Held: true, Confirm: m.held.Unconfirmed})
		return
	}
	m.clearAttempt()
}
