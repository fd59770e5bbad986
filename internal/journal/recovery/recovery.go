// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package recovery finds out what a journal's directory holds after anything has happened to it, and brings it in order.
package recovery

import (
	"errors"
	"path"

	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// Plan is what is there and what Apply will do about it.
type Plan struct {
	Journal      [16]byte // zero: a new journal
	Tag          uint8
	Segments     []Segment // in order; readable ones
	Cursors      []Cursor
	Seq          queue.Seq // last number given out
	Items        uint64    // accepted up to it
	LastID       uint64    // highest segment id seen
	PrevID       uint64
	PrevLastSeq  queue.Seq
	PrevDurable  segment.Offset
	ScannedBytes int64
}

// Segment is one readable segment; Last is the highest number that counts in it.
type Segment struct {
	Header segment.Header
	Path   string
	Class  segment.Class
	Sum    segment.Summary
	Last   queue.Seq
}

// Cursor is one destination's place, with the slot as it will be after Apply.
type Cursor struct {
	Path   string
	Slot   cursor.Slot
	Lost   bool
	Queued Queued
}

// Queued is what a cursor is owed and has not resolved.
type Queued struct{ Records, Items, Bytes uint64 }

// ApplySettings bound what Apply does.
type ApplySettings struct {
	BadBytes int64 // of bad/
	KeepAll  bool  // nothing is owed to anybody and stays all the same: dead letters
}

var errNotYet = errors.New("recovering a journal that holds data is not in this build")

// Inspect reads a journal's directory.
func Inspect(disk vfs.FS, dir string, _ []string) (*Plan, error) {
	for _, part := range []string{layout.Segments, layout.Cursors} {
		if entries, err := disk.ReadDir(path.Join(dir, part)); err == nil && len(entries) > 0 {
			return nil, errNotYet
		}
	}
	return &Plan{}, nil
}

// Apply brings the directory in order.
func (p *Plan) Apply(vfs.FS, ApplySettings) error { return nil }

// Quarantine copies damaged bytes of a segment to bad/.
func Quarantine(vfs.FS, string, string, segment.Gap, ApplySettings) error { return errNotYet }
