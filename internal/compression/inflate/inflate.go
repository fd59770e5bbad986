// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package inflate decodes DEFLATE (RFC 1951) from one slice into another.
//
// It stands below gzip and zlib at the front door, where most requests arrive compressed and decoding is three quarters
// of what they cost. Knowing all input and all output at once, it needs no window, no copy of it and no call per byte
// (docs/adr/0030). It promises that it accepts what the published decoders accept, byte for byte, that it never reads or
// writes outside what it was given, and that it never asks for room beyond the limit. It knows no checksums and no
// framing.
package inflate

import (
	"errors"
	"io"
)

// What is wrong with a stream. Input that ends too early is io.ErrUnexpectedEOF.
var (
	ErrTooLarge = errors.New("content is above the limit")
	errBlock    = errors.New("unknown kind of block")
	errStored   = errors.New("stored block contradicts its length")
	errLengths  = errors.New("invalid code lengths")
	errSymbol   = errors.New("invalid code")
	errDistance = errors.New("distance beyond the beginning")
)

// A Grower gives room.
type Grower interface {
	// Grow returns the contents of b with more capacity; b is the grower's again. Its error ends the decoding and is
	// returned as it is.
	Grow(b []byte) ([]byte, error)
}

// Decoder has the tables of the block at hand: about 12 KiB, to be used again. The zero value is ready; it serves one call
// at a time.
type Decoder struct {
	lengths [maxLiterals + maxDistances]uint8
	pre     [1 << preBits]entry
	literal [literalTable]entry
	dist    [distanceTable]entry
	fixed   bool // literal and dist hold the fixed codes
	reader
}

// reader is where the decoder stands.
type reader struct {
	src   []byte
	in    int    // bytes of src that are in bits or were used
	bits  uint64 // the lowest n are next
	n     uint
	dst   []byte // all of its capacity
	out   int    // bytes of dst that are written
	begin int    // no distance goes before it
	limit int    // of out
	grow  Grower
}

// Append appends the content of the stream that src begins with to dst, and returns it together with how many bytes of
// src the stream takes, or how many had been read when it failed. It fails with ErrTooLarge where the result would be
// longer than limit bytes, with io.ErrUnexpectedEOF, with what is wrong with the stream, or with what grow returned; the
// content is nil then. What is between length and capacity of dst may be written to.
func (d *Decoder) Append(dst, src []byte, limit int, grow Grower) (content []byte, n int, err error) {
	d.reader = reader{src: src, dst: dst[:cap(dst)], out: len(dst), begin: len(dst), limit: limit, grow: grow}
	defer func() { d.reader = reader{} }()
	for last := false; !last && err == nil; {
		last, err = d.block()
	}
	n = d.in - int(d.n/8)
	switch {
	case err == io.ErrUnexpectedEOF:
		return nil, len(src), err
	case err != nil:
		return nil, n, err
	}
	return d.dst[:d.out], n, nil
}

// block decodes one block and says whether it was the last.
func (d *Decoder) block() (last bool, err error) {
	head, err := d.take(3)
	if err != nil {
		return false, err
	}
	switch head >> 1 {
	case 0:
		err = d.stored()
	case 1:
		d.useFixed()
		err = d.compressed()
	case 2:
		if err = d.readCodes(); err == nil {
			err = d.compressed()
		}
	default:
		err = errBlock
	}
	return head&1 != 0, err
}

// stored copies a block that is not compressed (RFC 1951, 3.2.4).
func (d *Decoder) stored() error {
	d.in -= int(d.n / 8)
	d.bits, d.n = 0, 0
	if len(d.src)-d.in < 4 {
		d.in = len(d.src)
		return io.ErrUnexpectedEOF
	}
	head := d.src[d.in:]
	n := int(head[0]) | int(head[1])<<8
	if n^0xffff != int(head[2])|int(head[3])<<8 {
		return errStored
	}
	d.in += 4
	if len(d.src)-d.in < n {
		d.in = len(d.src)
		return io.ErrUnexpectedEOF
	}
	for n > 0 {
		room, err := d.room()
		if err != nil {
			return err
		}
		k := copy(d.dst[d.out:room], d.src[d.in:d.in+n])
		d.in, d.out, n = d.in+k, d.out+k, n-k
	}
	return nil
}

// room returns up to where dst can be written, which is beyond out.
func (d *Decoder) room() (int, error) {
	for {
		room := min(len(d.dst), d.limit)
		switch {
		case d.out < room:
			return room, nil
		case d.out >= d.limit:
			return 0, ErrTooLarge
		}
		b, err := d.grow.Grow(d.dst[:d.out])
		if err != nil {
			return 0, err
		}
		if cap(b) <= d.out {
			return 0, io.ErrShortBuffer
		}
		d.dst = b[:cap(b)]
	}
}

// fill reads until there are at least 56 bits, or all there are.
func (r *reader) fill() {
	for r.n < 56 && r.in < len(r.src) {
		r.bits |= uint64(r.src[r.in]) << r.n
		r.in++
		r.n += 8
	}
}

// take returns the next n bits, 16 at most.
func (r *reader) take(n uint) (uint32, error) {
	if r.n < n {
		r.fill()
		if r.n < n {
			return 0, io.ErrUnexpectedEOF
		}
	}
	v := uint32(r.bits) & (1<<n - 1)
	r.bits >>= n
	r.n -= n
	return v, nil
}
