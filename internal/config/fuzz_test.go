// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/config"
)

// FuzzLoad: no bytes make the loader panic or hang, and what is wrong is said with a place.
func FuzzLoad(f *testing.F) {
	for _, pattern := range []string{"testdata/*.yaml", "../../test/compat/seeds/*.yaml"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, p := range paths {
			text, err := os.ReadFile(p)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text, false)
			f.Add(text, true)
		}
	}
	reg := registry()
	f.Fuzz(func(t *testing.T, text []byte, fragment bool) {
		if len(text) > 64<<10 {
			return // larger ones are slower, not different
		}
		c, err := config.Load(context.Background(), config.Options{
			URIs: []string{"-"}, Stdin: bytes.NewReader(text), Registry: reg, Fragment: fragment,
		})
		var invalid *config.InvalidError
		switch {
		case err == nil:
			if _, err := config.MarshalYAML(c.Redact(c.Effective)); err != nil {
				t.Errorf("print: %v", err)
			}
			for _, x := range c.Findings {
				if x.Severity == config.Error {
					t.Errorf("valid with an error: %s", x)
				}
			}
		case !errors.As(err, &invalid):
			t.Errorf("not a finding: %v", err)
		case invalid.Error() == "" || invalid.Partial == nil:
			t.Errorf("invalid without an error: %+v", invalid)
		}
	})
}
