// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/holdfast-telemetry/holdfast/bench/rawgrpc"
)

var errMalformed = errors.New("malformed request")

// Count is the number of spans or log records in a request: fields resource (1), scope (2), item (2), whose numbers both
// signals share. It steps over everything else and does not look inside an item.
func Count(request []byte) (int, error) { return count(request, []protowire.Number{1, 2, 2}) }

func count(b []byte, path []protowire.Number) (int, error) {
	n := 0
	for len(b) > 0 {
		field, kind, head := protowire.ConsumeTag(b)
		if head < 0 {
			return 0, errMalformed
		}
		b = b[head:]
		if field != path[0] || kind != protowire.BytesType {
			size := protowire.ConsumeFieldValue(field, kind, b)
			if size < 0 {
				return 0, errMalformed
			}
			b = b[size:]
			continue
		}
		content, size := protowire.ConsumeBytes(b)
		if size < 0 {
			return 0, errMalformed
		}
		b = b[size:]
		if len(path) == 1 {
			n++
			continue
		}
		below, err := count(content, path[1:])
		if err != nil {
			return 0, err
		}
		n += below
	}
	return n, nil
}

// encodingOf tells a compressed request by its first bytes: no protobuf message of ours starts like them.
func encodingOf(b []byte) string {
	switch {
	case bytes.HasPrefix(b, []byte{0x1f, 0x8b}):
		return rawgrpc.Gzip
	case bytes.HasPrefix(b, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return rawgrpc.Zstd
	}
	return rawgrpc.Identity
}

var (
	gzipReaders = sync.Pool{New: func() any { return new(gzip.Reader) }}
	zstdDecoder = sync.OnceValue(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxRequestBytes))
		if err != nil {
			panic(err) // options are constants
		}
		return d
	})
)

// inflate appends what b decodes to, all members of it.
func inflate(dst, b []byte, encoding string) ([]byte, error) {
	if encoding == rawgrpc.Zstd {
		return zstdDecoder().DecodeAll(b, dst)
	}
	r := gzipReaders.Get().(*gzip.Reader)
	defer gzipReaders.Put(r)
	if err := r.Reset(bytes.NewReader(b)); err != nil {
		return dst, err
	}
	out := bytes.NewBuffer(dst)
	if _, err := io.Copy(out, r); err != nil {
		return dst, fmt.Errorf("inflate: %w", err)
	}
	return out.Bytes(), nil
}
