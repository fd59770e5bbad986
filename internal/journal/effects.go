// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal

// effects are the calls owed to others once the journal's lock is gone.
type effects struct {
	frees  []func()
	events []Event
	// tend: the keeper has something to do, sooner than its next round.
	tend bool
}

// Lock takes the journal's lock. With Unlock it is what the windows know of the journal.
func (j *Journal) Lock() { j.mu.Lock() }

// Unlock lets the lock go and carries out what is owed.
func (j *Journal) Unlock() {
	fx := j.mu.fx
	if len(fx.frees) == 0 && len(fx.events) == 0 && !fx.tend {
		j.mu.Unlock()
		return
	}
	j.mu.fx = j.effects.Get().(*effects)
	j.mu.Unlock()
	for i, free := range fx.frees {
		free()
		fx.frees[i] = nil
	}
	for i := range fx.events {
		j.store.tell(fx.events[i])
		fx.events[i] = Event{}
	}
	if fx.tend {
		j.tendSoon()
	}
	fx.frees, fx.events, fx.tend = fx.frees[:0], fx.events[:0], false
	j.effects.Put(fx)
}

// eventLocked owes an event to the store's observer.
func (j *Journal) eventLocked(e Event) {
	e.At, e.Pipeline = j.now(), j.pipeline
	j.mu.fx.events = append(j.mu.fx.events, e)
}

func (j *Journal) event(e Event) {
	e.At, e.Pipeline = j.now(), j.pipeline
	j.store.tell(e)
}
