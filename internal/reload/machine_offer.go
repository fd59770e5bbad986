// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package reload

import "errors"

// requested takes a request. Of those that wait, the newest wins: whatever it finds in the sources is newer than what
// the others would have found.
func (m *machine) requested(r Request) {
	if m.stopping || m.phase == Ended {
		m.answer(&r, Result{Outcome: Rejected, Reason: ReasonStopping, Text: "the process is stopping"})
		return
	}
	m.answer(m.next, newer())
	m.next = &r
	underWay := m.work.stage == loading || m.work.stage == preparing
	if underWay && m.phase != Booting && m.phase != RollingBack && m.restarts < maxRestarts {
		m.restarts++
		if m.work.stage == loading { // nothing is known of it
			m.answer(m.work.request, newer())
		} else {
			m.end(&m.work.record, m.work.request, newer())
		}
		m.cancel()
	}
}

func newer() Result {
	return Result{Outcome: Superseded, Reason: ReasonNewer, Text: "a newer request came before this one was done"}
}

// begin starts the request that waits. A first configuration that is on trial with nowhere to go back to is committed for
// it, if it delivers: it is a better place to go back to than none.
func (m *machine) begin() {
	if m.phase == Trial && m.back == nil && m.until.IsZero() && m.trial.delivers() {
		m.commit("")
	}
	r := m.next
	if m.warmBack(r) {
		m.next = nil
		m.takeBack(r)
		return
	}
	m.next, m.begun = nil, m.now
	m.last++
	m.work = work{stage: loading, request: r, record: Record{Generation: m.last, Source: r.Source, At: m.now}}
	m.do(Action{Kind: ActionTell, Record: m.work.record, Result: Result{Outcome: Received, Generation: m.last}})
	m.do(Action{Kind: ActionLoad, Generation: m.last, Back: r.Back, Of: r.To})
}

// answers says whether an answer is about the work under way, at the stage it belongs to, and ends work that was
// cancelled.
func (m *machine) answers(g Generation, at stage) bool {
	switch {
	case m.work.stage == noWork || m.work.record.Generation != g:
		return false
	case m.work.stage == cancelled:
		m.work = work{}
		return false
	}
	return m.work.stage == at
}

// loaded knows what the sources say, or why they say nothing.
func (m *machine) loaded(ev *Event) {
	if !m.answers(ev.Generation, loading) {
		return
	}
	rec := &m.work.record
	rec.Hash, rec.Fingerprint, rec.Settings = ev.Loaded.Hash, ev.Loaded.Fingerprint, ev.Loaded.Settings
	if m.work.stored {
		if ev.Err != nil {
			m.goodRefused(ev.Err)
		} else {
			m.prepare(false)
		}
		return
	}
	if m.work.back() {
		m.knowSources(&ev.Loaded)
	} else {
		m.offered, m.refused = *rec, false
	}
	if !m.work.back() && rec.Hash != "" && m.held.Hash != "" && m.held.Hash != rec.Hash {
		if m.held.Forever {
			m.clearAttempt()
		}
		m.held = Hold{}
	}
	switch {
	case m.phase == Booting:
		m.bootLoaded(ev.Err)
	case ev.Err != nil:
		m.reject(ev.Err, ReasonInvalid)
	case m.run.same(rec.Hash, rec.Fingerprint):
		m.unchanged()
	case m.phase == Trial && m.back != nil && m.back.warm && m.back.same(rec.Hash, rec.Fingerprint):
		m.wayBack()
	case m.unconfirmable():
		m.reject(nowhereBack(), ReasonNoWayBack)
	case m.held.holds(rec.Hash, m.now) && !m.work.request.Force && !(m.held.Unconfirmed && m.work.request.Confirm > 0):
		m.reject(refuse(ReasonHeld, "%s", m.held.text()), ReasonHeld)
	default:
		m.prepare(m.governing().Preflight && !m.work.request.Force)
	}
}

