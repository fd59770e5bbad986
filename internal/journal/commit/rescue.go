// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package commit

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// salvage deals with a write or sync of a that failed. What of it is published and not known durable, and then g, the
// group that was being written, if any, go into another segment; only then g is answered nil.
//
// The failed file is never written or synced again: a failed sync marks its pages clean, and the next one would succeed
// without having written them.
func (l *Log) salvage(a *seg, g *group, cause error) {
	l.condemn(a, cause)
	err := l.rescue(a, g)
	if err != nil {
		var state State
		state, err = l.refusal(err)
		err = fmt.Errorf("%w (segment %d: %w)", err, a.id, cause)
		l.deactivate(a)
		l.f.stranded = true
		l.release()
		l.setState(state, err)
		if g != nil {
			l.drop(g, err)
		}
	}
	l.letGo(a)
}

func (l *Log) condemn(a *seg, cause error) {
	if a.condemned {
		return
	}
	a.condemned = true
	l.mu.Lock()
	l.mu.stats.Condemned++
	l.mu.Unlock()
	l.set.Host.Condemned(a.id, cause)
}

func (l *Log) deactivate(a *seg) {
	if l.f.active != a {
		return
	}
	l.f.active = nil
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.usable = false
}

// letGo closes a condemned segment when no sync of it runs. One the Host never heard of is removed: what is in it was
// refused, or is in the segment that took over.
func (l *Log) letGo(a *seg) {
	if !a.condemned || a.closed || a.jobs > 0 {
		return
	}
	a.closed = true
	a.file.Close() // makes nothing durable: no error can matter
	if !a.published {
		l.remove(remains{[]string{a.path}, a.bytes})
	}
}

// rescue writes the records of a that are published and not known durable, and g, into a segment of their own. Nil:
// they are durable, handed over, and g is answered.
func (l *Log) rescue(a *seg, g *group) error {
	var spans []*span
	for _, s := range l.f.spans {
		if s.seg == a && !s.durable {
			spans = append(spans, s)
		}
	}
	if g == nil && !l.owed(spans) {
		for _, s := range spans {
			s.durable = true // as far as anybody will ask
		}
		l.deactivate(a)
		l.release()
		return nil
	}
	start := time.Now()
	r, err := l.board(a, spans, g)
	if err != nil && lacksSpace(err) && l.set.Host.Squeeze() {
		r, err = l.board(a, spans, g)
	}
	l.observe(Rescued, start)
	if err != nil {
		return err
	}
	l.takeOver(a, r, spans, g)
	return nil
}

// owed says whether anybody needs one of them. Where there is no room for a rescue they may be delivered first: then
// nothing has to be written, and waiting for room would wait for ever if it is the failed segment that takes it.
func (l *Log) owed(spans []*span) bool {
	for _, s := range spans {
		if l.set.Host.Owed(s.first, s.last) {
			return true
		}
	}
	return false
}

func lacksSpace(err error) bool {
	var full *queue.FullError
	return vfs.IsFull(err) || errors.As(err, &full)
}

// takeOver puts r, which is durable, in the place of a.
func (l *Log) takeOver(a, r *seg, spans []*span, g *group) {
	l.mu.Lock()
	l.mu.stats.Rescues++
	l.mu.Unlock()
	for _, s := range spans {
		s.durable = true
	}
	latest := l.f.active == a || l.f.active == nil && l.f.prev == a
	l.deactivate(a) // it is not to be sealed
	if g != nil {
		l.hold(r, g).durable = true
		l.publish(r, g)
	} else {
		r.published = true
		l.set.Host.Publish(r.head, r.path, r.w.Summary(), nil, l.f.items)
		if latest {
			l.f.prev = r
		}
	}
	if latest {
		l.activate(r)
	} else {
		l.retire(r)
	}
	l.release()
	if g != nil {
		l.leaveRoom(r)
	}
	l.endLarge()
	if g != nil {
		l.answerGroup(g)
	}
}

