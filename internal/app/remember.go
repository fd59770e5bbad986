// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app

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
	"github.com/holdfast-telemetry/holdfast/internal/reload"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// rememberedFile is what was down, in the directory that the state directory has for these sources: a process that starts in an outage asks first and sends
// then (failover, section 5.3). Losing it costs some failed batches, so nothing waits for it and no error ends anything.
const rememberedFile = "failover.json"

const (
	rememberEvery   = time.Second // at most one write in it
	maxRemembered   = 4 << 20     // bytes
	rememberedStyle = 1
)

// remembered is the file.
type remembered struct {
	Version int                   `json:"version"`
	Down    []failover.Remembered `json:"down"`
}

// keeper writes down what is down. Tell may be called from any goroutine and does not wait for the disk.
type keeper struct {
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

// memoryDirs are where what was down is kept, and where it was before: several processes may share a state directory, each
// with sources of its own. The store of configurations makes the directory; without a store there is only the older place.
func (a *App) memoryDirs(disk vfs.FS) []string {
	if a.stateDir == "" {
		return nil
	}
	dirs := []string{a.stateDir}
	if s := a.opts.Sources; s != nil {
		own := reload.DirOf(a.stateDir, s.URIs)
		if info, err := disk.Stat(own); err == nil && info.Mode.IsDir() {
			dirs = []string{own, a.stateDir}
		}
	}
	return dirs
}

// newKeeper keeps in the first of some directories; nil without one. What the second has is read while the first has
// nothing.
func newKeeper(disk vfs.FS, dirs []string, log *zap.Logger) *keeper {
	if len(dirs) == 0 {
		return nil
	}
	k := &keeper{
		disk: disk, name: filepath.Join(dirs[0], rememberedFile), log: log,
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	if len(dirs) > 1 {
		k.older = filepath.Join(dirs[1], rememberedFile)
	}
	return k
}

// recall is what was kept. What cannot be read is as if nothing had been down; the log says so.
func (k *keeper) recall() []failover.Remembered {
	if k == nil {
		return nil
	}
	var to remembered
	text, err := k.read(k.name)
	if errors.Is(err, fs.ErrNotExist) && k.older != "" {
		text, err = k.read(k.older)
	}
	if err == nil {
		if err = json.Unmarshal(text, &to); err == nil && to.Version != rememberedStyle {
			err = fmt.Errorf("version %d is not known", to.Version)
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		k.log.Warn("What was down before the start is not known", zap.String("file", k.name), zap.Error(err))
		return nil
	}
	return to.Down
}

func (k *keeper) read(name string) ([]byte, error) {
	f, err := k.disk.OpenFile(name, vfs.Read, 0)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.NewSectionReader(f, 0, maxRemembered))
	return text, errors.Join(err, f.Close())
}

// tell keeps a list in place of the one before, soon.
func (k *keeper) tell(list []failover.Remembered) {
	k.mu.Lock()
	k.list = list
	k.mu.Unlock()
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// run writes until close.
func (k *keeper) run() {
	defer close(k.done)
	pace := time.NewTimer(0)
	defer pace.Stop()
	for {
		select {
		case <-pace.C:
		case <-k.stop:
			k.save()
			return
		}
		select {
		case <-k.wake:
		case <-k.stop:
			k.save()
			return
		}
		k.save()
		pace.Reset(rememberEvery)
	}
}

// close writes what was told last and ends run.
func (k *keeper) close(ctx context.Context) error {
	close(k.stop)
	select {
	case <-k.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("write %s: %w", k.name, ctx.Err())
	}
}

func (k *keeper) save() {
	k.mu.Lock()
	list := k.list
	k.mu.Unlock()
	err := k.write(list)
	if err != nil && !k.failed {
		k.log.Warn("What is down cannot be written down for the next start", zap.String("file", k.name), zap.Error(err))
	}
	k.failed = err != nil
}

// write replaces the file, whole or not at all.
func (k *keeper) write(list []failover.Remembered) error {
	if _, err := k.disk.Stat(k.name); len(list) == 0 && errors.Is(err, fs.ErrNotExist) {
		return nil // nothing was ever down
	}
	text, err := json.Marshal(remembered{rememberedStyle, append([]failover.Remembered{}, list...)})
	if err != nil {
		return err
	}
	temp := k.name + ".tmp"
	if err := k.disk.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := k.disk.OpenFile(temp, vfs.Create, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteVAt([][]byte{text, {'\n'}}, 0)
	if err == nil {
		err = f.Datasync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := k.disk.Rename(temp, k.name); err != nil {
		return err
	}
	return k.disk.SyncDir(filepath.Dir(k.name))
}