// governing are the settings by which what comes next is tried: those of the last committed generation.
func (m *machine) governing() Settings {
	switch {
	case m.back != nil:
		return m.back.Settings
	case m.run != nil:
		return m.run.Settings
	}
	return m.work.record.Settings
}

// watches says that whoever governs wants sources to be watched.
func (s *State) watches() bool {
	m := machine{State: *s}
	return s.run != nil && m.governing().Watch
}

func (m *machine) prepare(preflight bool) {
	m.work.stage = preparing
	m.do(Action{Kind: ActionPrepare, Generation: m.work.record.Generation, Of: m.work.of, Preflight: preflight})
}

// unchanged: the text is what runs. Files it names may have changed all the same. Who asks for what is on trial hears how
// that ends, unless somebody else waits for it: a watch or a signal may have been faster. Who wants to confirm it gets the
// time for that from now on, however it came to be on trial.
func (m *machine) unchanged() {
	if m.unconfirmable() {
		m.reject(nowhereBack(), ReasonNoWayBack)
		m.refused = false // it runs
		return
	}
	if !m.work.back() {
		m.offered.Generation = m.run.Generation
	}
	m.do(Action{Kind: ActionRefresh, Generation: m.run.Generation})
	r := m.work.request
	if m.phase == Trial && r.Confirm > 0 {
		m.awaits(r.Confirm)
	}
	switch {
	case m.phase != Trial || r.ID == 0:
	case r.Begun && r.Confirm > 0:
		m.answer(r, m.onTrialResult())
		r = nil
	case !r.Begun && (m.asked == nil || m.asked.ID == 0):
		m.asked, r = r, nil
	}
	text := "this configuration runs already; certificates and tokens were read again"
	if m.phase != Trial && m.work.request.Confirm > 0 {
		text = "this configuration runs already and is committed: nothing waits to be confirmed, and nothing is taken back by itself"
	}
	m.end(&m.work.record, r, Result{Outcome: Unchanged, Evidence: m.run.Evidence, Text: text})
	m.work, m.restarts = work{}, 0
}

// reject ends the work; nothing was changed.
func (m *machine) reject(err error, otherwise Reason) {
	m.refused = m.refused || !m.work.back()
	m.end(&m.work.record, m.work.request, Result{Outcome: Rejected, Reason: reasonOf(err, otherwise), Text: err.Error()})
	m.work, m.restarts = work{}, 0
}

// prepared knows whether the new generation could be built.
func (m *machine) prepared(ev *Event) {
	if !m.answers(ev.Generation, preparing) {
		if ev.Err == nil {
			m.do(Action{Kind: ActionUnwind, Generation: ev.Generation})
		}
		return
	}
	err := ev.Err
	if err == nil && !m.work.stored {
		if err = judgePreflight(ev.Probes, m.baseline(ev.Before)); err != nil {
			m.do(Action{Kind: ActionUnwind, Generation: ev.Generation})
		}
	}
	switch {
	case err == nil:
		m.take(ev.Probes)
	case m.work.stored:
		m.goodRefused(err)
	case m.phase == Booting:
		m.bootRefused(err, ReasonPrepare)
	default:
		m.reject(err, ReasonPrepare)
	}
}

// baseline is how the generation fared that a rollback would lead to.
func (m *machine) baseline(running *Sample) *baseline {
	switch {
	case m.phase == Trial:
		return m.trial.before
	case running != nil:
		return baselineOf(running, m.peaks.most(m.now), m.now)
	case m.boot != nil:
		return rememberedBaseline(m.boot.Deliveries, m.now)
	}
	return rememberedBaseline(nil, m.now)
}

