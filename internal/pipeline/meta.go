// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"encoding/binary"
	"errors"

	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

// A record's Meta says how to read its Body. It is opaque to queues, kept on disk by the journal, and compared byte
// for byte to tell which records may travel together.
//
//	no bytes            identity encoding, no metadata
//	version  u8 = 1
//	encoding u8         otlp.Encoding
//	entries  uvarint    then per entry: key, number of values (uvarint), values; a text is its length (uvarint) and
//	                    its bytes
const metaVersion = 1

// maxMetaText bounds one text read back, in bytes; the door keeps 8 KiB in all (faults, part C).
const maxMetaText = 64 << 10

var errMeta = errors.New("unreadable record metadata")

func encodeMeta(p *otlp.Payload) []byte {
	if p.Encoding == otlp.Identity && len(p.Metadata) == 0 {
		return nil
	}
	if len(p.Metadata) == 0 {
		return bareMeta[p.Encoding]
	}
	b := []byte{metaVersion, byte(p.Encoding)}
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

// bareMeta saves an allocation for the common case of compressed requests without metadata.
var bareMeta = map[otlp.Encoding][]byte{
	otlp.Gzip: {metaVersion, byte(otlp.Gzip), 0},
	otlp.Zstd: {metaVersion, byte(otlp.Zstd), 0},
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// ParseMeta says how to read the Body of a record whose Meta is b, and what was known of the request. It is for whoever
// looks at stored records from outside.
func ParseMeta(b []byte) (otlp.Encoding, otlp.Metadata, error) { return decodeMeta(b) }

// decodeMeta is the inverse of encodeMeta; unreadable bytes are errMeta.
func decodeMeta(b []byte) (otlp.Encoding, otlp.Metadata, error) {
	if len(b) == 0 {
		return otlp.Identity, nil, nil
	}
	if len(b) < 3 || b[0] != metaVersion || b[1] > byte(otlp.Zstd) {
		return 0, nil, errMeta
	}
	r := metaReader{b: b[2:]}
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
		return 0, nil, errMeta
	}
	return enc, md, nil
}

type metaReader struct {
	b   []byte
	bad bool
}

// uvarint reads a number of at most limit, so that a damaged count cannot make a long loop.
func (r *metaReader) uvarint(limit uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	if r.bad || n <= 0 || v > limit {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *metaReader) text() string {
	n := r.uvarint(maxMetaText)
	if r.bad || n > uint64(len(r.b)) {
		r.bad = true
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}
