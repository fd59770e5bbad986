// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package inflate_test

import (
	"bytes"
	stock "compress/flate"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/klauspost/compress/flate"

	"github.com/holdfast-telemetry/holdfast/internal/compression/inflate"
)

const limit = 1 << 20

// rounds is how often a test with chance in it plays: n times, or fifty times that with HOLDFAST_LONG=1.
func rounds(n int) int {
	if os.Getenv("HOLDFAST_LONG") != "" {
		return 50 * n
	}
	return n
}

// doubling gives room, poisons what it leaves, and remembers the most it gave.
type doubling struct {
	most int
	err  error
}

func (g *doubling) Grow(b []byte) ([]byte, error) {
	if g.err != nil {
		return nil, g.err
	}
	g.most = max(g.most, 2*cap(b)+1)
	grown := append(make([]byte, 0, 2*cap(b)+1), b...)
	clear(b)
	return grown, nil
}

// reference is what a published decoder makes of src: the content, and how much of src is not part of it.
func reference(open func(io.Reader) io.ReadCloser, src []byte) (content []byte, left int, err error) {
	r := bytes.NewReader(src) // has ReadByte: the decoders promise not to read beyond the end
	content, err = io.ReadAll(io.LimitReader(open(r), limit+1))
	return content, r.Len(), err
}

var d inflate.Decoder // one for all: nothing of a stream may be left for the next

// same fails unless the decoder and both published ones agree on src, whatever room there is at first.
func same(t *testing.T, src []byte) {
	t.Helper()
	want, left, wantErr := reference(flate.NewReader, src)
	other, _, otherErr := reference(stock.NewReader, src)
	if (wantErr == nil) != (otherErr == nil) || wantErr == nil && !bytes.Equal(want, other) {
		t.Fatalf("the published decoders disagree: %v, %v", wantErr, otherErr)
	}
	for _, room := range []int{0, 1, 300, len(want), len(want) + 300} {
		got, n, err := d.Append(make([]byte, 0, room), src, limit, &doubling{})
		switch {
		case len(want) > limit:
			if !errors.Is(err, inflate.ErrTooLarge) {
				t.Fatalf("room %d: more than %d bytes: %v", room, limit, err)
			}
		case (err == nil) != (wantErr == nil):
			t.Fatalf("room %d: %v, published: %v", room, err, wantErr)
		case errors.Is(err, io.ErrUnexpectedEOF) && n != len(src):
			t.Fatalf("room %d: cut short after %d of %d bytes", room, n, len(src))
		case err == nil && !bytes.Equal(got, want):
			t.Fatalf("room %d: %d bytes, published %d, the first difference at %d", room, len(got), len(want), different(got, want))
		case err == nil && n != len(src)-left:
			t.Fatalf("room %d: %d bytes used, published %d", room, n, len(src)-left)
		}
	}
}

