// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package reload

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// defaultPlace is the state directory nobody has to name.
const defaultPlace = "/var/lib/holdfast"

// besides is where a state directory is made in a storage's directory. Underscore and dot keep it apart from journals.
const besides = ".holdfast"

// usualStorages are where the state directory is sought when a refused configuration cannot name its storage.
var usualStorages = []string{"/var/lib/otel/queue", "/var/lib/otelcol/file_storage", "/var/lib/otelcol"}

// Place is one directory that may be the state directory.
type Place struct {
	Dir string
	// Found says that nobody named it: it is used if it is there, and not made.
	Found bool
}

// Places lists where the state directory may be, best first: the flag, $HOLDFAST_STATE_DIR, $STATE_DIRECTORY (systemd
// sets it; of several the first), /var/lib/holdfast, and below the first storage in use. storages = nil says that the
// configuration could not be read.
func Places(flag string, env func(string) string, storages []string) []Place {
	var all []Place
	add := func(dir string) {
		if dir != "" {
			all = append(all, Place{Dir: dir})
		}
	}
	add(flag)
	add(env("HOLDFAST_STATE_DIR"))
	systemd, _, _ := strings.Cut(env("STATE_DIRECTORY"), ":")
	add(systemd)
	add(defaultPlace)
	if len(storages) > 0 {
		add(path.Join(storages[0], besides))
	}
	for i := 0; storages == nil && i < len(usualStorages); i++ {
		all = append(all, Place{Dir: path.Join(usualStorages[i], besides), Found: true})
	}
	return all
}

// FindStore opens the store in the first place that is usable. The error names every place with its trouble.
func FindStore(ctx context.Context, disk vfs.FS, places []Place, uris []string) (*Store, error) {
	var errs []error
	for _, place := range places {
		if place.Found {
			if _, err := disk.Stat(place.Dir); err != nil {
				continue
			}
		}
		s, err := OpenStore(ctx, disk, place.Dir, uris)
		if err == nil {
			for _, err := range errs {
				s.notes = append(s.notes, err.Error())
			}
			return s, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("no state directory can be used: %w", errors.Join(errs...))
}
