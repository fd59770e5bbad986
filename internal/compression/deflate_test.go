// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package compression_test

import (
	"bytes"
	stockgzip "compress/gzip"
	stockzlib "compress/zlib"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"strings"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/compression"
)

// member is a gzip member of b with everything a header can have, but for its checksum.
func member(t testing.TB, b []byte, header stockgzip.Header) []byte {
	var out bytes.Buffer
	w := stockgzip.NewWriter(&out)
	w.Header = header
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// summed is a member with a checksum over its header of n bytes (RFC 1952, 2.3.1: FHCRC).
func summed(src []byte, n int) []byte {
	src = bytes.Clone(src)
	src[3] |= 1 << 1
	sum := binary.LittleEndian.AppendUint16(nil, uint16(crc32.ChecksumIEEE(src[:n])))
	return bytes.Join([][]byte{src[:n], sum, src[n:]}, nil)
}

func TestEveryPartOfAGzipHeaderIsReadOver(t *testing.T) {
	want := content(200)
	plain := member(t, want, stockgzip.Header{})
	for name, src := range map[string][]byte{
		"name":        member(t, want, stockgzip.Header{Name: "spans.bin"}),
		"comment":     member(t, want, stockgzip.Header{Comment: "of a batch"}),
		"extra":       member(t, want, stockgzip.Header{Extra: []byte("AB\x02\x00xy")}),
		"empty extra": member(t, want, stockgzip.Header{Extra: []byte{}}),
		"long name":   member(t, want, stockgzip.Header{Name: strings.Repeat("n", 400)}),
		"all":         member(t, want, stockgzip.Header{Name: "n", Comment: "c", Extra: []byte("x")}),
		"checksum":    summed(plain, 10),
		"text flag":   append([]byte{0x1f, 0x8b, 8, 1}, plain[4:]...),
	} {
		got, err := compression.Decode(compression.Gzip, src, 1<<20, &lender{})
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		for n := range src {
			if _, err := compression.Decode(compression.Gzip, src[:n], 1<<20, &lender{}); !errors.Is(err, compression.ErrMalformed) {
				t.Fatalf("%s, cut at %d: %v", name, n, err)
			}
		}
	}
}

func TestWhatIsWrongWithAGzipMemberIsNamed(t *testing.T) {
	plain := member(t, content(5000), stockgzip.Header{})
	end := len(plain)
	change := func(at int, with ...byte) []byte {
		src := bytes.Clone(plain)
		copy(src[at:], with)
		return src
	}
	badSum := summed(plain, 10)
	badSum[10] ^= 1
	for cause, src := range map[string][]byte{
		"invalid header":                               change(0, 'x'),
		"reserved flags in the header":                 change(3, 0x20),
		"invalid checksum of the header":               badSum,
		"invalid checksum":                             change(end-8, 1, 2, 3, 4),
		"the stated length is not that of the content": change(end-4, 1, 2, 3, 4),
		"bytes after the last member":                  append(bytes.Clone(plain), 0),
		"unknown kind of block":                        change(10, 7),
		"truncated":                                    plain[:end-1],
	} {
		_, err := compression.Decode(compression.Gzip, src, 1<<20, &lender{})
		var broken *compression.DecodeError
		if !errors.As(err, &broken) || broken.Cause != cause || broken.Offset > len(src) {
			t.Errorf("%s: %v", cause, err)
		}
	}
}

func TestAZlibStreamWithADictionaryIsRefused(t *testing.T) {
	var out bytes.Buffer
	w, err := stockzlib.NewWriterLevelDict(&out, -1, []byte("dictionary"))
	if err != nil {
		t.Fatal(err)
	}
	w.Write(content(100))
	w.Close()
	if _, err := compression.Decode(compression.Zlib, out.Bytes(), 1<<20, &lender{}); err == nil || !strings.Contains(err.Error(), "dictionary") {
		t.Error(err)
	}
}

// FuzzGzipAsPublished compares the verdict and the content with the standard library's, which ignores reserved flags and
// reads no names above 512 bytes.
func FuzzGzipAsPublished(f *testing.F) {
	plain := member(f, content(2000), stockgzip.Header{})
	f.Add(plain, false)
	f.Add(append(bytes.Clone(plain), plain...), false)
	f.Add(summed(plain, 10), false)
	f.Add(member(f, content(100), stockgzip.Header{Name: "n", Comment: "c", Extra: []byte("x")}), false)
	f.Add(formats["zlib"].encode(content(1000)), true)
	f.Fuzz(func(t *testing.T, src []byte, zlib bool) {
		const limit = 1 << 18
		codec := compression.Gzip
		if zlib {
			codec = compression.Zlib
		}
		got, err := compression.Decode(codec, src, limit, &lender{})
		want, wantErr := published(src, zlib, limit)
		switch {
		case len(want) > limit:
			if err == nil {
				t.Fatalf("more than %d bytes were accepted", limit)
			}
		case wantErr != nil && err == nil:
			if len(src) < 512 {
				t.Fatalf("accepted, published: %v", wantErr)
			}
		case wantErr == nil && err != nil:
			if !strings.Contains(err.Error(), "reserved") {
				t.Fatalf("%v, published: accepted", err)
			}
		case err == nil && !bytes.Equal(got, want):
			t.Fatalf("%d bytes, published %d", len(got), len(want))
		}
	})
}

func published(src []byte, zlib bool, limit int64) ([]byte, error) {
	r := bytes.NewReader(src)
	open := func() (io.Reader, error) { return stockgzip.NewReader(r) }
	if zlib {
		open = func() (io.Reader, error) { return stockzlib.NewReader(r) }
	}
	zr, err := open()
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(zr, limit+1))
	if err == nil && r.Len() > 0 && int64(len(b)) <= limit {
		err = errors.New("bytes after the end")
	}
	return b, err
}