func different(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// kinds are contents that make encoders use every kind of block, code and match.
func kinds() map[string][]byte {
	r := rand.New(rand.NewPCG(7, 7))
	text := make([]byte, 200_000)
	for i := range text {
		text[i] = "etaoin shrdlu\n"[min(r.IntN(14), r.IntN(14))]
		if i > 300 && r.IntN(3) == 0 {
			n := copy(text[i:], text[i-1-r.IntN(300):i])
			i += n - 1
		}
	}
	noise := make([]byte, 100_000)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	skewed := make([]byte, 90_000) // rare bytes get the longest words
	for i := range skewed {
		skewed[i] = byte(bits(r))
	}
	far := bytes.Clone(noise[:40_000])
	for i := 33_000; i < len(far); i += 258 {
		copy(far[i:], far[i-32_768:][:min(258, len(far)-i)])
	}
	var runs []byte
	for n := 1; n < 600; n++ {
		runs = append(runs, bytes.Repeat(noise[n:n+1+n%9], 1+n/(1+n%9))...)
	}
	return map[string][]byte{
		"nothing": nil, "one byte": {'a'}, "text": text[:100_000], "noise": noise[:60_000], "skewed": skewed, "far": far, "runs": runs,
		"zeros": make([]byte, 300_000), "mixed": append(append(bytes.Clone(text[:9000]), noise[:9000]...), runs[:9000]...),
	}
}

// bits is small most of the time: half of the next number each time.
func bits(r *rand.Rand) int {
	n := 0
	for n < 255 && r.IntN(100) < 88 {
		n++
	}
	return n
}

// encoded is b as both encoders write it with different means, at once and with flushes, which end blocks.
func encoded(t testing.TB, b []byte) map[string][]byte {
	all := map[string][]byte{}
	for _, level := range []int{flate.HuffmanOnly, 0, 1, 3, 6, 9} {
		for _, flush := range []bool{false, true} {
			for name, open := range map[string]func(io.Writer, int) (encoder, error){
				"klauspost": func(w io.Writer, l int) (encoder, error) { return flate.NewWriter(w, l) },
				"go":        func(w io.Writer, l int) (encoder, error) { return stock.NewWriter(w, l) },
			} {
				var out bytes.Buffer
				w, err := open(&out, level)
				if err != nil {
					t.Fatal(err)
				}
				for rest := b; len(rest) > 0; {
					n := len(rest)
					if flush {
						n = min(n, 7001)
					}
					if _, err := w.Write(rest[:n]); err != nil {
						t.Fatal(err)
					}
					if rest = rest[n:]; flush {
						if err := w.Flush(); err != nil {
							t.Fatal(err)
						}
					}
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				all[fmt.Sprintf("%s, level %d, flush %v", name, level, flush)] = out.Bytes()
			}
		}
	}
	return all
}

type encoder interface {
	io.WriteCloser
	Flush() error
}

func TestEveryEncodersOutputIsDecoded(t *testing.T) {
	for kind, content := range kinds() {
		for how, src := range encoded(t, content) {
			src = append(src, "what follows is not touched"...)
			got, n, err := d.Append([]byte("before "), src, limit, &doubling{})
			if err != nil || string(got[:7]) != "before " || !bytes.Equal(got[7:], content) || string(src[n:]) != "what follows is not touched" {
				t.Errorf("%s, %s: %d bytes of %d, %d left: %v", kind, how, len(got)-7, len(content), len(src)-n, err)
			}
		}
	}
}

func TestBrokenStreamsAreJudgedAsThePublishedDecodersDo(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	for _, content := range kinds() {
		content = content[:min(len(content), 2000)]
		for _, src := range encoded(t, content) {
			for range rounds(3) {
				broken := bytes.Clone(src[:1+r.IntN(len(src))])
				for range r.IntN(4) {
					broken[r.IntN(len(broken))] ^= 1 << r.IntN(8)
				}
				same(t, broken)
			}
		}
	}
}

// Headers of blocks made of random bits are nearly always wrong, in every way there is.
func TestRandomBlockHeadersAreJudgedAsThePublishedDecodersDo(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 9))
	src := make([]byte, 200)
	for range rounds(6000) {
		for i := range src {
			src[i] = byte(r.Uint32())
			if r.IntN(3) == 0 {
				src[i] = 0
			}
		}
		src[0] = src[0]&^6 | 4 // brings its own codes
		same(t, src[:20+r.IntN(180)])
	}
}

func TestTheLimitIsExact(t *testing.T) {
	content := kinds()["text"]
	for how, src := range encoded(t, content) {
		g := &doubling{}
		if got, _, err := d.Append(nil, src, len(content), g); err != nil || len(got) != len(content) {
			t.Errorf("%s: at the limit: %d bytes, %v", how, len(got), err)
		}
		if _, _, err := d.Append(nil, src, len(content)-1, g); !errors.Is(err, inflate.ErrTooLarge) {
			t.Errorf("%s: above the limit: %v", how, err)
		}
		if g.most > 2*len(content) {
			t.Errorf("%s: %d bytes of room", how, g.most)
		}
	}
}

func TestTheGrowersErrorComesThrough(t *testing.T) {
	full := errors.New("full")
	for how, src := range encoded(t, kinds()["text"]) {
		if _, _, err := d.Append(make([]byte, 0, 1000), src, limit, &doubling{err: full}); !errors.Is(err, full) {
			t.Errorf("%s: %v", how, err)
		}
	}
}

func TestDecodingAllocatesNothing(t *testing.T) {
	content := kinds()["text"]
	dst, g := make([]byte, 0, len(content)+1), &doubling{}
	for how, src := range encoded(t, content) {
		if n := testing.AllocsPerRun(5, func() {
			if _, _, err := d.Append(dst, src, limit, g); err != nil {
				t.Fatal(err)
			}
		}); n > 0 {
			t.Errorf("%s: %v allocations", how, n)
		}
	}
}

func FuzzSameAsPublished(f *testing.F) {
	for _, content := range kinds() {
		for _, src := range encoded(f, content[:min(len(content), 2000)]) {
			f.Add(src)
		}
	}
	f.Fuzz(func(t *testing.T, src []byte) { same(t, src) })
}

func BenchmarkAppend(b *testing.B) {
	for _, kind := range []string{"text", "noise", "runs", "zeros"} {
		content := kinds()[kind]
		var out bytes.Buffer
		w, _ := flate.NewWriter(&out, -1)
		w.Write(content)
		w.Close()
		b.Run(kind, func(b *testing.B) {
			b.SetBytes(int64(len(content)))
			dst := make([]byte, 0, len(content)+300)
			for b.Loop() {
				if _, _, err := d.Append(dst, out.Bytes(), limit, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(kind+", published", func(b *testing.B) {
			b.SetBytes(int64(len(content)))
			dst := make([]byte, len(content)+300)
			src := bytes.NewReader(nil)
			r := flate.NewReader(src)
			for b.Loop() {
				src.Reset(out.Bytes())
				r.(flate.Resetter).Reset(src, nil)
				if _, err := io.ReadFull(r, dst); err != io.ErrUnexpectedEOF {
					b.Fatal(err)
				}
			}
		})
	}
}
