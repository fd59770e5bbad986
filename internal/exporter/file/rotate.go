// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// stampLayout is the time in the name of a rotated file: name-2026-11-20T10-15-00.000-size.ext. It sorts by time.
const stampLayout = "2006-01-02T15-04-05.000"

// Why a file was renamed: the last word of its new name.
const (
	becauseSize    = "size"    // it had its size
	becauseStart   = "start"   // append: false, or too many records to look through
	becauseDamaged = "damaged" // it ends in something that is no record of the configured format, or would not sync
)

var reasons = []string{becauseSize, becauseStart, becauseDamaged}

// names makes and recognises the names of one file's rotations.
type names struct {
	path, dir   string
	prefix, ext string
	local       bool
}

func newNames(path string, local bool) names {
	dir, base := filepath.Split(path)
	ext := filepath.Ext(base)
	return names{path: path, dir: filepath.Clean(dir), prefix: strings.TrimSuffix(base, ext) + "-", ext: ext, local: local}
}

// isFile reports whether the path can be a regular file: devices have directories of their own.
func (n names) isFile() bool { return !strings.HasPrefix(n.path, "/dev/") }

func (n names) zone(t time.Time) time.Time {
	if n.local {
		return t.Local()
	}
	return t.UTC()
}

// free returns a name for the present file that is not taken, later than now if need be.
func (n names) free(d disk, now time.Time, reason string) (string, error) {
	for range 1000 {
		path := filepath.Join(n.dir, n.prefix+n.zone(now).Format(stampLayout)+"-"+reason+n.ext)
		_, err := d.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			return path, nil
		}
		if err != nil {
			return "", err
		}
		now = now.Add(time.Millisecond)
	}
	return "", fmt.Errorf("no free name beside %q", n.path)
}

// parse reads the time of a rotated file's name; false if the name is not one of ours.
func (n names) parse(base string) (time.Time, bool) {
	rest, ok := strings.CutPrefix(base, n.prefix)
	if !ok {
		return time.Time{}, false
	}
	if rest, ok = strings.CutSuffix(rest, n.ext); !ok || len(rest) <= len(stampLayout)+1 {
		return time.Time{}, false
	}
	stamp, reason := rest[:len(stampLayout)], rest[len(stampLayout):]
	if reason[0] != '-' || !slices.Contains(reasons, reason[1:]) {
		return time.Time{}, false
	}
	zone := time.UTC
	if n.local {
		zone = time.Local
	}
	t, err := time.ParseInLocation(stampLayout, stamp, zone)
	return t, err == nil
}

// clean deletes rotated files beyond the configured number or age, the oldest first. Files with other names are not
// ours and stay, and so do damaged ones: nobody has read them yet.
func (n names) clean(d disk, r *Rotation, now time.Time) error {
	if r.MaxBackups == 0 && r.MaxDays == 0 {
		return nil
	}
	entries, err := d.ReadDir(n.dir)
	if err != nil {
		return fmt.Errorf("list rotated files: %w", err)
	}
	type backup struct {
		name string
		at   time.Time
	}
	var old []backup
	for _, e := range entries {
		at, ok := n.parse(e.Name())
		if ok && e.Type().IsRegular() && !strings.HasSuffix(e.Name(), "-"+becauseDamaged+n.ext) {
			old = append(old, backup{e.Name(), at})
		}
	}
	slices.SortFunc(old, func(a, b backup) int {
		return b.at.Compare(a.at) // newest first
	})
	var errs []error
	for i, b := range old {
		tooMany := r.MaxBackups > 0 && i >= r.MaxBackups
		tooOld := r.MaxDays > 0 && now.Sub(b.at) > time.Duration(r.MaxDays)*24*time.Hour
		if !tooMany && !tooOld {
			continue
		}
		if err := d.Remove(filepath.Join(n.dir, b.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("delete rotated file: %w", err))
		}
	}
	return errors.Join(errs...)
}
