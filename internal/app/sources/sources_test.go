// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package sources_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/app/sources"
)

// A file that was changed a moment ago may be in the middle of it, whatever time it says it is from; what is no file and
// cannot change is still; what cannot be known is not.
func TestSourcesAreStillWhenNobodyWrote(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte("a: b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	link := path + ".link"
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		uri  string
		d    time.Duration
		want bool
	}{
		{path, time.Hour / 2, false}, {path, 0, true}, {"file:" + path, 0, true}, {link, 0, true}, {link, time.Minute, false},
		{path + ".none", 0, false}, {filepath.Dir(path), 0, false}, {"/dev/null", 0, false}, {"-", 0, false},
		{"yaml:a: b", time.Hour, true}, {"env:HOME", time.Hour, true}, {"http://localhost/c.yaml", 0, false},
	} {
		if got := (&sources.Set{URIs: []string{"yaml:a: b", c.uri}}).Still(c.d); got != c.want {
			t.Errorf("%s for %s: %v", c.uri, c.d, got)
		}
	}
}
