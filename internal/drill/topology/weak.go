// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"fmt"
	"strings"
)

// smallDisk is below what an hour of an ordinary load needs, in bytes.
const smallDisk = 1 << 30

// weaknesses says what the plan alone shows: what would be lost, and when.
func (t *Topology) weaknesses() {
	for _, p := range t.Pipelines {
		for _, d := range p.Destinations {
			switch {
			case !d.Queued:
				t.weak("%s → %s: has no queue; while nothing takes the data, clients are told to come back, and what they do not "+
					"send again is lost", p.ID, d.Label)
			case !p.Durable:
				t.weak("%s → %s: the queue is in memory; kill -9 costs %s", p.ID, d.Label, p.Kill)
			}
			if d.Connector && !d.Emergency {
				t.weak("%s → %s: no emergency level; with all levels down data waits in the queue, and once that is full new data is "+
					"refused: clients that give up then lose it", p.ID, d.Label)
			}
			if len(d.Levels) == 1 && d.Queued && !d.Connector {
				t.weak("%s → %s: one backend and no other; an outage longer than the queue lasts makes the door refuse", p.ID, d.Label)
			}
		}
	}
	for _, s := range t.plan.Storages {
		if s.MaxBytes > 0 && s.MaxBytes < smallDisk {
			t.weak("storage %s: %s at most for %s; at 1 MiB/s that is full %d s after the last backend went away, and then new data "+
				"is refused", strings.Join(s.IDs, ", "), mebibytes(s.MaxBytes), strings.Join(s.Heads, ", "), s.MaxBytes>>20)
		}
		if !s.Synced {
			t.weak("storage %s: answers come before the sync; a power cut costs what was answered in the last moments",
				strings.Join(s.IDs, ", "))
		}
	}
}

func (t *Topology) weak(format string, args ...any) {
	t.Weak = append(t.Weak, fmt.Sprintf(format, args...))
}

func mebibytes(n int64) string {
	if n < 1<<20 {
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d MiB", n>>20)
}
