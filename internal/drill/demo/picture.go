// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-telemetry/holdfast/internal/drill/words"
	"github.com/holdfast-telemetry/holdfast/internal/status"
)

const (
	barWidth = 20
	indent   = "                "
)

// states are the states of a level, worst first; one that is not known is the worst.
var states = []string{"held", "down", "probing", "ramping", "suspect", "healthy"}

// picture draws where data goes and where it is: a row for each level and one for the queue, with bars that are shares of
// everything acknowledged so far.
func (n *snapshot) picture() string {
	var b strings.Builder
	holds := []uint64{n.primary, n.secondary, n.books().Parked}
	for level, name := range levelNames {
		state, note, active := n.level(level)
		mark := "  "
		if active {
			mark = "=>"
		}
		row(&b, fmt.Sprintf("%s %-14s %-8s", mark, name, state), n.bar(holds[level]), holds[level], note)
	}
	note := ""
	if n.status != nil {
		oldest := 0.0
		for i := range n.status.Failover {
			oldest = max(oldest, n.status.Failover[i].Queue.OldestSeconds)
		}
		if oldest > 0 {
			note = fmt.Sprintf("oldest %.1f s", oldest)
		}
	}
	queued := n.books().Queued
	row(&b, fmt.Sprintf("   %-14s %-8s", "queue", ""), n.bar(queued), queued, note)
	return b.String()
}

func row(b *strings.Builder, head, bar string, items uint64, note string) {
	b.WriteString(strings.TrimRight(fmt.Sprintf("%s%s  %s %11s  %s", indent, head, bar, words.Count(items), note), " ") + "\n")
}

// bar is a share of what was acknowledged; what is not nothing is seen.
func (n *snapshot) bar(items uint64) string {
	full := 0
	if n.acked > 0 && items > 0 {
		full = min(max(int(items*barWidth/n.acked), 1), barWidth)
	}
	return strings.Repeat("#", full) + strings.Repeat(".", barWidth-full)
}

// level sums a level up over all signals: its worst state and what it waits for, and whether any data goes there.
func (n *snapshot) level(level int) (state, note string, active bool) {
	if n.status == nil {
		return "?", "", false
	}
	var worst *status.Member
	rank := len(states)
	for i := range n.status.Failover {
		r := &n.status.Failover[i]
		active = active || r.ActiveLevel == level
		if level >= len(r.Levels) {
			continue
		}
		for k := range r.Levels[level].Members {
			m := &r.Levels[level].Members[k]
			if at := slices.Index(states, m.State); worst == nil || at < rank {
				worst, rank = m, at
			}
		}
	}
	if worst == nil {
		return "?", "", active
	}
	if worst.ReturnsWhen != "" {
		note = "returns with " + worst.ReturnsWhen
	}
	return worst.State, note, active
}
