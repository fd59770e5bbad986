// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"

	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
)

const (
	// maxRecord bounds one record of a file, as it lies there and decoded, in bytes.
	maxRecord = 512 << 20
	// maxZstdWindow bounds what a frame may ask for.
	maxZstdWindow = 64 << 20
)

var zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}

// AddRecords reads a file as the product's file exporter and "queue export" write it, and puts its items into a place:
// JSON lines with one export request each, or protobuf requests with a u32 big-endian length before each; either may be
// a zstd frame of its own with a length before it. A record that was cut off at the end is what a crash leaves and is
// not counted; damage anywhere else is a doubt.
//
// An emergency file with receipts is a place only as far as they are open: these items are parked. What was settled must
// be at a sink, and what no receipt claims must be wherever the product says. Files beside it without telemetry are
// passed by.
func (n *Notes) AddRecords(p PlaceIndex, path string) error {
	if beside(path) {
		return nil
	}
	var list []*receipt
	owed := false
	if n.Places[p].Kind == InFile {
		var err error
		if list, owed, err = n.receiptsOf(path); err != nil {
			return err
		}
		if owed {
			p = n.AddPlace(Parked, emergencyPlace)
			defer n.compare(path, list)
		}
	}
	f, err := os.Open(path) //nolint:gosec // the path is the caller's
	if err != nil {
		return fmt.Errorf("records: %w", err)
	}
	defer f.Close() // read-only
	checker := item.NewChecker()
	checker.Know(n.Run.Name, n.Run.BaseMicro)
	r := &recordReader{in: bufio.NewReaderSize(f, 64<<10)}
	defer func() {
		if r.zstd != nil {
			r.zstd.Close()
		}
	}()
	var ranges []item.Range
	for {
		body, err := r.next()
		claim := under(list, r.offset)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			n.doubt("%s: record at offset %d: %v", path, r.offset, err)
			return nil
		case string(body) == "{}": // says nothing; it fills a block
			continue
		case owed && (claim == nil || claim.settled):
			continue
		}
		signal, content, err := readRecord(checker, body, ranges)
		if err != nil {
			n.doubt("%s: record at offset %d: %v", path, r.offset, err)
			continue
		}
		ranges = content.Ranges
		if claim != nil {
			claim.found += int64(content.Items)
		}
		n.addContent(p, signal, content)
	}
}

// Requests puts requests into a place, one by one, as they are read from the product's queues.
type Requests struct {
	notes   *Notes
	place   PlaceIndex
	checker *item.Checker
	ranges  []item.Range
}

// Requests begins to put requests into a place.
func (n *Notes) Requests(p PlaceIndex) *Requests {
	r := &Requests{notes: n, place: p, checker: item.NewChecker()}
	r.checker.Know(n.Run.Name, n.Run.BaseMicro)
	return r
}

// Add puts the items of one protobuf request into the place; s is its signal. What cannot be read is a doubt, named by
// where.
func (r *Requests) Add(s item.Signal, body []byte, where string) {
	content, err := r.checker.Read(s, false, body, r.ranges)
	if err != nil {
		r.Doubt("%s: %v", where, err)
		return
	}
	r.ranges = content.Ranges
	r.notes.addContent(r.place, s, content)
}

// Doubt notes why the place may hold more than was read of it.
func (r *Requests) Doubt(format string, args ...any) { r.notes.doubt(format, args...) }

func (n *Notes) addContent(p PlaceIndex, s item.Signal, c item.Content) {
	n.Places[p].Foreign += uint64(c.Foreign)
	n.Places[p].Damaged += uint64(c.Damaged)
	for _, r := range c.Ranges {
		if r.Run.Tag != item.TagOf(n.Run.Name) {
			continue
		}
		n.Arrivals = append(n.Arrivals, Arrival{Place: p, Signal: s, Producer: r.Producer, Request: r.Request,
			First: r.First, Last: r.Last, Stored: true, Flags: r.Flags})
	}
}

// readRecord reads a request of an unknown signal. JSON says which it is; protobuf does not, so the reading under which
// most items are recognised is taken.
func readRecord(c *item.Checker, body []byte, into []item.Range) (item.Signal, item.Content, error) {
	if len(body) > 0 && body[0] == '{' {
		s, ok := item.SignalOfJSON(body)
		if !ok {
			return 0, item.Content{}, errors.New("JSON that is no export request")
		}
		content, err := c.Read(s, true, body, into)
		return s, content, err
	}
	var best item.Signal
	var found item.Content
	known := -1
	var errs []error
	for _, s := range item.Signals {
		content, err := c.Read(s, false, body, nil)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if k := content.Items - content.Foreign - content.Damaged; k > known {
			best, found, known = s, content, k
		}
	}
	if best == 0 {
		return 0, item.Content{}, errors.Join(errs...)
	}
	return best, found, nil
}

// recordReader reads the records of one file.
type recordReader struct {
	in     *bufio.Reader
	offset int64 // of the record read last
	next0  int64 // of the one behind it
	zstd   *zstd.Decoder
}

// next returns a record, decompressed; io.EOF at the end, io.ErrUnexpectedEOF for a record that was cut off.
func (r *recordReader) next() ([]byte, error) {
	r.offset = r.next0
	first, err := r.in.Peek(1)
	if err != nil {
		return nil, err
	}
	if first[0] == '{' || first[0] == '\n' {
		line, err := r.in.ReadBytes('\n')
		r.next0 += int64(len(line))
		if errors.Is(err, io.EOF) {
			return nil, io.ErrUnexpectedEOF
		}
		if err == nil && len(bytes.TrimSpace(line)) == 0 {
			return r.next()
		}
		return bytes.TrimSpace(line), err
	}
	var head [4]byte
	if _, err := io.ReadFull(r.in, head[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > maxRecord {
		return nil, fmt.Errorf("record of %d bytes", size)
	}
	// The length is not believed: memory grows with what is there.
	body, err := io.ReadAll(io.LimitReader(r.in, int64(size)))
	if err != nil {
		return nil, err
	}
	if len(body) < int(size) {
		return nil, io.ErrUnexpectedEOF
	}
	r.next0 += 4 + int64(size)
	if !bytes.HasPrefix(body, zstdMagic) {
		return body, nil
	}
	if r.zstd == nil {
		r.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxRecord),
			zstd.WithDecoderMaxWindow(maxZstdWindow))
		if err != nil {
			return nil, err
		}
	}
	return r.zstd.DecodeAll(body, nil)
}
