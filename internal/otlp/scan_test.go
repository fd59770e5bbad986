// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlp_test

import (
	"bytes"
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
			if counted < rounds {
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

// counts fails if Scan does not count want items, or counts otherwise than the reference.
func counts(t *testing.T, s otlp.Signal, want uint32, b []byte) {
	t.Helper()
	if n, err := otlp.Scan(s, b); n != want || err != nil {
		t.Errorf("%s %x: %d items, %v; want %d", s, b, n, err, want)
	}
	agree(t, s, b)
}

func TestTheLastDataOfAMetricReplacesWhatCameBefore(t *testing.T) {
	data := func(number, points int) []byte {
		return wrap([]int{number}, bytes.Repeat([]byte{fieldOne, 0}, points))
	}
	metric := []int{1, 2, 2}
	counts(t, otlp.Metrics, 3, wrap(metric, data(5, 3)))
	counts(t, otlp.Metrics, 2, wrap(metric, append(data(5, 3), data(5, 2)...)))
	counts(t, otlp.Metrics, 0, wrap(metric, append(data(5, 3), data(11, 0)...)))
	counts(t, otlp.Metrics, 4, wrap(metric, append(data(9, 1), data(7, 4)...)))
	counts(t, otlp.Metrics, 5, append(wrap(metric, data(10, 1)), wrap(metric, data(7, 4))...))
}

// fieldOne is the tag of a length-delimited field 1.
const fieldOne = 1<<3 | 2

func TestScopeGroupsInTheirOldPlaceCountIfThereAreNoOthers(t *testing.T) {
	old := wrap([]int{1000}, []byte{2<<3 | 2, 0, 2<<3 | 2, 0})
	empty := wrap([]int{2}, nil)
	for _, s := range []otlp.Signal{otlp.Traces, otlp.Logs} {
		counts(t, s, 2, wrap([]int{1}, old))
		counts(t, s, 4, wrap([]int{1}, append(old, old...)))
		counts(t, s, 0, wrap([]int{1}, append(old, empty...)))
		counts(t, s, 0, wrap([]int{1}, append(empty, old...)))
		counts(t, s, 2, append(wrap([]int{1}, empty), wrap([]int{1}, old)...))
	}
	counts(t, otlp.Profiles, 0, wrap([]int{1}, wrap([]int{1000, 2}, []byte{2<<3 | 2, 0})))
}

func TestReferencesOfProfilesMustLeadIntoTheStringTable(t *testing.T) {
	table := wrap([]int{2}, []byte{5<<3 | 2, 0, 5<<3 | 2, 1, 'k'}) // two strings
	key := func(n byte) []byte { return []byte{3<<3 | 0, n} }
	text := func(n byte) []byte { return wrap([]int{2}, []byte{8<<3 | 0, n}) }
	list := wrap([]int{2, 5, 1}, []byte{8<<3 | 0, 7})
	minus := []byte{3<<3 | 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}
	for _, c := range []struct {
		name  string
		sound bool
		pair  []byte
	}{
		{"a key", true, key(1)},
		{"a key beyond the table", false, key(2)},
		{"a negative key", false, minus},
		{"a key given twice", false, append(key(1), wrap([]int{1}, []byte("k"))...)},
		{"a key given twice, then emptied", true, append(key(1), append(wrap([]int{1}, []byte("k")), fieldOne, 0)...)},
		{"a string", true, text(0)},
		{"a string beyond the table", false, text(2)},
		{"a string beyond the table, then another value", true, append(text(2), text(1)...)},
		{"a string beyond the table in a list", false, list},
		{"a list with such, then another value", true, append(list, text(1)...)},
		{"a list with such, then no value", false, append(list, wrap([]int{2}, nil)...)},
	} {
		for _, path := range [][]int{{1, 1, 1}, {1, 2, 1, 3}} {
			pair := wrap(path, c.pair)
			for _, b := range [][]byte{append(pair, table...), append(table[:len(table):len(table)], pair...)} {
				if _, err := otlp.Scan(otlp.Profiles, b); (err == nil) != c.sound {
					t.Errorf("%s: %v", c.name, err)
				}
				agree(t, otlp.Profiles, b)
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
