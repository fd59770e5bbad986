// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"
)

const (
	// maxGroup is how many requests one sync serves at most.
	maxGroup = 64
	// maxInspected is how many records are walked to find the end of a file; one of more is not continued, for a start
	// must not take minutes.
	maxInspected = 200_000
	// warnEvery is how often one trouble is logged.
	warnEvery = 10 * time.Second
	megabyte  = 1_000_000
)

// errDropped says that a file was closed before its sync.
var errDropped = errors.New("the file was closed before it")

// writer owns the open file. All of it runs in one goroutine.
//
// Invariant between two jobs: the file ends with a whole record at size, or torn bytes behind it wait to be cut.
type writer struct {
	cfg    *Config
	disk   disk
	log    *zap.Logger
	names  names
	file   diskFile // nil = none is open
	plain  bool     // a regular file: it has an end to cut back to, and can be renamed
	size   int64    // bytes of whole records
	torn   int64    // bytes behind them that are no record
	lost   error    // a file was closed with records that wait for a sync which did not succeed
	warned time.Time
}

// openWriter makes the directory and opens the file for appending.
func openWriter(cfg *Config, d disk, log *zap.Logger) (*writer, error) {
	w := &writer{cfg: cfg, disk: d, log: log, names: newNames(cfg.Path, cfg.rotation().LocalTime)}
	if err := w.makeDirectory(); err != nil {
		return nil, err
	}
	if !cfg.Append {
		if info, err := d.Lstat(cfg.Path); err == nil && info.Mode().IsRegular() && info.Size() > 0 {
			if err := w.aside(becauseStart); err != nil {
				return nil, err
			}
		}
	}
	if err := w.open(); err != nil {
		return nil, err
	}
	w.clean()
	return w, nil
}

func (w *writer) makeDirectory() error {
	if !w.cfg.CreateDirectory || !w.names.isFile() {
		return nil
	}
	mode, err := w.cfg.directoryMode()
	if err == nil {
		err = w.disk.MkdirAll(w.names.dir, mode)
	}
	if err != nil {
		return fmt.Errorf("make directory of %q: %w", w.cfg.Path, err)
	}
	return nil
}

func (c *Config) rotation() Rotation {
	if r := c.Rotation.Get(); r != nil {
		return *r
	}
	return Rotation{}
}

// open opens the file at the path and makes sure that it ends with a whole record.
func (w *writer) open() error {
	f, err := w.disk.Open(w.cfg.Path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = w.makeDirectory(); err == nil {
			f, err = w.disk.Open(w.cfg.Path)
		}
	}
	if err != nil {
		return fmt.Errorf("open %q: %w", w.cfg.Path, err)
	}
	info, err := f.Stat()
	if err == nil && w.cfg.Synced && info.Mode().IsRegular() {
		err = w.disk.SyncDir(w.names.dir)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("open %q: %w", w.cfg.Path, err), f.Close())
	}
	w.file, w.plain, w.size, w.torn = f, info.Mode().IsRegular(), info.Size(), 0
	if !w.plain || w.size == 0 {
		return nil
	}
	reason, err := w.inspect()
	if err != nil {
		w.drop()
		return fmt.Errorf("read %q: %w", w.cfg.Path, err)
	}
	if reason == "" {
		return nil
	}
	// Somebody's bytes, or a record that a crash cut short: they are set aside, not deleted.
	w.drop()
	if err := w.aside(reason); err != nil {
		return err
	}
	return w.open()
}

// inspect returns why the file cannot be continued; empty if it holds records of our format up to its end.
func (w *writer) inspect() (reason string, err error) {
	if !w.cfg.framed() {
		var first, last [1]byte
		if _, err := w.file.ReadAt(first[:], 0); err != nil {
			return "", err
		}
		if _, err := w.file.ReadAt(last[:], w.size-1); err != nil {
			return "", err
		}
		if first[0] != '{' || last[0] != '\n' {
			return becauseDamaged, nil
		}
		return "", nil
	}
	var prefix [prefixBytes]byte
	at := int64(0)
	for n := 0; at < w.size; n++ {
		if n == maxInspected {
			return becauseStart, nil
		}
		if w.size-at < prefixBytes {
			return becauseDamaged, nil
		}
		if _, err := w.file.ReadAt(prefix[:], at); err != nil {
			return "", err
		}
		at += prefixBytes + int64(binary.BigEndian.Uint32(prefix[:]))
	}
	if at > w.size {
		return becauseDamaged, nil
	}
	return "", nil
}

// run writes jobs until the channel closes. Where answers wait for a sync, one serves all jobs that are there.
func (w *writer) run(jobs <-chan *job) {
	group := make([]*job, 0, maxGroup)
	for j := range jobs {
		w.lost = nil
		group = group[:0]
		for j != nil {
			err := w.write(j.data)
			if err == nil && w.cfg.Synced {
				group = append(group, j)
			} else {
				j.done <- err
			}
			if j = nil; len(group) > 0 && len(group) < maxGroup {
				select {
				case j = <-jobs: // nil when closed
				default:
				}
			}
		}
		if len(group) > 0 {
			err := w.sync()
			for _, j := range group {
				j.done <- err
			}
		}
	}
	w.close()
}

