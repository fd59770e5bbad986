// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"sync"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal/commit"
	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/queue/window"
)

const (
	deadVersion      = 1
	maxReasonBytes   = 4 << 10
	deadSegmentBytes = 4 << 20 // less where their share is small:
	deadSegments     = 8       // so that what goes at once is a part of it, beside one written and one prepared
	minDeadBytes     = 8 << 20 // what dead letters may take at least
	deadShare        = 20      // else the cap / deadShare
)

// Letter is what stands before the meta of a dead letter (section 13).
type Letter struct {
	Destination string
	Reason      string // the backend's
	Seq         queue.Seq
	At          time.Time
}

// Append adds the bytes of the letter to b. What is longer than its bounds is cut.
func (l *Letter) Append(b []byte) []byte {
	b = append(b, deadVersion)
	for _, s := range []string{l.Destination, l.Reason} {
		s = s[:min(len(s), maxReasonBytes)]
		b = binary.LittleEndian.AppendUint16(b, uint16(len(s)))
		b = append(b, s...)
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(l.Seq))
	return binary.LittleEndian.AppendUint64(b, uint64(l.At.UnixNano()))
}

var errNoLetter = errors.New("no dead letter of a known version")

// ParseLetter reads a letter and returns the meta of the record behind it.
func ParseLetter(b []byte) (l Letter, meta []byte, err error) {
	if len(b) < 1 || b[0] != deadVersion {
		return l, nil, errNoLetter
	}
	b = b[1:]
	for _, s := range []*string{&l.Destination, &l.Reason} {
		if len(b) < 2 || len(b)-2 < int(binary.LittleEndian.Uint16(b)) {
			return l, nil, errNoLetter
		}
		n := int(binary.LittleEndian.Uint16(b))
		*s, b = string(b[2:2+n]), b[2+n:]
	}
	if len(b) < 16 {
		return l, nil, errNoLetter
	}
	l.Seq = queue.Seq(binary.LittleEndian.Uint64(b))
	l.At = time.Unix(0, int64(binary.LittleEndian.Uint64(b[8:])))
	return l, b[16:], nil
}

// graveyard keeps what backends rejected: a journal without cursors, made with the first letter, synced whatever the
// mode of the journal is. Above its share of the cap the oldest segment goes.
type graveyard struct {
	j   *Journal
	dir string // dead/seg
	max int64  // bytes

	opening sync.Mutex // held over disk calls: opened once
	at      commit.Position
	id      [16]byte
	mu      struct {
		sync.Mutex
		log     *commit.Log // nil: nothing was buried yet
		closed  bool
		catalog catalog
		bytes   int64 // allocated, as booked
		evicted uint64
		durable queue.Seq
	}
}

var _ commit.Host = (*graveyard)(nil)

func newGraveyard(j *Journal, capBytes int64) *graveyard {
	return &graveyard{
		j: j, dir: path.Join(j.dir, layout.Dead, layout.Segments), max: max(minDeadBytes, capBytes/deadShare), id: j.id,
	}
}

// bury makes one dead letter. It is synced when bury returns nil. The bytes stay the caller's and are not kept.
func (g *graveyard) bury(destination, reason string, seq queue.Seq, r queue.Record) error {
	log, err := g.open()
	if err != nil {
		return err
	}
	l := Letter{Destination: destination, Reason: reason, Seq: seq, At: g.j.now()}
	r.Meta = append(l.Append(nil), r.Meta...)
	r.Free, r.Keep = nil, nil
	if err := log.Append(context.Background(), &window.Entry{Record: r}); err != nil {
		return fmt.Errorf("dead letter of %s: %w", destination, err)
	}
	g.j.event(Event{Level: Warn, Kind: SetAside, Destination: destination, Reason: reason, Records: 1,
		Items: uint64(r.Items), First: seq, Last: seq, Text: "a record was rejected and set aside"})
	return nil
}

// open makes the directory and the log, with the first letter.
func (g *graveyard) open() (*commit.Log, error) {
	g.opening.Lock()
	defer g.opening.Unlock()
	g.mu.Lock()
	log, closed := g.mu.log, g.mu.closed
	g.mu.Unlock()
	if closed {
		return nil, queue.ErrClosed
	}
	if log != nil {
		return log, nil
	}
	if err := makeDirs(g.j.disk, g.j.dir, layout.Dead, layout.Segments); err != nil {
		return nil, err
	}
	log = commit.Open(commit.Settings{
		Disk: g.j.disk, Dir: g.dir, Journal: g.id, Tag: g.j.tag, Synced: true, SegmentBytes: min(deadSegmentBytes, g.max/deadSegments),
		Now: g.j.now, At: g.at, Host: g,
	})
	g.mu.Lock()
	g.mu.log = log
	g.mu.Unlock()
	g.j.tendSoon()
	return log, nil
}

