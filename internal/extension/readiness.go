// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package extension

import (
	"sync"
	"time"
)

// Readiness answers whether the process should be sent data: running, and not every pipeline has refused for
// RefuseTimeout. Once it said no for refusals, it says yes again after AcceptTime of accepting, so that a queue at
// its limit does not make it flap. Its zero value is ready for use, from any goroutine.
type Readiness struct {
	mu struct {
		sync.Mutex
		refused        bool      // the last answer was no, for refusals
		acceptingSince time.Time // first seen after refused; zero = not yet
	}
}

// Ready judges a snapshot taken at now, and lists what speaks against it.
func (r *Readiness) Ready(h *Health, now time.Time) (bool, []string) {
	if h.Phase != Running {
		return false, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if reasons := h.Refusals(now); reasons != nil {
		r.mu.refused, r.mu.acceptingSince = true, time.Time{}
		return false, reasons
	}
	if !r.mu.refused {
		return true, nil
	}
	ok, since := h.accepting()
	if !ok {
		r.mu.acceptingSince = time.Time{}
		return false, []string{"no pipeline accepts yet"}
	}
	switch {
	case !since.IsZero():
		r.mu.acceptingSince = since
	case r.mu.acceptingSince.IsZero():
		r.mu.acceptingSince = now
	}
	if now.Sub(r.mu.acceptingSince) < AcceptTime {
		return false, []string{"accepting again since less than " + AcceptTime.String()}
	}
	r.mu.refused, r.mu.acceptingSince = false, time.Time{}
	return true, nil
}

// accepting reports whether some pipeline accepts, and since when one does if that is known.
func (h *Health) accepting() (ok bool, since time.Time) {
	for _, p := range h.Pipelines {
		if !p.Accepting {
			continue
		}
		ok = true
		if since.IsZero() || !p.AcceptingSince.IsZero() && p.AcceptingSince.Before(since) {
			since = p.AcceptingSince
		}
	}
	return ok || len(h.Pipelines) == 0, since
}
