// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlp_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

func TestConcatenatedRequestsAreOneRequestWithTheItemsOfBoth(t *testing.T) {
	for _, s := range otlp.Signals {
		if !otlp.Joinable(s) {
			continue
		}
		joined := 0
		for seed := range 300 {
			r := rand.New(rand.NewPCG(uint64(seed), 3))
			root := requestMessages[s]
			a := write(r, generate(r, root, 5+r.IntN(150)), seed%2*30)
			b := write(r, generate(r, root, 5+r.IntN(150)), seed%2*30)
			n, err := otlp.Scan(s, a)
			m, err2 := otlp.Scan(s, b)
			if err != nil || err2 != nil {
				continue
			}
			both := slices.Concat(a, b)
			if sum, err := otlp.Scan(s, both); sum != n+m || err != nil {
				t.Fatalf("%s seed %d: %d items, %v, want %d + %d", s, seed, sum, err, n, m)
			}
			if !slices.Equal(flatten(t, s, both), slices.Concat(flatten(t, s, a), flatten(t, s, b))) {
				t.Fatalf("%s seed %d: the items differ", s, seed)
			}
			joined += int(n) * int(m)
		}
		if joined == 0 {
			t.Errorf("%s: nothing was joined", s)
		}
	}
}

func TestConcatenatedProfilesLoseTheirStrings(t *testing.T) {
	if otlp.Joinable(otlp.Profiles) || otlp.Joinable(0) {
		t.Fatal("profiles are called joinable")
	}
	// Each request names its only resource attribute by index 1 of its own string table.
	request := func(key string) []byte {
		return slices.Concat(
			wrap([]int{2}, slices.Concat(wrap([]int{5}, nil), wrap([]int{5}, []byte(key)))),
			wrap([]int{1}, slices.Concat(wrap([]int{1, 1}, []byte{3<<3 | 0, 1}), wrap([]int{2, 2, 2}, nil))))
	}
	a, b := request("first"), request("second")
	apart := slices.Concat(flatten(t, otlp.Profiles, a), flatten(t, otlp.Profiles, b))
	together := flatten(t, otlp.Profiles, slices.Concat(a, b))
	if len(apart) != 2 || len(together) != 2 {
		t.Fatalf("%d and %d profiles", len(apart), len(together))
	}
	if together[1] == apart[1] {
		t.Error("concatenation is a merge after all: Joinable can be widened")
	}
}
