// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/journal/space"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/queue/window"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// storageDescription is what there is to say of a storage beyond its plan, as a start would have it.
type storageDescription struct {
	MinFreeBytes, JournalBytes int64 // 0 = by the volume, none
	Overflow                   string
	ParkedHold                 time.Duration
	GivesWay                   []string // what is given up before new data is refused, in order
	CacheBytes                 int64
	JournalMemoryBytes         int64 // at most, of all journals: waiting, unsynced and ahead of the deliveries
}

// journalMemoryBytes is what one journal holds that waits for the disk: 32 MiB before the write, 32 MiB before the sync
// (journal, section 2).
const journalMemoryBytes = 64 << 20

// describeStorage describes one storage of a plan.
func describeStorage(cfg *config.Config, p *plan.Plan, s *plan.Storage) storageDescription {
	var merged *journal.Config
	for _, id := range s.IDs {
		if c := cfg.Components[config.Extensions][id]; c != nil {
			if one, ok := c.Config.(*journal.Config); ok && merged == nil {
				merged = one
			} else if ok {
				both := journal.Merge(*merged, *one)
				merged = &both
			}
		}
	}
	if merged == nil {
		return storageDescription{}
	}
	d := storageDescription{
		MinFreeBytes: merged.MinFreeMiB << 20, JournalBytes: merged.MaxSize, Overflow: merged.Overflow,
		ParkedHold: merged.ParkedHold, CacheBytes: merged.TailCacheMiB << 20,
	}
	var first []string
	for i := range p.Pipelines {
		pl := &p.Pipelines[i]
		if pl.Directory != s.Directory || pl.Storage == "" {
			continue
		}
		d.JournalMemoryBytes += journalMemoryBytes
		for j := range pl.Destinations {
			if !pl.Destinations[j].Wait {
				d.JournalMemoryBytes += window.MaxBytes
			}
		}
		for _, label := range pl.GivesWay() {
			first = append(first, label+" in "+pl.ID)
		}
	}
	d.GivesWay = append(d.GivesWay, fmt.Sprintf("what waits for destinations that left more than %s ago", hours(merged.ParkedHold)))
	if len(first) > 0 {
		d.GivesWay = append(d.GivesWay, "the oldest of "+strings.Join(first, ", ")+" (no storage of their own)")
	}
	d.GivesWay = append(d.GivesWay, "the oldest dead letters")
	if merged.Overflow != "refuse" {
		d.GivesWay = append(d.GivesWay, "the oldest of all (overflow: "+merged.Overflow+")")
	}
	return d
}

// hours is a long duration without what is zero.
func hours(d time.Duration) string {
	return strings.TrimSuffix(strings.TrimSuffix(d.String(), "0s"), "0m")
}

// spare says that a storage keeps more of its volume free than there is, so that nothing could be stored; nil = it does
// not, or is no storage.
func spare(c *config.Component) error {
	set, ok := c.Config.(*journal.Config)
	if !ok || set.MinFreeMiB == 0 {
		return nil
	}
	for at := filepath.Clean(set.Directory); ; at = filepath.Dir(at) {
		u, err := vfs.OS().Usage(at)
		switch {
		case err == nil && set.MinFreeMiB >= u.Total>>20:
			return fmt.Errorf("min_free_mib is %d, and the volume of %s has %d MiB", set.MinFreeMiB, set.Directory, u.Total>>20)
		case err == nil || at == filepath.Dir(at):
			return nil
		}
	}
}

// surroundings are warnings about the place a directory is in, or would be made in: what is stored in memory, goes with a
// container, lies on a network. Nothing is created or locked.
func surroundings(directory string) ([]string, error) { return space.Surroundings(vfs.OS(), directory) }
