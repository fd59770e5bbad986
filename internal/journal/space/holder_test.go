// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package space_test

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/journal/space"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

func TestWhoHoldsADirectoryIsToldWithoutTouchingIt(t *testing.T) {
	dir := t.TempDir()
	if held, err := space.Holder(vfs.OS(), dir); held != nil || err != nil {
		t.Errorf("nobody was ever here: %v, %v", held, err)
	}
	if _, err := vfs.OS().Stat(filepath.Join(dir, layout.LockFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("asking made a lock file: %v", err)
	}
	s, err := space.Open(context.Background(), space.Settings{Disk: vfs.OS(), Directory: dir, Owner: "pid 7 on host"})
	if err != nil {
		t.Fatal(err)
	}
	held, err := space.Holder(vfs.OS(), dir)
	if err != nil || held == nil || held.Owner != "pid 7 on host" {
		t.Errorf("held: %+v, %v", held, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if held, err := space.Holder(vfs.OS(), dir); held != nil || err != nil {
		t.Errorf("free again: %v, %v", held, err)
	}
}
