// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

// probeBytes are enough for a disk to notice that it is full.
const probeBytes = 4096

// ProbeKind implements exporter.Prober.
func (e *Exporter) ProbeKind() exporter.ProbeKind { return exporter.ProbeWrite }

// Probe implements exporter.Prober: it writes, syncs and removes a small file beside the data. It leaves the file
// behind if the process ends in between; the next probe removes it.
func (e *Exporter) Probe(ctx context.Context, _ otlp.Signal) exporter.Verdict {
	if e.vault != nil {
		if err := e.vault.Probe(ctx); err != nil {
			return exporter.Verdict{Kind: exporter.Retry, Err: err}
		}
		return exporter.Deliver()
	}
	if strings.HasPrefix(filepath.Clean(e.cfg.Path), "/dev/") {
		return exporter.Deliver()
	}
	path := e.cfg.Path + ".probe"
	if err := tryWrite(e.disk, path); err != nil {
		return exporter.Verdict{Kind: exporter.Retry, Err: fmt.Errorf("write %q: %w", path, err)}
	}
	return exporter.Deliver()
}

func tryWrite(d disk, path string) error {
	f, err := d.Open(path)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, probeBytes))
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close(), d.Remove(path))
}

var _ exporter.Prober = (*Exporter)(nil)
