// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package drill

import (
	"os"
	"path/filepath"
	"testing"
)

func TestOnlyDirectoriesOfDrillsThatAreGoneAreRemoved(t *testing.T) {
	below := t.TempDir()
	mine, err := ownDir(below)
	if err != nil {
		t.Fatal(err)
	}
	stay := []string{mine, filepath.Join(below, "holdfast-drill-notes"), filepath.Join(below, "other")}
	gone := []string{filepath.Join(below, "holdfast-drill-1-7-abc"), filepath.Join(below, "holdfast-drill-999999999-7-abc")}
	for _, d := range append(stay[1:], gone...) {
		if err := os.MkdirAll(filepath.Join(d, "queue"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	sweep(below)
	for _, d := range stay {
		if _, err := os.Stat(d); err != nil {
			t.Errorf("removed: %v", err)
		}
	}
	for _, d := range gone {
		if _, err := os.Stat(d); err == nil {
			t.Errorf("%s is still there", d)
		}
	}
}
