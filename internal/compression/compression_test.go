// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package compression_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"

	"github.com/holdfast-telemetry/holdfast/internal/compression"
)

// lender lends fresh memory and remembers the most it lent at once, and the most two slices had while one was moved.
type lender struct {
	most, moved int
	err         error
}

func (l *lender) Lend(b []byte, n int) ([]byte, error) {
	if l.err != nil {
		return b, l.err
	}
	l.most = max(l.most, n)
	if len(b) > 0 {
		l.moved = max(l.moved, cap(b)+n)
	}
	return append(make([]byte, 0, n), b...), nil
}

// formats are the ways in which clients compress.
var formats = map[string]struct {
	codec  compression.Codec
	encode func(b []byte) []byte
}{
	"gzip":         {compression.Gzip, func(b []byte) []byte { return written(gzip.NewWriter, b) }},
	"zlib":         {compression.Zlib, func(b []byte) []byte { return written(zlib.NewWriter, b) }},
	"zstd block":   {compression.Zstd, func(b []byte) []byte { return zstdAll(b) }},
	"zstd stream":  {compression.Zstd, zstdStream},
	"snappy block": {compression.Snappy, func(b []byte) []byte { return snappy.Encode(nil, b) }},
	"snappy framed": {compression.Snappy, func(b []byte) []byte {
		return written(func(w io.Writer) *snappy.Writer { return snappy.NewBufferedWriter(w) }, b)
	}},
}

func written[W io.WriteCloser](open func(io.Writer) W, b []byte) []byte {
	var out bytes.Buffer
	w := open(&out)
	if _, err := w.Write(b); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return out.Bytes()
}

func zstdAll(b []byte, opts ...zstd.EOption) []byte {
	w, err := zstd.NewWriter(nil, opts...)
	if err != nil {
		panic(err)
	}
	return w.EncodeAll(b, nil)
}

// zstdStream writes in pieces, so that frames do not state their size.
func zstdStream(b []byte) []byte {
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic(err)
	}
	for len(b) > 0 {
		n := min(len(b), 1000)
		if _, err := w.Write(b[:n]); err != nil {
			panic(err)
		}
		if err := w.Flush(); err != nil {
			panic(err)
		}
		b = b[n:]
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return out.Bytes()
}

// content is n bytes that compress somewhat.
func content(n int) []byte {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	b := make([]byte, n)
	for i := range b {
		b[i] = "abcdefghijklmnop"[r.IntN(16)]
		if i > 64 && r.IntN(4) == 0 {
			b[i] = b[i-64]
		}
	}
	return b
}

func TestWhatWasEncodedComesBack(t *testing.T) {
	for name, f := range formats {
		for _, n := range []int{0, 1, 63, 4096, 70_000, 300_000, 3 << 20} {
			if n == 0 && name == "snappy framed" {
				continue // writes nothing at all
			}
			want := content(n)
			l := &lender{}
			got, err := compression.Decode(f.codec, f.encode(want), 4<<20, l)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s of %d bytes: %d bytes, %v", name, n, len(got), err)
			}
		}
	}
}

