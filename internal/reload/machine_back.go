// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package reload

import "fmt"

// Going back on request (section 8). What was committed is stored with its text; any of these is offered as a new
// generation, and goes the way of every other: loaded, built, preflight, switch, trial. Only from a trial to what ran before
// it there is a shorter way, over the warm instance, which builds nothing and needs no trial.
//
// The sources are not asked for a configuration, and they are not changed. What they say stays "offered", so there is drift
// as long as it is something else, and the next request or start is about them again; every answer says so.

// back says that the work is of a request for a stored generation.
func (w *work) back() bool { return w.request != nil && w.request.Back }

// warmBack says that a request is for what ran before the trial, and that is still there.
func (m *machine) warmBack(r *Request) bool {
	return r.Back && m.phase == Trial && m.back != nil && m.back.warm && (r.To == 0 || r.To == m.back.Generation)
}

// takeBack undoes the trial for somebody who asks for what ran before. What was to be confirmed is not, and will not be.
func (m *machine) takeBack(r *Request) {
	c := coming{request: r}
	if !m.until.IsZero() {
		c.undoing = &symptom{ReasonNotConfirmed, "a rollback was asked for instead of a confirmation"}
	}
	m.goBack(c)
}

// knowSources keeps what the sources say beside the stored text that is loaded.
func (m *machine) knowSources(l *Loaded) {
	rec := &m.work.record
	rec.From = l.From
	switch {
	case l.Sources == "":
	case l.Sources == rec.Hash:
		m.offered, m.refused = *rec, false
	case l.Sources != m.offered.Hash:
		m.offered, m.refused = Record{Hash: l.Sources, Source: rec.Source, At: m.now}, true
	}
}

// fromText says whose text a generation has, if not that of the sources, and what these say.
func (m *machine) fromText(r *Record) string {
	if r.From == 0 {
		return ""
	}
	return joined(fmt.Sprintf("it has the text of generation %d", r.From), m.aside())
}

// aside says what comes of it that the sources say something else than what runs.
func (m *machine) aside() string {
	switch {
	case !m.State.drift():
		return ""
	case m.offered.Hash == "":
		return "what the sources say could not be read; the next reload and the next start try it"
	case m.held.Forever && m.held.Hash == m.offered.Hash:
		return fmt.Sprintf("the sources still say %.12s, which is held: reloads refuse it and a restart does not run it, until they say "+
			"something else", m.offered.Hash)
	}
	return fmt.Sprintf("the sources still say %.12s: the next reload or restart runs that again, unless you change them before",
		m.offered.Hash)
}

// joined are the parts of a text that there are.
func joined(a, b string) string {
	if a != "" && b != "" {
		return a + "; " + b
	}
	return a + b
}
