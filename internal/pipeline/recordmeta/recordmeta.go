// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package recordmeta is the format of a stored record's Meta, which says how to read its Body and what was known of the
// request. It is opaque to queues, kept on disk by the journal, and compared byte for byte to tell which records may travel
// together.
//
//	no bytes            identity encoding, no metadata
//	version  u8 = 1
//	encoding u8         otlp.Encoding
//	entries  uvarint    then per entry: key, number of values (uvarint), values; a text is its length (uvarint) and
//	                    its bytes
//
// Pipelines write and read it, and whoever looks at stored records from outside. It promises that no bytes make it panic or
// take more memory than they have, and that what it cannot read is an error. It knows no queue.
package recordmeta

import (
	"encoding/binary"
	"errors"

	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

const version = 1

// maxText bounds one text read back, in bytes; the door keeps 8 KiB in all (faults, part C).
const maxText = 64 << 10

var errUnreadable = errors.New("unreadable record metadata")

// Encode is the Meta of a payload; nobody changes it.
func Encode(p *otlp.Payload) []byte {
	if p.Encoding == otlp.Identity && len(p.Metadata) == 0 {
		return nil
	}
	if len(p.Metadata) == 0 {
		return bare[p.Encoding]
	}
	b := []byte{version, byte(p.Encoding)}
	b = binary.AppendUvarint(b, uint64(len(p.Metadata)))
	for _, e := range p.Metadata {
		b = appendText(b, e.Key)
		b = binary.AppendUvarint(b, uint64(len(e.Values)))
		for _, v := range e.Values {
			b = appendText(b, v)
		}
	}
	return b
}

// bare saves an allocation for the common case of compressed requests without metadata.
var bare = map[otlp.Encoding][]byte{
	otlp.Gzip: {version, byte(otlp.Gzip), 0},
	otlp.Zstd: {version, byte(otlp.Zstd), 0},
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// Decode is the inverse of Encode. Nothing that it returns is part of b.
func Decode(b []byte) (otlp.Encoding, otlp.Metadata, error) {
	if len(b) == 0 {
		return otlp.Identity, nil, nil
	}
	if len(b) < 3 || b[0] != version || b[1] > byte(otlp.Zstd) {
		return 0, nil, errUnreadable
	}
	r := reader{b: b[2:]}
	enc := otlp.Encoding(b[1])
	n := r.uvarint(uint64(len(b)))
	var md otlp.Metadata
	for range n {
		e := otlp.MetadataEntry{Key: r.text()}
		for range r.uvarint(uint64(len(b))) {
			e.Values = append(e.Values, r.text())
		}
		md = append(md, e)
	}
	if r.bad || len(r.b) != 0 {
		return 0, nil, errUnreadable
	}
	return enc, md, nil
}

type reader struct {
	b   []byte
	bad bool
}

// uvarint reads a number of at most limit, so that a damaged count cannot make a long loop.
func (r *reader) uvarint(limit uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	if r.bad || n <= 0 || v > limit {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) text() string {
	n := r.uvarint(maxText)
	if r.bad || n > uint64(len(r.b)) {
		r.bad = true
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}