// take lets what was prepared take over. From here nothing can fail.
func (m *machine) take(probes []Probe) {
	w := m.work
	m.work, m.restarts, m.probes = work{}, 0, probes
	m.coming.seat, m.coming.request = &seat{Record: w.record, warm: true}, w.request
	switch m.phase {
	case Idle, Trial:
		m.coming.trial, m.coming.supersedes = true, m.phase == Trial
		if !w.back() || !m.held.Forever { // else what is there matters more: it is about what the sources say
			m.writeAttempt(Attempt{Generation: w.record.Generation, Hash: w.record.Hash,
				Confirm: w.request != nil && w.request.Confirm > 0})
		}
		m.phase = Switching
	case Booting:
		m.coming.trial = !w.stored && w.of == 0
		m.phase = Switching
	}
	m.do(Action{Kind: ActionSwitch, Generation: w.record.Generation})
}

// booted begins a process: the sources are read, and the table of section 9 decides.
func (m *machine) booted(b *Boot) {
	m.boot, m.last, m.forgets = b, b.Last+1, b.Forgets
	if b.Good != nil {
		m.good = *b.Good
	}
	m.work = work{stage: loading, record: Record{Generation: m.last, Source: "start", At: m.now}}
	m.do(Action{Kind: ActionLoad, Generation: m.last})
}

func (m *machine) bootLoaded(err error) {
	rec, good, attempt := &m.work.record, m.boot.Good, m.boot.Attempt
	if err != nil {
		m.bootRefused(err, ReasonInvalid)
		return
	}
	if good.same(rec.Hash, rec.Fingerprint) {
		if attempt != nil {
			m.clearAttempt()
		}
		m.work.of, m.work.record = rec.Generation, *good
		m.offered = *good
		m.prepare(false)
		return
	}
	another := good != nil && good.Hash != rec.Hash // else good is the same text, which would fail alike
	mark := Attempt{Generation: rec.Generation, Hash: rec.Hash}
	if attempt != nil && attempt.Hash == rec.Hash {
		mark.Unclean = attempt.Unclean + 1
		mark.Held = another && (attempt.Held || attempt.Confirm || mark.Unclean >= maxUnclean)
		mark.Confirm = another && attempt.Confirm
	}
	m.writeAttempt(mark)
	if !mark.Held {
		m.prepare(another && good.Settings.Preflight)
		return
	}
	res := Result{Outcome: RolledBack, Reason: ReasonCrashLoop,
		Text: "the process ended twice while it was on trial; the good one runs, and it is held until another text is offered"}
	if mark.Confirm {
		res.Reason = ReasonNotConfirmed
		res.Text = "nobody confirmed it; the good one runs, and it is held until another text is offered"
	}
	m.held = Hold{Hash: rec.Hash, Times: 1, Until: m.now, Forever: true, Unconfirmed: mark.Confirm}
	m.refused = true
	m.end(rec, nil, res)
	m.loadGood(good, errors.New(res.Text))
}

// bootRefused starts the good one instead of what is offered.
func (m *machine) bootRefused(err error, otherwise Reason) {
	if m.attempted {
		m.clearAttempt()
	}
	rec, good := m.work.record, m.boot.Good
	m.reject(err, otherwise)
	if good == nil || good.Hash == rec.Hash || good.Settings.BadBootFails {
		m.giveUp(err)
		return
	}
	m.loadGood(good, err)
}

// loadGood prepares the last-known-good configuration, because of an error or of a rollback after a restart.
func (m *machine) loadGood(good *Record, because error) {
	m.work = work{stage: loading, record: *good, stored: true, errs: because}
	m.do(Action{Kind: ActionLoad, Generation: good.Generation, Stored: true})
}

// goodRefused: there is no way back, or no way to start.
func (m *machine) goodRefused(err error) {
	if m.phase == Booting {
		m.giveUp(errors.Join(m.work.errs, err))
		return
	}
	m.work = work{}
	m.stuck(err)
}

func (m *machine) giveUp(err error) {
	m.work = work{}
	m.answer(m.next, Result{Outcome: Rejected, Reason: ReasonStopping, Text: "nothing could be started"})
	m.next = nil
	m.do(Action{Kind: ActionGiveUp, Err: err})
	m.phase = Ended
}