// board makes the segment that takes over from a. Until all of it is durable it has a temporary name: a crash leaves a
// as it is, and nothing that speaks in its place.
func (l *Log) board(a *seg, spans []*span, g *group) (*seg, error) {
	frames := int64(0)
	for _, s := range spans {
		frames += s.frames
	}
	if g != nil {
		frames += g.frames
	}
	b, err := l.lifeboat(a, segment.FileBytes(frames))
	if err != nil {
		return nil, err
	}
	h := l.rescueHeader(a, b, spans, g)
	w, err := segment.NewWriter(b.file, h)
	if err == nil {
		err = l.load(w, spans, g)
	}
	if err == nil {
		err = l.set.Disk.Rename(b.path+layout.TempSuffix, b.path)
	}
	if err == nil {
		err = l.set.Disk.SyncDir(l.set.Dir)
	}
	if err != nil {
		l.wreck(b)
		return nil, fmt.Errorf("rescue of segment %d: %w", a.id, err)
	}
	return &seg{blank: *b, w: w, head: &h, version: l.f.roster, unsynced: a.unsynced}, nil
}

// lifeboat is a blank under a temporary name: the prepared segment if it is large enough, else one made for it. Its id
// is above that of a, so that of two frames with one number its own counts.
func (l *Log) lifeboat(a *seg, bytes int64) (*blank, error) {
	b := l.pick(bytes, a.id)
	if b == nil {
		l.making <- struct{}{}
		defer func() { <-l.making }()
		return l.allocate(bytes, layout.TempSuffix)
	}
	// The name is durable before anything is written: under the other one a part of it would speak for all.
	err := l.set.Disk.Rename(b.path, b.path+layout.TempSuffix)
	if err == nil {
		err = l.set.Disk.SyncDir(l.set.Dir)
	}
	if err != nil {
		l.wreck(b)
		return nil, fmt.Errorf("rescue of segment %d: %w", a.id, err)
	}
	return b, nil
}

// wreck gives a lifeboat up, under whichever name it is. Should it stay under its final one, the next segment makes
// void what is in it and was refused.
func (l *Log) wreck(b *blank) {
	b.file.Close()
	l.remove(remains{[]string{b.path + layout.TempSuffix, b.path}, b.bytes})
}

// rescueHeader begins where what is rescued does.
func (l *Log) rescueHeader(a *seg, b *blank, spans []*span, g *group) segment.Header {
	f := &l.f
	base, acked, before := queue.Seq(0), f.acked, f.items
	if len(spans) > 0 {
		base, acked, before = spans[0].first, spans[0].acked, spans[0].before
	} else {
		base = g.entries[0].Seq
	}
	h := l.header(b, base)
	h.Flags = segment.FlagRescue
	if a.unsynced {
		h.Flags |= segment.FlagUnsynced
	}
	h.PrevID, h.PrevLastSeq, h.PrevDurable = a.id, acked, a.w.Durable()
	h.BaseItems, h.Cursors = before, f.cursors
	if a.version != f.roster { // owed to those of then and those of now
		h.Cursors = slices.Clone(f.cursors)
		for _, c := range a.head.Cursors {
			if !slices.Contains(h.Cursors, c) && len(h.Cursors) < segment.MaxCursors {
				h.Cursors = append(h.Cursors, c)
			}
		}
	}
	return h
}

// load writes and syncs what is rescued, in groups of bounded size without a gap between them.
func (l *Log) load(w *segment.Writer, spans []*span, g *group) error {
	all := make([][]segment.Record, 0, len(spans)+1)
	for _, s := range spans {
		all = append(all, s.records)
	}
	if g != nil {
		all = append(all, g.records)
	}
	for _, records := range all {
		if _, err := w.Append(records); err != nil {
			return err
		}
	}
	return w.Sync(w.Mark())
}

// saveStranded tries again to rescue what no rescue could save, when Tend asks for it.
func (l *Log) saveStranded() {
	for {
		var a *seg
		for _, s := range l.f.spans {
			if s.seg.condemned && !s.durable {
				a = s.seg
				break
			}
		}
		if a == nil {
			l.recovered(l.f.active != nil)
			l.endLarge()
			return
		}
		if err := l.rescue(a, nil); err != nil {
			l.setState(l.refusal(err))
			return
		}
	}
}

// recovered ends full and broken when nothing is stranded and there is a segment to write to.
func (l *Log) recovered(writable bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if (l.mu.state == Full || l.mu.state == Broken) && !l.mu.stranded && (writable || len(l.mu.blanks) > 0) {
		l.mu.state, l.mu.cause = OK, nil
	}
}
