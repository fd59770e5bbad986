// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package file is the last resort on disk: it appends requests to a file that other tools can read.
//
// It stands where a backend would, often as the last level. A file holds one request per line (JSON) or
// length-prefixed requests (protobuf, or anything compressed), as the Collector's own file exporter writes them:
//
//	json           {"resourceSpans":[…]}\n
//	proto          length u32 big-endian | request
//	zstd, either   length u32 big-endian | zstd frame of the JSON or the request
//
// It promises that a file consists of whole records: a failed write is cut back, so that a full disk costs nothing but
// time. What exists is never truncated or deleted, except rotated files of its own that the configuration bounds. It
// answers after the write, or after fdatasync where a journal waits for it. As a connector's last level it answers after
// data and receipt are synced; the file then belongs to package vault. It knows no backend and no queue.
package file

import (
	"context"
	"fmt"

	"go.opentelemetry.io/collector/component"
	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/file/vault"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

// Factory makes exporters of type file.
func Factory() exporter.Factory {
	return exporter.Factory{
		Type:    "file",
		Signals: otlp.Signals[:],
		Queue:   exporter.QueueImplied,
		Default: func() any { return Default() },
		New: func(set exporter.Settings, cfg any) (exporter.Exporter, error) {
			c, ok := cfg.(*Config)
			if !ok {
				return nil, fmt.Errorf("file: configuration is a %T", cfg)
			}
			return New(set, c)
		},
	}
}

// Exporter appends to one file. One goroutine writes; Sends of several pipelines meet there.
type Exporter struct {
	cfg     Config
	log     *zap.Logger
	encode  *encoder
	disk    disk
	jobs    chan *job // unbuffered: what is not being written waits in its Send
	stopped chan struct{}
	started bool
	vault   *vault.Vault // set where the exporter is an emergency level's
}

// job is one request's records on their way to the writer.
type job struct {
	data []byte
	done chan error // room for one: the writer never waits for a Send
}

// New makes an exporter; the file is opened by Start.
func New(set exporter.Settings, cfg *Config) (*Exporter, error) { return newOn(set, cfg, osDisk{}) }

func newOn(set exporter.Settings, cfg *Config, d disk) (*Exporter, error) {
	enc, err := newEncoder(cfg)
	if err != nil {
		return nil, err
	}
	return &Exporter{
		cfg: *cfg, log: set.Telemetry.Logger, encode: enc, disk: d,
		jobs: make(chan *job), stopped: make(chan struct{}),
	}, nil
}

// Start makes the directory, opens the file and starts the writer.
func (e *Exporter) Start(context.Context, component.Host) error {
	if e.vault != nil {
		return nil // open already
	}
	w, err := openWriter(&e.cfg, e.disk, e.log)
	if err != nil {
		return err
	}
	e.started = true
	go func() {
		defer close(e.stopped)
		w.run(e.jobs)
	}()
	return nil
}

// Send implements exporter.Exporter.
func (e *Exporter) Send(ctx context.Context, r *exporter.Request) exporter.Verdict {
	data, err := e.encode.records(r)
	if err != nil {
		return exporter.Verdict{Kind: exporter.Rejected, Err: err}
	}
	if len(data) == 0 {
		return exporter.Deliver()
	}
	if e.vault != nil {
		return e.keep(ctx, r, data)
	}
	j := &job{data: data, done: make(chan error, 1)}
	select {
	case e.jobs <- j:
	case <-ctx.Done():
		return exporter.Verdict{Kind: exporter.Retry, Err: fmt.Errorf("write %q: %w", e.cfg.Path, context.Cause(ctx))}
	}
	select {
	case err = <-j.done:
	case <-ctx.Done():
		// The disk stalls in the middle of it: one day the records are in the file, or they are not.
		return exporter.Verdict{Kind: exporter.Ambiguous, Err: fmt.Errorf("write %q: %w", e.cfg.Path, context.Cause(ctx))}
	}
	if err != nil {
		return exporter.Verdict{Kind: exporter.Retry, Err: err}
	}
	return exporter.Deliver()
}

// Stop ends the writer, which syncs and closes the file.
func (e *Exporter) Stop(ctx context.Context) error {
	if !e.started {
		return nil
	}
	e.started = false
	close(e.jobs)
	select {
	case <-e.stopped:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close %q: %w", e.cfg.Path, context.Cause(ctx))
	}
}

var _ exporter.Exporter = (*Exporter)(nil)
