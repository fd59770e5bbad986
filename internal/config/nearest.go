// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"slices"
	"strings"
)

// Nearest returns the word of words that is most like word, or nothing if none is near: at an edit distance of at
// most 2, or of a third of the length (compat, 4.1). Distance counts a swap of neighbours as one.
func Nearest(word string, words []string) string {
	best, at := "", len(word)/3
	at = max(at, 2)
	for _, w := range slices.Sorted(slices.Values(words)) {
		// A distance as long as the word itself says nothing.
		if d := distance(word, w, at); d <= at && d < max(len(word), len(w)) && (best == "" || d < at) {
			best, at = w, d
		}
	}
	return best
}

// distance is the optimal string alignment distance, or anything above limit once it must be.
func distance(a, b string, limit int) int {
	if d := len(a) - len(b); d > limit || -d > limit {
		return limit + 1
	}
	// Three rows suffice: the one being filled, the one above, and for swaps the one above that.
	two, one, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range one {
		one[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(one[j]+1, row[j-1]+1, one[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], two[j-2]+1)
			}
		}
		two, one, row = one, row, two
	}
	return one[len(b)]
}

// alike is how many letters two words begin with in common, if that says anything.
func alike(a, b string) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	if n < 3 {
		return 0
	}
	return n
}

// maxListed bounds how many names a hint lists.
const maxListed = 12

// hint names the nearest of names, or lists them under what, as `keys: a, b, … 17 in all`.
func hint(word string, names []string, what string) string {
	if near := Nearest(word, names); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	if len(names) == 0 {
		return "there are none"
	}
	names = slices.Sorted(slices.Values(names))
	slices.SortStableFunc(names, func(a, b string) int { return alike(word, b) - alike(word, a) })
	if len(names) > maxListed {
		return fmt.Sprintf("%s: %s, … %d in all", what, strings.Join(names[:3], ", "), len(names))
	}
	return what + ": " + strings.Join(names, ", ")
}
