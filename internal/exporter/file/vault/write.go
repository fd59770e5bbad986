// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// filePerm: telemetry is its owner's.
const filePerm = 0o600

// serve writes a job and all that wait with it.
func (v *Vault) serve(j *job) {
	group, bytes := []*job{j}, int64(len(j.Data))
	for len(group) < maxGroup && bytes < maxGroupBytes {
		select {
		case next := <-v.jobs:
			group, bytes = append(group, next), bytes+int64(len(next.Data))
			continue
		default:
		}
		break
	}
	err := v.keep(group, bytes)
	for _, j := range group {
		j.done <- err
	}
}

// keep writes a group, in this order: data, sync, receipts, sync. A crash after the data leaves bytes that nobody claims,
// one after the receipts leaves receipts for data that is there.
func (v *Vault) keep(group []*job, bytes int64) error {
	if err := v.ready(bytes); err != nil {
		return err
	}
	parts := v.pad(group, v.size+bytes)
	if _, err := v.data.WriteVAt(parts, v.size); err != nil {
		v.torn = true
		return errors.Join(fmt.Errorf("write %q: %w", v.set.Path, err), v.cut())
	}
	if err := v.data.Datasync(); err != nil {
		// The system may have forgotten what it could not write. This file is never synced again.
		return errors.Join(fmt.Errorf("sync %q: %w", v.set.Path, err), v.rotate(becauseDamaged))
	}
	at, now := v.size, time.Now()
	var lines []line
	var made []Receipt
	v.mu.Lock()
	n := v.mu.next
	v.mu.Unlock()
	for _, j := range group {
		if !j.Plain {
			r := Receipt{
				N: n, File: v.names.base, Offset: at, Length: j.size(v.set.Framed), CRC: crc32.Update(j.crc, castagnoli, j.tail),
				Items: j.Items, Time: now, Owner: j.Owner, Records: j.Records,
			}
			n++
			made, lines = append(made, r), append(lines, r.line())
		}
		at += j.size(v.set.Framed)
	}
	v.torn = true // until the receipts are there
	if len(lines) > 0 {
		if err := v.say(lines...); err != nil {
			return err // cut back before the next write, once it is certain that no receipt is there
		}
	}
	v.size, v.torn = at, false
	v.mu.Lock()
	for i := range made {
		v.mu.add(made[i])
	}
	v.mu.Unlock()
	return nil
}

// pad makes the group end at a multiple of a block, where it would end at end: the last line gets spaces before its end,
// the last frame a frame behind it that says nothing. It returns the parts to be written.
func (v *Vault) pad(group []*job, end int64) [][]byte {
	room := (block - end%block) % block
	last := group[len(group)-1]
	var parts [][]byte
	for _, j := range group {
		switch {
		case v.set.Framed:
			j.tail = nil
			if j == last && room > 0 && v.set.Pad != nil {
				j.tail = v.set.Pad(room)
			}
		case j == last:
			j.tail = append(bytes.Repeat([]byte{' '}, int(room)), '\n')
		default:
			j.tail = []byte{'\n'}
		}
		parts = append(parts, j.body(v.set.Framed), j.tail)
	}
	return parts
}

// ready makes the present file fit for n more bytes.
func (v *Vault) ready(n int64) error {
	if err := v.sound(); err != nil {
		return err
	}
	v.follow()
	if v.data == nil {
		if err := v.openData(); err != nil {
			return err
		}
	}
	if v.torn {
		if err := v.cut(); err != nil {
			return err
		}
	}
	n += 2 * block // at most, with its padding
	if v.total()+n > v.set.Cap {
		if err := v.makeRoom(n); err != nil {
			return err
		}
	}
	if v.set.MaxFile > 0 && v.size > 0 && v.size+n > v.set.MaxFile {
		if err := v.rotate(becauseSize); err != nil {
			return err
		}
		return v.openData()
	}
	return nil
}

