// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package statefile keeps what is down over a restart: a process that starts in an outage asks first and sends then
// (failover, section 5.3).
//
// It stands beside the path, between the switch, which tells it of every change, and the state directory. A file is
// replaced whole or not at all. Losing it costs some failed batches, so nothing waits for it and no error ends anything:
// what cannot be read is as if nothing had been down. It knows no level and no route, only what it is told.
package statefile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

const (
	fileName = "failover.json"
	every    = time.Second // at most one write in it
	maxBytes = 4 << 20
	version  = 1
)

// content is what the file holds.
type content struct {
	Version int                   `json:"version"`
	Down    []failover.Remembered `json:"down"`
}

// File writes down what is down. Tell may be called from any goroutine and does not wait for the disk.
type File struct {
	disk  vfs.FS
	name  string
	older string // where it was kept before; empty = nowhere else
	log   *zap.Logger

	wake chan struct{} // of one place
	stop chan struct{}
	done chan struct{}
	mu   sync.Mutex
	list []failover.Remembered // guarded by mu

	failed bool // the last write did; the writer's own
}

// New keeps in the first of some directories, which is there; nil without one. What the second has is read while the first
// has nothing. Nothing is opened yet.
func New(disk vfs.FS, dirs []string, log *zap.Logger) *File {
	if len(dirs) == 0 {
		return nil
	}
	f := &File{
		disk: disk, name: filepath.Join(dirs[0], fileName), log: log,
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	if len(dirs) > 1 {
		f.older = filepath.Join(dirs[1], fileName)
	}
	return f
}

// Recall is what was kept. What cannot be read is as if nothing had been down; the log says so. A nil File has nothing.
func (f *File) Recall() []failover.Remembered {
	if f == nil {
		return nil
	}
	var to content
	text, err := f.read(f.name)
	if errors.Is(err, fs.ErrNotExist) && f.older != "" {
		text, err = f.read(f.older)
	}
	if err == nil {
		if err = json.Unmarshal(text, &to); err == nil && to.Version != version {
			err = fmt.Errorf("version %d is not known", to.Version)
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		f.log.Warn("What was down before the start is not known", zap.String("file", f.name), zap.Error(err))
		return nil
	}
	return to.Down
}

func (f *File) read(name string) ([]byte, error) {
	from, err := f.disk.OpenFile(name, vfs.Read, 0)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.NewSectionReader(from, 0, maxBytes))
	return text, errors.Join(err, from.Close())
}

// Tell keeps a list in place of the one before, soon. The list is the File's from then on.
func (f *File) Tell(list []failover.Remembered) {
	f.mu.Lock()
	f.list = list
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Start begins to write what is told. Whoever starts stops.
func (f *File) Start() { go f.run() }

// run writes until Stop.
func (f *File) run() {
	defer close(f.done)
	pace := time.NewTimer(0)
	defer pace.Stop()
	for {
		select {
		case <-pace.C:
		case <-f.stop:
			f.save()
			return
		}
		select {
		case <-f.wake:
		case <-f.stop:
			f.save()
			return
		}
		f.save()
		pace.Reset(every)
	}
}

// Stop writes what was told last and waits for that as long as ctx allows. It is called once, after Start.
func (f *File) Stop(ctx context.Context) error {
	close(f.stop)
	select {
	case <-f.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("write %s: %w", f.name, ctx.Err())
	}
}

func (f *File) save() {
	f.mu.Lock()
	list := f.list
	f.mu.Unlock()
	err := f.write(list)
	if err != nil && !f.failed {
		f.log.Warn("What is down cannot be written down for the next start", zap.String("file", f.name), zap.Error(err))
	}
	f.failed = err != nil
}

// write replaces the file, whole or not at all.
func (f *File) write(list []failover.Remembered) error {
	if _, err := f.disk.Stat(f.name); len(list) == 0 && errors.Is(err, fs.ErrNotExist) {
		return nil // nothing was ever down
	}
	text, err := json.Marshal(content{version, append([]failover.Remembered{}, list...)})
	if err != nil {
		return err
	}
	temp := f.name + ".tmp"
	if err := f.disk.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	to, err := f.disk.OpenFile(temp, vfs.Create, 0o600)
	if err != nil {
		return err
	}
	_, err = to.WriteVAt([][]byte{text, {'\n'}}, 0)
	if err == nil {
		err = to.Datasync()
	}
	if err := errors.Join(err, to.Close()); err != nil {
		return err
	}
	if err := f.disk.Rename(temp, f.name); err != nil {
		return err
	}
	return f.disk.SyncDir(filepath.Dir(f.name))
}
