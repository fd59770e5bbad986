// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package door

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-telemetry/holdfast/internal/compression"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
)

// What a text costs while it is translated, in bytes: the tree that is made of it, and its wire bytes.
const (
	translatedByte   = 5   // per byte of text
	translatedObject = 64  // per object, usually: most are attributes and their values
	largestObject    = 256 // per object, at most: a span of which nothing is said
)

// keptAs says in which encoding a payload travels that arrived in a codec; others are decoded.
func keptAs(c compression.Codec) (otlp.Encoding, bool) {
	switch c {
	case compression.None:
		return otlp.Identity, true
	case compression.Gzip:
		return otlp.Gzip, true
	case compression.Zstd:
		return otlp.Zstd, true
	}
	return otlp.Identity, false
}

// open decodes and scans the body and fills in p. Afterwards the request's body is what p.Body lies in. Decoding
// and translating, which multiply memory, need a decoder's place; while one is waited for, only what was received is
// held.
func (r *Request) open(ctx context.Context, p *otlp.Payload, codec compression.Codec, translate *Translator) error {
	var decoded *buffer
	if codec != compression.None || translate != nil {
		gate := r.lane.door.set.Admission
		if err := gate.AcquireDecoder(ctx); err != nil {
			return refusalOr(err)
		}
		defer gate.ReleaseDecoder()
	}
	if codec != compression.None {
		var err error
		if decoded, err = r.decode(codec); err != nil {
			return err
		}
	}
	var kept bool
	if p.Encoding, kept = keptAs(codec); translate != nil {
		p.Encoding, kept = otlp.Identity, false
	}
	if !kept && decoded != nil {
		r.drop(r.body)
		r.body, decoded = decoded, nil
	}
	if translate != nil {
		if err := r.translate(translate); err != nil {
			return err
		}
	}
	content := r.body.b
	if decoded != nil {
		content = decoded.b
	}
	items, err := otlp.Scan(p.Signal, content)
	p.Items, p.Size, p.Body = items, uint32(len(content)), r.body.b
	if decoded != nil {
		r.drop(decoded)
	}
	if err != nil {
		return scanRefusal(err)
	}
	return nil
}

// translate replaces the body by what it says in wire bytes. A text that might take more than twice the whole budget
// is refused for good, even if it could be served alone: the budget is a quarter of the memory there is.
func (r *Request) translate(t *Translator) error {
	text := r.body.b
	objects, err := t.Measure(text)
	if err != nil {
		return err
	}
	if most := translatedByte*len(text) + largestObject*objects; int64(most) > 2*r.lane.door.set.Admission.Limit() {
		return &receiver.Refusal{
			Code: receiver.TooLarge, Reason: receiver.ReasonTooLarge,
			Text: fmt.Sprintf("a text of %d bytes with %d objects takes too much memory to be read", len(text), objects),
		}
	}
	if err := r.spend(translatedByte*len(text) + translatedObject*objects); err != nil {
		return err
	}
	wire, err := t.Translate(text)
	if err != nil {
		return err
	}
	r.drop(r.body)
	r.body = looseBuffer(wire)
	return nil
}

// decode returns the body's content in a buffer of its own.
func (r *Request) decode(codec compression.Codec) (*buffer, error) {
	s := scratch{r: r}
	content, err := compression.Decode(codec, r.body.b, r.lane.maxBytes, &s)
	if err != nil {
		if s.buf != nil {
			r.drop(s.buf)
		}
		switch {
		case errors.Is(err, compression.ErrTooLarge):
			return nil, TooLarge(r.lane.maxBytes)
		case errors.Is(err, compression.ErrMalformed):
			return nil, Malformed(err.Error())
		}
		return nil, err // the lender's, a refusal
	}
	if s.buf == nil { // no content at all
		return r.lend(nil, 0)
	}
	if len(content) > 0 && &content[0] != &s.buf.b[:1][0] {
		panic("door: a decoder did not decode into what it was lent")
	}
	s.buf.b = s.buf.b[:len(content)] // with the capacity that belongs to its pool
	return s.buf, nil
}

// scratch lends decoders memory that the request has paid for.
type scratch struct {
	r   *Request
	buf *buffer
}

// Lend implements compression.Lender.
func (s *scratch) Lend(b []byte, n int) ([]byte, error) {
	switch {
	case s.buf == nil:
	case len(b) == 0: // the decoder begins anew: nothing has to be moved, and both need not be paid for
		s.r.drop(s.buf)
		s.buf = nil
	default:
		s.buf.b = s.buf.b[:len(b)]
	}
	next, err := s.r.lend(s.buf, n)
	if err != nil {
		return b, err
	}
	s.buf = next
	return next.b, nil
}

var _ compression.Lender = (*scratch)(nil)