// sound finishes what an earlier trouble left half done.
func (v *Vault) sound() error {
	if v.receipts == nil {
		if err := v.rewrite(); err != nil {
			return err
		}
	}
	if v.renaming != nil {
		return v.finishRename()
	}
	return nil
}

// total is the size of all files, the present one's data that is not owed included.
func (v *Vault) total() int64 { return v.others + v.size }

// makeRoom deletes what is owed by nobody, the present file too.
func (v *Vault) makeRoom(n int64) error {
	v.flush()
	v.mu.Lock()
	p := v.mu.files[v.names.base]
	idle := p != nil && p.open == 0 && p.claimed >= v.size && v.size > 0
	v.mu.Unlock()
	if idle {
		if err := v.rotate(becauseSize); err != nil {
			return err
		}
		if err := v.openData(); err != nil {
			return err
		}
	}
	v.sweep()
	if v.total()+n > v.set.Cap {
		v.need.Store(n)
		return fmt.Errorf("write %q: %w: %d of %d bytes", v.set.Path, ErrFull, v.total(), v.set.Cap)
	}
	return nil
}

// openData opens the present file, which is new or was looked at.
func (v *Vault) openData() error {
	f, err := v.disk.OpenFile(v.set.Path, vfs.Create, filePerm)
	if errors.Is(err, fs.ErrNotExist) {
		if err = v.makeDirectory(v.names.dir); err == nil {
			f, err = v.disk.OpenFile(v.set.Path, vfs.Create, filePerm)
		}
	}
	fresh := err == nil
	if errors.Is(err, fs.ErrExist) { // made a moment ago, or somebody put it there
		f, err = v.disk.OpenFile(v.set.Path, vfs.Write, 0)
	}
	if err != nil {
		return fmt.Errorf("open %q: %w", v.set.Path, err)
	}
	v.data, v.size, v.torn = f, 0, false
	if !fresh {
		if err := v.findEnd(); err != nil {
			v.dropData()
			return fmt.Errorf("open %q: %w", v.set.Path, err)
		}
		if v.data == nil {
			return v.openData()
		}
	}
	if err := v.disk.SyncDir(v.names.dir); err != nil {
		v.dropData()
		return fmt.Errorf("open %q: %w", v.set.Path, err)
	}
	return nil
}

// cut removes what lies behind the last whole record of the present file.
func (v *Vault) cut() error {
	if err := v.data.Truncate(v.size); err != nil {
		return fmt.Errorf("cut %q back to the last receipt: %w", v.set.Path, err)
	}
	v.torn = false
	return nil
}

func (v *Vault) dropData() {
	if v.data != nil {
		if err := v.data.Close(); err != nil {
			v.set.Log.Warn("Emergency file: close", zap.String("path", v.set.Path), zap.Error(err))
		}
		v.data = nil
	}
	v.size, v.torn = 0, false
}

// flush writes what was settled. What fails is said again.
func (v *Vault) flush() {
	v.mu.Lock()
	none := len(v.mu.settled) == 0
	v.mu.Unlock()
	if none && v.receipts != nil {
		return
	}
	if err := v.say(); err != nil && v.due("settle") {
		v.set.Log.Warn("Emergency file: receipts are not settled, a crash would repeat their data",
			zap.String("path", v.set.Path), zap.Error(err))
	}
}

