// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlp_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

// wrap puts content into the message reached from the root by the field numbers of path.
func wrap(path []int, content []byte) []byte {
	heads := make([][]byte, len(path))
	n := len(content)
	for i := len(path) - 1; i >= 0; i-- {
		heads[i] = binary.AppendUvarint(binary.AppendUvarint(nil, uint64(path[i])<<3|2), uint64(n))
		n += len(heads[i])
	}
	return slices.Concat(append(heads, content)...)
}

func TestEveryFieldOfEveryMessageGetsTheVerdictOfTheReference(t *testing.T) {
	contents := [][]byte{
		{}, {0}, {1, 'x'}, {0x7f}, {0x80}, {0x80, 0}, {0x08, 0x01}, {2, 0x08, 0x01}, {2, 0x1a, 0}, {4, 0x12, 2, 0x18, 1},
		binary.LittleEndian.AppendUint32(nil, 7), binary.LittleEndian.AppendUint64(nil, 7), make([]byte, 9),
		append([]byte{8}, make([]byte, 8)...), append([]byte{7}, make([]byte, 7)...),
		append([]byte{16}, make([]byte, 16)...), append([]byte{17}, make([]byte, 17)...),
		{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0},
		{0x82, 0x80, 0}, {3, 0x80, 0x80, 1}, {3, 0x80, 0x80, 0x80}, {0x13, 0x14, 0}, {0x13, 0x14}, {0x14}, {0x14, 0x08, 0},
	}
	numbers := []int{999, 1000, 1001, 1 << 28, 1<<29 - 1}
	for n := range 20 {
		numbers = append(numbers, n)
	}
	for s, root := range requestMessages {
		for message, path := range paths(root) {
			t.Run(s.String()+"/"+message, func(t *testing.T) {
				for _, n := range numbers {
					for wire := range 8 {
						tag := uint64(n)<<3 | uint64(wire)
						for _, c := range contents {
							agree(t, s, wrap(path, append(binary.AppendUvarint(nil, tag), c...)))
						}
						long := append(binary.AppendUvarint(nil, tag|1<<40), contents[2]...)
						agree(t, s, wrap(path, long))
						agree(t, s, wrap(path, append(long, long...)))
					}
				}
			})
		}
	}
}

func TestScanAgreesWithTheReferenceOnGeneratedRequests(t *testing.T) {
	rounds := 3000
	if testing.Short() {
		rounds = 300
	}
	for s, root := range requestMessages {
		t.Run(s.String(), func(t *testing.T) {
			counted := 0
			for seed := range rounds {
				r := rand.New(rand.NewPCG(uint64(seed), uint64(s)))
				made := generate(r, root, 10+r.IntN(300))
				b := write(r, made, 0)
				n, err := otlp.Scan(s, b)
				if err != nil && s != otlp.Profiles { // whose references may lead nowhere
					t.Fatalf("seed %d: a sound request is refused: %v", seed, err)
				}
				counted += int(n)
				agree(t, s, b)
				agree(t, s, b[:r.IntN(len(b)+1)])
				agree(t, s, write(r, reversed(made), 0))
				agree(t, s, write(r, made, 20))
				agree(t, s, write(r, mutate(r, made, 1), 0))
			}
			if counted < rounds/4 {
				t.Errorf("%d items in %d requests are too few to show anything", counted, rounds)
			}
		})
	}
}

func TestScanCountsTheItemsOfOrdinaryRequestsInAnyFieldOrder(t *testing.T) {
	for _, s := range otlp.Signals {
		b := sample(t, s, 100)
		back := write(nil, reversed(parse(requestMessages[s], b)), 0)
		for _, b := range [][]byte{b, back} {
			if n, err := otlp.Scan(s, b); n != 100 || err != nil {
				t.Errorf("%s: %d items, %v; want 100", s, n, err)
			}
		}
	}
}

func TestAnEmptyRequestIsSoundAndHoldsNothing(t *testing.T) {
	for _, s := range otlp.Signals {
		if n, err := otlp.Scan(s, nil); n != 0 || err != nil {
			t.Errorf("%s: %d, %v", s, n, err)
		}
	}
}

func TestScanRefusesAnUnknownSignal(t *testing.T) {
	for _, s := range []otlp.Signal{0, otlp.Profiles + 1} {
		if _, err := otlp.Scan(s, nil); !errors.Is(err, otlp.ErrSignal) {
			t.Errorf("%s: %v", s, err)
		}
	}
}

func TestScanAllocatesNothingForASoundRequest(t *testing.T) {
	for _, s := range otlp.Signals {
		for _, b := range [][]byte{sample(t, s, 50), nestedRequest(s, otlp.MaxDepth)} {
			allocs := testing.AllocsPerRun(20, func() {
				if _, err := otlp.Scan(s, b); err != nil {
					t.Fatal(err)
				}
			})
			if allocs != 0 {
				t.Errorf("%s: %v allocations", s, allocs)
			}
		}
	}
}

func TestScanErrorsNamePlaceAndCauseAndNoPayload(t *testing.T) {
	good := wrap([]int{1, 2, 2}, []byte("\x2a\x06secret"))
	for _, c := range []struct {
		name, want string
		offset     int
		b          []byte
	}{
		{"identifier", "scan traces: span at byte 20: malformed: identifier of wrong length", 20,
			append(good, wrap([]int{1, 2, 2}, []byte("\x0a\x06secret"))...)},
		{"truncated", "scan traces: request at byte 14: malformed: field beyond the end of its message", 14,
			append(good, "\x0a\x07secret"...)},
		{"wire type", "scan traces: attribute value at byte 10: malformed: wrong wire type", 10,
			wrap([]int{1, 2, 2, 9, 2}, []byte("\x08\x01"))},
		{"group", "scan traces: request at byte 14: malformed: unexpected end of group", 14, append(good, 0x9c, 1, 0x9c, 1)},
	} {
		_, err := otlp.Scan(otlp.Traces, c.b)
		var fault *otlp.ScanError
		if !errors.As(err, &fault) || !errors.Is(err, otlp.ErrMalformed) {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if err.Error() != c.want || fault.Offset != c.offset {
			t.Errorf("%s: %q at %d; want %q at %d", c.name, err, fault.Offset, c.want, c.offset)
		}
		if strings.Contains(fmt.Sprintf("%v %+v", err, fault), "secret") {
			t.Errorf("%s: the text shows payload", c.name)
		}
	}
}