// write appends whole records, or nothing.
func (w *writer) write(data []byte) error {
	if err := w.ready(int64(len(data))); err != nil {
		return err
	}
	n, err := w.file.Write(data)
	if err == nil && n < len(data) {
		err = io.ErrShortWrite
	}
	if err != nil {
		w.torn = int64(n)
		if cut := w.cut(); cut != nil {
			err = errors.Join(err, cut)
		}
		return fmt.Errorf("write %q: %w", w.cfg.Path, err)
	}
	w.size += int64(n)
	return nil
}

// ready makes the file fit for n more bytes: open, ending with a whole record, not too large, and at its path.
func (w *writer) ready(n int64) error {
	if w.file != nil && w.plain {
		w.look()
	}
	if w.file == nil {
		if err := w.open(); err != nil {
			return err
		}
	}
	if err := w.cut(); err != nil {
		return fmt.Errorf("write %q: %w", w.cfg.Path, err)
	}
	limit := int64(w.cfg.rotation().MaxMegabytes) * megabyte
	if !w.plain || limit == 0 || w.size == 0 || w.size+n <= limit {
		return nil
	}
	err := w.rotate()
	if err != nil && w.file != nil {
		// Too large a file is better than none.
		if time.Since(w.warned) >= warnEvery {
			w.warned = time.Now()
			w.log.Warn("File: not rotated", zap.String("path", w.cfg.Path), zap.Error(err))
		}
		return nil
	}
	return err
}

// cut removes what a failed write left behind the last record.
func (w *writer) cut() error {
	if w.torn == 0 || !w.plain {
		w.torn = 0
		return nil
	}
	info, err := w.file.Stat()
	if err == nil && info.Size() != w.size+w.torn {
		// Another process wrote behind it; what is there is not ours to cut.
		w.drop()
		if err := w.aside(becauseDamaged); err != nil {
			return err
		}
		return w.open()
	}
	if err == nil {
		err = w.file.Truncate(w.size)
	}
	if err != nil {
		return fmt.Errorf("cut back to the last record: %w", err)
	}
	w.torn = 0
	return nil
}

// look finds out whether the file was moved, removed or cut by somebody else, and follows. It costs two system calls
// per write; without it, what is acknowledged could go into a file that is gone.
func (w *writer) look() {
	there, err := w.disk.Lstat(w.cfg.Path)
	here, herr := w.file.Stat()
	if herr != nil {
		return
	}
	if err == nil && os.SameFile(there, here) {
		if w.torn == 0 && here.Size() != w.size {
			w.size = here.Size() // cut from outside, or another process appends: it is O_APPEND for both
		}
		return
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return
	}
	w.close()
}

// sync makes what was written last. A file that does not sync is never synced again: the kernel may have forgotten
// what it could not write, and would say that all is well.
func (w *writer) sync() error {
	if err := w.lost; err != nil {
		w.lost = nil
		return err
	}
	if w.file == nil || !w.plain {
		return nil // what was closed was synced
	}
	err := w.file.Sync()
	if err == nil {
		return nil
	}
	err = fmt.Errorf("sync %q: %w", w.cfg.Path, err)
	w.drop()
	w.lost = nil // this is the answer to all that wait
	return errors.Join(err, w.aside(becauseDamaged))
}

// rotate renames the file and opens a new one. Until the name is changed the old file goes on.
func (w *writer) rotate() error {
	if err := w.aside(becauseSize); err != nil {
		return err
	}
	w.close()
	err := w.open()
	w.clean()
	return err
}

// aside gives the file at the path another name.
func (w *writer) aside(reason string) error {
	to, err := w.names.free(w.disk, time.Now(), reason)
	if err != nil {
		return fmt.Errorf("rename %q: %w", w.cfg.Path, err)
	}
	if err := w.disk.Rename(w.cfg.Path, to); err != nil {
		return fmt.Errorf("rename %q: %w", w.cfg.Path, err)
	}
	if reason == becauseDamaged {
		w.log.Warn("File: what does not end with a whole record is set aside",
			zap.String("path", w.cfg.Path), zap.String("to", filepath.Base(to)))
	}
	return nil
}

// clean deletes rotated files beyond the bounds; that it fails is no reason not to write.
func (w *writer) clean() {
	r := w.cfg.rotation()
	if err := w.names.clean(w.disk, &r, time.Now()); err != nil {
		w.log.Warn("File: rotated files are not cleaned", zap.String("path", w.cfg.Path), zap.Error(err))
	}
}

// close syncs and closes the file.
func (w *writer) close() {
	if w.file == nil {
		return
	}
	lost := w.lost
	if w.plain {
		if err := w.file.Sync(); err != nil {
			lost = fmt.Errorf("sync %q: %w", w.cfg.Path, err)
			w.log.Warn("File: what was written last may not last", zap.Error(lost))
		}
	}
	w.drop()
	w.lost = lost
}

// drop closes the file without a sync.
func (w *writer) drop() {
	w.lost = fmt.Errorf("sync %q: %w", w.cfg.Path, errDropped)
	if err := w.file.Close(); err != nil {
		w.log.Warn("File: close", zap.String("path", w.cfg.Path), zap.Error(err))
	}
	w.file = nil
}
