// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package queuelog

import (
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/journal"
)

// A directory is worth a word at 80 percent of its cap, and worth another after it has been below 70.
const (
	highShare = 0.8
	lowShare  = 0.7
)

// Rooms says when directories of journals fill. It is used by one goroutine.
type Rooms struct {
	log  *zap.Logger
	high map[string]bool // by directory
}

// NewRooms writes to log.
func NewRooms(log *zap.Logger) *Rooms { return &Rooms{log: log, high: map[string]bool{}} }

// Look looks at one directory, under the name of its storage.
func (r *Rooms) Look(storage string, shot *journal.StoreSnapshot) {
	used := int64(0)
	for _, n := range shot.DiskBytes {
		used += n
	}
	if shot.Limit <= 0 {
		return
	}
	switch share := float64(used) / float64(shot.Limit); {
	case share < lowShare:
		r.high[shot.Directory] = false
	case share >= highShare && !r.high[shot.Directory]:
		r.high[shot.Directory] = true
		fields := []zap.Field{zap.String("storage", storage), zap.Int64("bytes", used), zap.Int64("capacity", shot.Limit)}
		if shot.UntilFull > 0 {
			fields = append(fields, zap.Duration("full_in", shot.UntilFull.Round(time.Second)))
		}
		r.log.Warn("Queue: 80 percent full", fields...)
	}
}
