// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package series

import (
	"slices"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
)

// Every word under which a journal drops has a series.
func TestEveryReasonOfAJournalHasASeries(t *testing.T) {
	for _, word := range journalReasons {
		if _, ok := cursor.ParseReason(word); !ok {
			t.Errorf("no journal drops under %q", word)
		}
	}
	for r := cursor.Reason(1); r < 16; r++ {
		word := r.String()
		if _, ok := cursor.ParseReason(word); ok && r != cursor.Age && !slices.Contains(journalReasons, word) {
			t.Errorf("a journal drops under %q, which has no series", word)
		}
	}
}