func TestConcatenatedMembersAndFramesAreOneContent(t *testing.T) {
	for _, name := range []string{"gzip", "zstd block", "zstd stream"} {
		f := formats[name]
		var src, want []byte
		for i := range 100 {
			part := content(i * 37)
			src, want = append(src, f.encode(part)...), append(want, part...)
		}
		got, err := compression.Decode(f.codec, src, len(want), &lender{})
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

func TestTheLimitIsExactAndNothingBeyondItIsAskedFor(t *testing.T) {
	for name, f := range formats {
		for _, n := range []int{1, 5000, 65_536, 1 << 20} {
			src := f.encode(content(n))
			if got, err := compression.Decode(f.codec, src, n, &lender{}); err != nil || len(got) != n {
				t.Errorf("%s: at the limit of %d: %d bytes, %v", name, n, len(got), err)
			}
			l := &lender{}
			if _, err := compression.Decode(f.codec, src, n-1, l); !errors.Is(err, compression.ErrTooLarge) {
				t.Errorf("%s: above the limit of %d: %v", name, n-1, err)
			}
			if l.most > n+64 {
				t.Errorf("%s: limit %d, %d bytes asked for", name, n-1, l.most)
			}
		}
	}
}

func TestABombIsRefusedWithinTheCap(t *testing.T) {
	const limit = 1 << 20
	zeros := make([]byte, 64<<20)
	bombs := map[string]struct {
		codec compression.Codec
		src   []byte
	}{
		"gzip":        {compression.Gzip, formats["gzip"].encode(zeros)},
		"zlib":        {compression.Zlib, formats["zlib"].encode(zeros)},
		"zstd stated": {compression.Zstd, zstdAll(zeros)},
		"zstd stream": {compression.Zstd, written(func(w io.Writer) *zstd.Encoder {
			e, _ := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
			return e
		}, zeros)},
		"snappy":        {compression.Snappy, formats["snappy block"].encode(zeros)},
		"snappy framed": {compression.Snappy, formats["snappy framed"].encode(zeros)},
		"gzip members":  {compression.Gzip, bytes.Repeat(formats["gzip"].encode(zeros[:60_000]), 100)},
	}
	for name, bomb := range bombs {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		l := &lender{}
		_, err := compression.Decode(bomb.codec, bomb.src, limit, l)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, compression.ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
		// The lender's doublings and a decoder's own tables; far from the 64 MiB that are in there.
		if got := after.TotalAlloc - before.TotalAlloc; got > 12<<20 || l.most > limit+64 {
			t.Errorf("%s: %d bytes allocated, %d asked for at most", name, got, l.most)
		}
		// A budget of twice the largest request has room for this.
		if l.moved > limit*7/4 {
			t.Errorf("%s: %d bytes held at once", name, l.moved)
		}
	}
}

func TestTruncationIsNoticedAtEveryByte(t *testing.T) {
	want := content(2000)
	for name, f := range formats {
		src := f.encode(want)
		for n := range src {
			got, err := compression.Decode(f.codec, src[:n], 1<<20, &lender{})
			if name == "snappy framed" && err == nil && n >= 10 && len(got) == 0 {
				continue // a framed stream has no end mark: cut between chunks it is a shorter stream
			}
			if name == "zstd stream" && err == nil && bytes.Equal(got, want) {
				continue
			}
			if !errors.Is(err, compression.ErrMalformed) {
				t.Errorf("%s: cut at %d of %d: %d bytes, %v", name, n, len(src), len(got), err)
			}
		}
	}
}

func TestBytesAfterTheEndAreNoticed(t *testing.T) {
	want := content(2000)
	for name, f := range formats {
		for _, tail := range []string{"x", "\x00\x00\x00\x00\x00\x00\x00\x00", strings.Repeat("tail", 10)} {
			src := append(f.encode(want), tail...)
			if _, err := compression.Decode(f.codec, src, 1<<20, &lender{}); !errors.Is(err, compression.ErrMalformed) {
				t.Errorf("%s with %d bytes behind it: %v", name, len(tail), err)
			}
		}
	}
}

func TestAFlippedBitNeverPanicsAndNeverExceedsTheLimit(t *testing.T) {
	const limit = 1 << 16
	for name, f := range formats {
		src := f.encode(content(3000))
		for i := range len(src) * 8 {
			broken := bytes.Clone(src)
			broken[i/8] ^= 1 << (i % 8)
			got, err := compression.Decode(f.codec, broken, limit, &lender{})
			if len(got) > limit {
				t.Fatalf("%s, bit %d: %d bytes", name, i, len(got))
			}
			if err != nil && !errors.Is(err, compression.ErrMalformed) && !errors.Is(err, compression.ErrTooLarge) {
				t.Fatalf("%s, bit %d: %v", name, i, err)
			}
		}
	}
}

func TestAZstdWindowAbove8MiBIsRefusedBeforeItIsAllocated(t *testing.T) {
	src := zstdStreamWithWindow(64 << 20)
	l := &lender{}
	_, err := compression.Decode(compression.Zstd, src, 32<<20, l)
	if !errors.Is(err, compression.ErrMalformed) || !strings.Contains(err.Error(), "window") {
		t.Errorf("%v", err)
	}
	if l.most > 1<<20 {
		t.Errorf("%d bytes asked for", l.most)
	}
	if _, err := compression.Decode(compression.Zstd, zstdStreamWithWindow(8<<20), 32<<20, &lender{}); err != nil {
		t.Errorf("8 MiB: %v", err)
	}
}

// zstdStreamWithWindow is a frame with one raw block and the given window, which is a power of two.
func zstdStreamWithWindow(window int) []byte {
	exponent := 0
	for 1<<(10+exponent) < window {
		exponent++
	}
	// magic, descriptor without content size and checksum, window descriptor, last raw block of 3 bytes
	return []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, byte(exponent << 3), 3<<3 | 1, 0, 0, 'a', 'b', 'c'}
}

func TestAStatedSnappyLengthIsCheckedBeforeAllocation(t *testing.T) {
	for name, src := range map[string][]byte{
		"4 GiB":            {0xff, 0xff, 0xff, 0xff, 0x0f, 0x00},
		"more than can be": {0x80, 0x80, 0x40, 0x00, 'a'}, // 1 MiB in two bytes
		"an endless one":   bytes.Repeat([]byte{0xff}, 12),
	} {
		l := &lender{}
		_, err := compression.Decode(compression.Snappy, src, 16<<20, l)
		if err == nil || l.most > 0 {
			t.Errorf("%s: %v, %d bytes asked for", name, err, l.most)
		}
	}
}

func TestMembersAreCounted(t *testing.T) {
	for _, name := range []string{"gzip", "zstd block"} {
		f := formats[name]
		empty := f.encode(nil)
		if name == "zstd block" {
			empty = []byte{0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x00, 0x01, 0x00, 0x00} // an empty last block
		}
		src := bytes.Repeat(empty, 1<<16+1)
		_, err := compression.Decode(f.codec, src, 1<<20, &lender{})
		if !errors.Is(err, compression.ErrMalformed) || !strings.Contains(err.Error(), "too many") {
			t.Errorf("%s: %v", name, err)
		}
		got, err := compression.Decode(f.codec, src[:len(empty)<<16], 1<<20, &lender{})
		if err != nil || len(got) != 0 {
			t.Errorf("%s: one less: %d bytes, %v", name, len(got), err)
		}
	}
}

func TestALendersErrorComesThroughUnchanged(t *testing.T) {
	refused := errors.New("no memory to lend")
	for name, f := range formats {
		src := f.encode(content(10_000))
		if _, err := compression.Decode(f.codec, src, 1<<20, &lender{err: refused}); err != refused {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestErrorsNameCodecAndOffsetAndNoContent(t *testing.T) {
	src := append(formats["gzip"].encode([]byte("secret secret")), "password"...)
	_, err := compression.Decode(compression.Gzip, src, 1<<20, &lender{})
	var broken *compression.DecodeError
	if !errors.As(err, &broken) {
		t.Fatalf("%v", err)
	}
	want := fmt.Sprintf("decode gzip: at byte %d: bytes after the last member", len(src)-len("password"))
	if err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
}

func TestParseKnowsTheNamesRequestsUse(t *testing.T) {
	for name, want := range map[string]compression.Codec{
		"": compression.None, "identity": compression.None, "gzip": compression.Gzip, "zstd": compression.Zstd,
		"snappy": compression.Snappy, "x-snappy-framed": compression.Snappy, "deflate": compression.Zlib,
		"zlib": compression.Zlib,
	} {
		if got, ok := compression.Parse(name); !ok || got != want {
			t.Errorf("%q is %v, %v", name, got, ok)
		}
	}
	for _, name := range []string{"br", "gzip, gzip", "lz4", "*"} {
		if got, ok := compression.Parse(name); ok {
			t.Errorf("%q is %v", name, got)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, format := range formats {
		f.Add(uint8(format.codec), format.encode(content(200)))
		f.Add(uint8(format.codec), append(format.encode(content(20)), format.encode(content(20))...))
	}
	f.Fuzz(func(t *testing.T, codec uint8, src []byte) {
		const limit = 1 << 16
		l := &lender{}
		got, err := compression.Decode(compression.Codec(codec%6), src, limit, l)
		if err == nil && len(got) > limit || l.most > limit+64 {
			t.Fatalf("%d bytes, %d asked for", len(got), l.most)
		}
		if err != nil && !errors.Is(err, compression.ErrMalformed) && !errors.Is(err, compression.ErrTooLarge) {
			t.Fatalf("%T: %v", err, err)
		}
	})
}
