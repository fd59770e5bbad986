// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package offline

import (
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

var errNoRecord = errors.New("no record can be read of it")

// Quarantined walks over the records that can be read of the files in bad/, whoever they were for: segments of other
// journals, and what recovery did not take for one. Stretches of damaged bytes hold none, and count as missed.
func (j *Journal) Quarantined(visit func(*Record) error) (Missed, error) {
	var missed Missed
	dir := path.Join(j.Path, layout.Bad)
	entries, err := j.disk.ReadDir(dir)
	if err != nil && !gone(err) {
		return missed, fmt.Errorf("list quarantine: %w", err)
	}
	for _, e := range entries {
		if !e.Type.IsRegular() || !strings.Contains(e.Name, layout.SegmentSuffix) {
			continue // notes for people, cursors
		}
		more, err := j.quarantined(path.Join(dir, e.Name), visit)
		missed.Damage = append(missed.Damage, more.Damage...)
		missed.Opaque += more.Opaque
		if errors.Is(err, ErrEnough) {
			return missed, nil
		}
		if err != nil {
			return missed, err
		}
	}
	return missed, nil
}

func (j *Journal) quarantined(name string, visit func(*Record) error) (missed Missed, err error) {
	file, err := j.disk.OpenFile(name, vfs.Read, 0)
	if err != nil {
		return missed, fmt.Errorf("read quarantine: %w", err)
	}
	defer file.Close() //nolint:errcheck // opened for reading: there is nothing to lose
	in, err := segment.Inspect(file, name)
	if err != nil {
		return missed, fmt.Errorf("read quarantine: %w", err)
	}
	switch in.Class {
	case segment.Sealed, segment.Unsealed, segment.Headless:
	default:
		missed.Damage = append(missed.Damage, &segment.CorruptError{Path: name, Gap: segment.Gap{End: segment.Offset(in.Bytes)},
			Cause: errNoRecord})
		return missed, nil
	}
	set := in.Range()
	set.Bodies, set.SkipUnreadable, set.DropBehind = true, true, true
	for r := segment.NewReader(file, set); ; {
		f, err := r.Next()
		var damage *segment.CorruptError
		switch {
		case errors.Is(err, io.EOF):
			return missed, nil
		case errors.As(err, &damage):
			missed.Damage = append(missed.Damage, damage)
		case err != nil:
			return missed, fmt.Errorf("read quarantine: %w", err)
		case !f.Known():
			missed.Opaque++
		default:
			if err := visit(&Record{Frame: f, Path: name}); err != nil {
				return missed, err
			}
		}
	}
}
