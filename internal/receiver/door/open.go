// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package door

import (
	"context"
	"errors"

	"github.com/holdfast-telemetry/holdfast/internal/compression"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
)

// translated is how many bytes of memory a byte of text stands for while it is translated: the text's tree, and the
// wire bytes that are made of it.
const translated = 5

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
func (r *Request) open(ctx context.Context, p *otlp.Payload, codec compression.Codec, translate Translator) error {
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

// translate replaces the body by what it says in wire bytes.
func (r *Request) translate(translate Translator) error {
	if err := r.spend(translated * len(r.body.b)); err != nil {
		return err
	}
	wire, err := translate(r.body.b)
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
			return nil, tooLarge(r.lane.maxBytes)
		case errors.Is(err, compression.ErrMalformed):
			return nil, malformed(receiver.ReasonMalformed, err.Error())
		}
		return nil, err // the lender's, a refusal
	}
	if s.buf == nil { // no content at all
		if s.buf, err = r.lend(nil, 0); err != nil {
			return nil, err
		}
		return s.buf, nil
	}
	s.buf.b = content
	return s.buf, nil
}

// scratch lends decoders memory that the request has paid for.
type scratch struct {
	r   *Request
	buf *buffer
}

// Lend implements compression.Lender.
func (s *scratch) Lend(b []byte, n int) ([]byte, error) {
	if s.buf != nil {
		s.buf.b = b
	}
	next, err := s.r.lend(s.buf, n)
	if err != nil {
		return b, err
	}
	s.buf = next
	return next.b, nil
}

var _ compression.Lender = (*scratch)(nil)
