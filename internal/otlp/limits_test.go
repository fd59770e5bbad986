// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlp_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

// valuePaths lead from the request to where an attribute value can stand, without deprecated fields.
var valuePaths = map[otlp.Signal][][]int{
	otlp.Traces: {
		{1, 1, 1, 2}, {1, 2, 1, 3, 2}, {1, 2, 2, 9, 2}, {1, 2, 2, 11, 3, 2}, {1, 2, 2, 13, 4, 2},
	},
	otlp.Metrics: {
		{1, 1, 1, 2}, {1, 2, 1, 3, 2}, {1, 2, 2, 12, 2}, {1, 2, 2, 5, 1, 7, 2}, {1, 2, 2, 7, 1, 5, 7, 2},
		{1, 2, 2, 9, 1, 9, 2}, {1, 2, 2, 10, 1, 1, 2}, {1, 2, 2, 11, 1, 7, 2}, {1, 2, 2, 9, 1, 8, 7, 2},
	},
	otlp.Logs:     {{1, 1, 1, 2}, {1, 2, 1, 3, 2}, {1, 2, 2, 5}, {1, 2, 2, 6, 2}},
	otlp.Profiles: {{1, 1, 1, 2}, {1, 2, 1, 3, 2}, {2, 6, 2}},
}

// nested returns an attribute value of the given depth, made of lists of values and lists of pairs in turn.
func nested(depth int) []byte {
	path := []int{}
	for i := 1; i < depth; i++ {
		if i%2 == 0 {
			path = append(path, 5, 1)
		} else {
			path = append(path, 6, 1, 2)
		}
	}
	return wrap(path, []byte{1<<3 | 2, 1, 'x'})
}

func nestedRequest(s otlp.Signal, depth int) []byte {
	return wrap(valuePaths[s][len(valuePaths[s])-1], nested(depth))
}

func TestAttributeValuesNestToOneHundredAndNoDeeper(t *testing.T) {
	for s, all := range valuePaths {
		for _, path := range all {
			deepest := wrap(path, nested(otlp.MaxDepth))
			if _, err := otlp.Scan(s, deepest); err != nil {
				t.Errorf("%s %v: %v", s, path, err)
			}
			agree(t, s, deepest)
			_, err := otlp.Scan(s, wrap(path, nested(otlp.MaxDepth+1)))
			if !errors.Is(err, otlp.ErrTooDeep) {
				t.Errorf("%s %v: %v, want %v", s, path, err, otlp.ErrTooDeep)
			}
			// Siblings do not add up.
			wide := wrap(path, bytes.Repeat(wrap([]int{5, 1}, []byte{2<<3 | 0, 1}), 3*otlp.MaxDepth))
			if _, err := otlp.Scan(s, wide); err != nil {
				t.Errorf("%s %v: siblings: %v", s, path, err)
			}
		}
	}
}

func TestADepthBombIsRefusedAsSuch(t *testing.T) {
	for s := range valuePaths {
		b := nestedRequest(s, 20_000)
		if _, err := otlp.Scan(s, b); !errors.Is(err, otlp.ErrTooDeep) {
			t.Errorf("%s: %v", s, err)
		}
	}
}

// depthOf measures without Scan how deep attribute values are nested in a message.
func depthOf(nodes []node) int {
	deepest := 0
	for _, n := range nodes {
		d := depthOf(n.kids)
		if n.message == "AnyValue" {
			d++
		}
		deepest = max(deepest, d)
	}
	return deepest
}

func hasGroups(nodes []node) bool {
	return slices.ContainsFunc(nodes, func(n node) bool { return n.wire == 3 || n.wire == 4 || hasGroups(n.kids) })
}

func TestWhatScanCallsTooDeepIsTooDeep(t *testing.T) {
	for s, all := range valuePaths {
		called := 0
		for seed := range 400 {
			r := rand.New(rand.NewPCG(uint64(seed), uint64(s)))
			path := all[r.IntN(len(all))]
			root := requestMessages[s]
			deep := parse(root, wrap(path, nested(otlp.MaxDepth-5+r.IntN(10))))
			b := write(r, mutate(r, append(generate(r, root, 100), deep...), 2), 0)
			tree := parse(root, b)
			if hasGroups(tree) {
				continue // groups hide fields
			}
			_, err := otlp.Scan(s, b)
			tooDeep := errors.Is(err, otlp.ErrTooDeep)
			if depth := depthOf(tree); tooDeep && depth <= otlp.MaxDepth || err == nil && depth > otlp.MaxDepth {
				t.Fatalf("%s seed %d: depth %d, scan says %v", s, seed, depth, err)
			}
			if tooDeep {
				called++
			}
		}
		if called < 50 {
			t.Errorf("%s: only %d of 400 were called too deep", s, called)
		}
	}
}

func TestOneMillionItemsPassAndOneMoreIsRefused(t *testing.T) {
	itemPaths := map[otlp.Signal][]int{
		otlp.Traces: {1, 2}, otlp.Metrics: {1, 2, 2, 5}, otlp.Logs: {1, 1000}, otlp.Profiles: {1, 2, 2},
	}
	for s, path := range itemPaths {
		tag := byte(2<<3 | 2)
		if s == otlp.Metrics {
			tag = 1<<3 | 2
		}
		items := bytes.Repeat([]byte{tag, 0}, otlp.MaxItems)
		full := wrap(path, items)
		if n, err := otlp.Scan(s, full); n != otlp.MaxItems || err != nil {
			t.Errorf("%s: %d, %v", s, n, err)
		}
		for name, b := range map[string][]byte{
			"in the same group": wrap(path, append(items, tag, 0)),
			"in another group":  append(full, wrap(path, []byte{tag, 0})...),
		} {
			if _, err := otlp.Scan(s, b); !errors.Is(err, otlp.ErrTooManyItems) {
				t.Errorf("%s, %s: %v", s, name, err)
			}
		}
	}
}