func (g *graveyard) wanted() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.log == nil {
		return nil
	}
	return g.mu.log.Wanted()
}

func (g *graveyard) tend() {
	g.mu.Lock()
	log := g.mu.log
	g.mu.Unlock()
	if log != nil {
		log.Tend()
	}
}

// probe tries again what failed.
func (g *graveyard) probe() {
	g.mu.Lock()
	log := g.mu.log
	g.mu.Unlock()
	if log != nil {
		if s, _ := log.State(); failing(s) {
			log.Tend()
		}
	}
}

// evict removes the oldest segment. Its items were booked as rejected and stay so.
func (g *graveyard) evict() bool {
	g.mu.Lock()
	var oldest *seg
	for _, s := range g.mu.catalog {
		if s.stage != active {
			oldest = s
			break
		}
	}
	if oldest == nil {
		g.mu.Unlock()
		return false
	}
	g.mu.catalog.remove(oldest)
	g.mu.Unlock()
	info, err := g.j.disk.Stat(oldest.path)
	if err == nil {
		err = g.j.disk.Remove(oldest.path)
	}
	if err != nil && !isGone(err) {
		return false
	}
	g.Gave(info.Allocated)
	g.mu.Lock()
	g.mu.evicted += oldest.sum.Items
	g.mu.Unlock()
	g.j.event(Event{Level: Alarm, Kind: Evicted, Records: oldest.sum.Records, Items: oldest.sum.Items,
		Text: "the oldest dead letters went to make room"})
	return true
}

// Roster implements commit.Host: nobody is owed dead letters.
func (g *graveyard) Roster(queue.Seq) (uint64, []uint64, error) { return 0, nil, nil }

// Publish implements commit.Host.
func (g *graveyard) Publish(h *segment.Header, path string, sum segment.Summary, _ []*window.Entry, _ uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.mu.catalog.byID(h.ID)
	if s == nil {
		s = &seg{id: h.ID, path: path, header: *h}
		s.last = s.first() - 1
		g.mu.catalog.add(s)
	}
	s.sum, s.last = sum, sum.Last
}

// Void implements commit.Host.
func (g *graveyard) Void() {}

// Owed implements commit.Host: they are kept until they are evicted.
func (g *graveyard) Owed(_, _ queue.Seq) bool { return true }

// Durable implements commit.Host.
func (g *graveyard) Durable(seq queue.Seq, _ uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.durable = max(g.mu.durable, seq)
}

// Sealed implements commit.Host.
func (g *graveyard) Sealed(id uint64, sum segment.Summary) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if s := g.mu.catalog.byID(id); s != nil {
		s.sum, s.stage = sum, sealed
	}
}

// Condemned implements commit.Host.
func (g *graveyard) Condemned(id uint64, cause error) {
	g.mu.Lock()
	if s := g.mu.catalog.byID(id); s != nil {
		s.stage = condemned
	}
	g.mu.Unlock()
	g.j.event(Event{Level: Alarm, Kind: Condemned, Err: cause,
		Text: fmt.Sprintf("segment %d of the dead letters is not written any more: a write or sync of it failed", id)})
}

// Room implements commit.Host: within the share of dead letters, then as for any other allocation.
func (g *graveyard) Room(n int64) error {
	for {
		g.mu.Lock()
		over := g.mu.bytes+n > g.max
		g.mu.Unlock()
		if !over || !g.evict() {
			break
		}
	}
	err := g.j.ask(n)
	var full *queue.FullError
	for errors.As(err, &full) && (g.evict() || g.Squeeze()) {
		err = g.j.ask(n)
	}
	if err == nil {
		g.mu.Lock()
		g.mu.bytes += n
		g.mu.Unlock()
	}
	return err
}

// Gave implements commit.Host.
func (g *graveyard) Gave(n int64) {
	g.mu.Lock()
	g.mu.bytes -= n
	g.mu.Unlock()
	g.j.share.Gave(n)
}

// Squeeze implements commit.Host.
func (g *graveyard) Squeeze() bool { return g.j.store.space.Squeeze() }

// totals are the letters there are.
func (g *graveyard) totals() (records, items, evicted uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.mu.catalog {
		records += s.sum.Records
		items += s.sum.Items
	}
	return records, items, g.mu.evicted
}

func (g *graveyard) close(ctx context.Context) error {
	g.mu.Lock()
	log := g.mu.log
	g.mu.closed = true
	g.mu.Unlock()
	if log == nil {
		return nil
	}
	return log.Close(ctx)
}
