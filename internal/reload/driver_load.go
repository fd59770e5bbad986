// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package reload

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// load reads and loads, stored texts or those of the sources; still is take's. It is the only place that calls Builder.Load.
func (d *Driver) load(ctx context.Context, stored []Text, still func(time.Duration) bool) (l *loaded) {
	l = &loaded{texts: stored}
	defer func() {
		if r := recover(); r != nil {
			l.candidate, l.err = nil, d.panicked("load", r)
		}
	}()
	if stored == nil {
		if l.texts, l.err = take(ctx, d.set.Reader, still); l.texts != nil {
			d.lookout.note(l.texts)
			l.known.Hash = HashOf(l.texts)
		}
		if l.err != nil {
			return l
		}
	}
	l.known.Hash = HashOf(l.texts)
	ctx, cancel := context.WithTimeout(ctx, loadLimit)
	defer cancel()
	l.candidate, l.err = d.set.Builder.Load(ctx, l.texts)
	switch {
	case l.err == nil && l.candidate == nil:
		l.err = errors.New("load: there is no candidate")
	case l.err == nil:
		l.known.Settings = l.candidate.Settings()
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		l.err = refuse(ReasonTimeout, "load took longer than %s: %w", loadLimit, l.err)
	}
	return l
}

func (d *Driver) panicked(what string, r any) error {
	d.log.Error("Config "+what+" panicked", telemetry.Foreign("error", fmt.Sprint(r)), zap.ByteString("stack", debug.Stack()))
	return refuse(ReasonPanic, "%s panicked: %v", what, r)
}

// beginLoad answers with EventLoaded.
func (d *Driver) beginLoad(ctx context.Context, a *Action) {
	stored, err := d.storedGood(a)
	ready := d.offered // read before the store was found
	d.offered = nil
	d.call(ctx, EventLoaded, a.Generation, func(ctx context.Context) (Event, func()) {
		l := ready
		switch {
		case err != nil:
			l = &loaded{err: err}
		case stored != nil:
			l = d.load(ctx, stored.Texts, nil)
		case l == nil:
			l = d.load(ctx, nil, nil)
		}
		if l.candidate != nil && d.store != nil && l.err == nil {
			l.known.Fingerprint = d.store.Fingerprint(l.candidate.Expanded())
		}
		if a.Back {
			l.known.Sources = d.sources(ctx)
			if stored != nil {
				l.known.From = cmp.Or(a.Of, stored.Generation)
			}
		}
		return Event{Loaded: l.known, Err: l.err}, func() { d.loads[a.Generation] = l }
	}, readLimit+loadLimit)
}

// sources is the hash of what the sources say, if they say it at once: a rollback does not wait for them.
func (d *Driver) sources(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, sourcesLimit)
	defer cancel()
	texts, err := d.read(ctx, d.set.Reader)
	if err != nil {
		return ""
	}
	return HashOf(texts)
}

// storedGood is the stored configuration an action is about; nil = it is about the sources.
func (d *Driver) storedGood(a *Action) (good *Good, err error) {
	switch {
	case !a.Stored && !a.Back:
		return nil, nil
	case d.store == nil && a.Back:
		return nil, refuse(ReasonNotStored, "%w: nothing was kept to go back to", errNoStore)
	case d.store == nil:
		return nil, errors.New("there is no store")
	}
	err = d.disk.do(func() (err error) {
		if a.Back {
			good, err = d.store.Newest(d.meant(a.Of))
		} else {
			good, err = d.store.Good()
		}
		return err
	})
	g := a.Generation
	if a.Back {
		g = a.Of
	}
	if errors.Is(err, errStalled) { // good is still being written to
		return nil, fmt.Errorf("generation %d: %w", g, err)
	}
	d.noteStore()
	switch {
	case good != nil && (good.Generation == g || a.Back):
		return good, nil
	case a.Back && err == nil:
		return nil, d.notStored(g)
	case err == nil:
		err = errors.New("it is not in the store any more")
	}
	return nil, fmt.Errorf("generation %d: %w", g, err)
}

// meant is the stored text that a number of the history means; 0 = the newest of those that say something else than what runs.
// The same text may be stored under a newer number.
func (d *Driver) meant(g Generation) func(*Good) bool {
	running := d.state.run.Hash
	if g == 0 {
		return func(good *Good) bool { return good.Hash != running }
	}
	hash := ""
	for i := range d.history {
		if e := &d.history[i]; e.Generation == g && e.State == Committed {
			hash = e.Hash
		}
	}
	return func(good *Good) bool { return good.Generation == g || hash != "" && good.Hash == hash }
}

// notStored says what there is instead.
func (d *Driver) notStored(g Generation) error {
	switch {
	case g == 0:
		return refuse(ReasonNotStored, "nothing was committed before that says something else than what runs")
	case len(d.stored) == 0:
		return refuse(ReasonNotStored, "generation %d is not stored, and nothing else is", g)
	}
	var others []string
	for _, k := range d.stored {
		others = append(others, fmt.Sprintf("%d (%.12s)", k.generation, k.hash))
	}
	return refuse(ReasonNotStored, "generation %d is not stored; stored are %s", g, strings.Join(others, ", "))
}