// say appends lines to the receipts, those of settlements first, and syncs them. After an error nobody knows what is on
// disk, so that the receipts are written anew before anything else is said.
func (v *Vault) say(lines ...line) error {
	if v.receipts == nil {
		if err := v.rewrite(); err != nil {
			return err
		}
	}
	v.mu.Lock()
	settled := v.mu.settled
	v.mu.settled = nil // from here on the book alone knows: a rewrite says it
	v.mu.Unlock()
	var text []byte
	var err error
	for _, part := range [][]line{settled, lines} {
		for i := range part {
			if text, err = part[i].append(text); err != nil {
				return err
			}
		}
	}
	if len(text) == 0 {
		return nil
	}
	if over := len(text) % block; over > 0 {
		text = append(append(text[:len(text)-1], bytes.Repeat([]byte{' '}, block-over)...), '\n')
	}
	_, err = v.receipts.WriteVAt([][]byte{text}, v.tail)
	if err == nil {
		err = v.receipts.Datasync()
	}
	if err != nil {
		err = errors.Join(fmt.Errorf("write receipts of %q: %w", v.set.Path, err), v.receipts.Close())
		v.receipts = nil
		return err
	}
	v.tail += int64(len(text))
	v.mu.Lock()
	v.mu.unsaid = max(v.mu.unsaid-len(settled), 0)
	v.mu.Unlock()
	return nil
}

// aligned is where the block after n bytes begins. Lines that are there are not written again; between is nothing.
func aligned(n int64) int64 { return (n + block - 1) / block * block }

// rewrite writes the receipts anew, as the book has them, and puts them into the place of the old ones. Until the
// directory is synced either may be there after a crash, so nothing is said before.
func (v *Vault) rewrite() error {
	path, draft := v.set.Path+receiptsSuffix, v.set.Path+receiptsSuffix+".new"
	fail := func(err error) error {
		if v.receipts != nil { // its settlements are in the book only
			err = errors.Join(err, v.receipts.Close())
			v.receipts = nil
		}
		return fmt.Errorf("write receipts of %q anew: %w", v.set.Path, err)
	}
	if err := v.disk.Remove(draft); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fail(err)
	}
	there := v.present()
	v.mu.Lock()
	v.mu.settled = nil
	gone := v.mu.prune(there)
	entries := append([]*entry(nil), v.mu.entries...)
	v.mu.Unlock()
	f, err := v.disk.OpenFile(draft, vfs.Create, filePerm)
	if err != nil {
		return fail(err)
	}
	size, err := v.writeAll(f, gone, entries)
	if err == nil {
		err = f.Datasync()
	}
	if err == nil {
		err = v.disk.Rename(draft, path)
	}
	if err == nil {
		err = v.disk.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return fail(errors.Join(err, f.Close()))
	}
	if v.receipts != nil {
		if err := v.receipts.Close(); err != nil {
			v.set.Log.Warn("Emergency file: close receipts", zap.String("path", path), zap.Error(err))
		}
	}
	v.receipts, v.tail = f, aligned(size)
	v.mu.Lock()
	v.mu.unsaid = len(v.mu.settled)
	v.mu.Unlock()
	return nil
}

// writeAll writes lines a megabyte at a time. What the book says changes meanwhile only by Settle, whose lines follow.
func (v *Vault) writeAll(f vfs.File, gone []totals, entries []*entry) (int64, error) {
	var text []byte
	at := int64(0)
	out := func(l line, last bool) error {
		var err error
		if text, err = l.append(text); err != nil {
			return err
		}
		if len(text) < 1<<20 && !last {
			return nil
		}
		n, err := f.WriteVAt([][]byte{text}, at)
		at, text = at+n, text[:0]
		return err
	}
	for i := range gone {
		if err := out(line{Totals: &gone[i]}, false); err != nil {
			return at, err
		}
	}
	for _, e := range entries {
		v.mu.Lock()
		r, how, rejected := e.Receipt, e.how, e.rejected
		v.mu.Unlock()
		if err := out(r.line(), false); err != nil {
			return at, err
		}
		if how != "" {
			if err := out(line{Settled: r.N, How: how, Rejected: rejected}, false); err != nil {
				return at, err
			}
		}
	}
	if v.renaming != nil {
		if err := out(*v.renaming, false); err != nil {
			return at, err
		}
	}
	if len(text) == 0 {
		return at, nil
	}
	n, err := f.WriteVAt([][]byte{text}, at)
	return at + n, err
}
