// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package space

import (
	"errors"
	"io/fs"
	"path"

	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

const (
	// maxForeignDir is the size of a directory that is not ours and not listed: it has more names than maxForeign.
	maxForeignDir = 16 << 20
	// maxForeign is how many names that are not ours one recount looks at: a home directory given as a storage's must
	// not keep the disk busy.
	maxForeign = 1 << 16
)

// walker sums what is allocated under names. It does not follow links and does not leave the volume. What it cannot
// read counts with what its own name takes.
type walker struct {
	disk   vfs.FS
	device uint64
	left   int // names it may still look at; negative: any number
	sum    int64
	failed error // the first that kept it from reading
	cut    bool  // left ran out
}

var errManyForeign = errors.New("too many files")

func (w *walker) err() error {
	if w.cut {
		return errManyForeign
	}
	return nil
}

// add walks what is at name. Files that go while it walks are gone.
func (w *walker) add(name string, kind fs.FileMode) {
	type item struct {
		name string
		kind fs.FileMode
	}
	for todo := []item{{name, kind}}; len(todo) > 0; {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if w.left == 0 {
			w.cut = true
			return
		}
		w.left--
		info, err := w.disk.Stat(at.name)
		if err == nil && info.Device == w.device {
			w.sum += info.Allocated
		}
		if err != nil || !at.kind.IsDir() || info.Device != w.device {
			w.fail(err)
			continue
		}
		if w.left >= 0 && info.Size > maxForeignDir {
			w.cut = true
			continue
		}
		entries, err := w.disk.ReadDir(at.name)
		w.fail(err)
		for _, e := range entries {
			todo = append(todo, item{path.Join(at.name, e.Name), e.Type})
		}
	}
}

func (w *walker) fail(err error) {
	if err = ignoreGone(err); err != nil && w.failed == nil {
		w.failed = err
	}
}

func ignoreGone(err error) error {
	if isGone(err) {
		return nil
	}
	return err
}
