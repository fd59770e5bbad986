// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package queues

import (
	"strings"
	"testing"
)

func TestReplayTakesTheOldestFileFirst(t *testing.T) {
	got := oldestFirst([]string{"out.jsonl", "out-2026-11-20T10-15-00.000-size.jsonl", "d/out-2026-11-19T10-15-00.000-start.jsonl"})
	want := "d/out-2026-11-19T10-15-00.000-start.jsonl out-2026-11-20T10-15-00.000-size.jsonl out.jsonl"
	if strings.Join(got, " ") != want {
		t.Errorf("order %q", got)
	}
}
