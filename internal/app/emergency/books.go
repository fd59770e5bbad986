// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package emergency

import (
	"sync"

	"github.com/holdfast-telemetry/holdfast/internal/exporter/file/vault"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// ReasonRemoved is why items are dropped whose emergency file somebody removed.
const ReasonRemoved = "emergency_file_removed"

// Books are a destination's books with what lies in the emergency file: the queue let go of it as of what was
// delivered, but it is owed (failover, section 12).
type Books struct {
	read  func() queue.Counts
	debts *Debts
	// base is what lies there from before the queue's books begin: a queue in memory begins with the process.
	base uint64
	mu   struct {
		sync.Mutex
		most uint64 // delivered, at most so far
	}
}

// NewBooks begins with the books that read yields; both may be read from any goroutine.
func NewBooks(read func() queue.Counts, d *Debts) *Books {
	b := &Books{read: read, debts: d}
	if gone, counts := b.gone(d.Sums()), read(); gone > counts.Delivered {
		b.base = gone - counts.Delivered
	}
	return b
}

// gone is what the queue calls delivered and is not.
func (b *Books) gone(s vault.Sums) uint64 { return uint64(s.Items) + s.Removed + s.Rejected }

// Counts reads the books. What was put into the file a moment ago and is not resolved yet is queued, and not parked
// before it is; delivered is shown as it was until then, so that no counter goes back.
func (b *Books) Counts() queue.Counts {
	sums := b.debts.Sums()
	c := b.read()
	c.Accepted += b.base
	c.Parked += uint64(sums.Items)
	c.Rejected += sums.Rejected
	dropped := map[string]uint64{ReasonRemoved: sums.Removed}
	for reason, n := range c.Dropped {
		dropped[reason] += n
	}
	c.Dropped = dropped
	delivered := c.Delivered + b.base
	delivered -= min(b.gone(sums), delivered)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.most = max(b.mu.most, delivered)
	unresolved := b.mu.most + b.gone(sums) - min(c.Delivered+b.base, b.mu.most+b.gone(sums))
	c.Parked -= min(unresolved, uint64(sums.Items))
	c.Delivered = b.mu.most
	return c
}
