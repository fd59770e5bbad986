// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

const (
	// maxLine bounds one line of receipts: one that names 65,536 records has less than 4 MiB.
	maxLine = 16 << 20
	// maxVerified is how many of the last receipts are compared with their data at open: a sync that failed before a
	// crash can leave no more of them than one group.
	maxVerified = 2 * maxGroup
	prefixBytes = 4
)

// recover reads the receipts, does what they say and is not done, and opens the present file.
func (v *Vault) recover() error {
	if err := v.readReceipts(); err != nil {
		return err
	}
	// Written anew, so that what is believed from here on is on disk for sure: a sync that failed under the process before
	// may have lost lines that only the system's memory still shows. On a full disk it is the old ones, synced.
	old, tail := v.receipts, v.tail
	v.receipts = nil
	if err := v.rewrite(); err != nil {
		if old == nil || !vfs.IsFull(err) {
			return errors.Join(err, closeOld(old))
		}
		v.receipts, v.tail = old, tail
		v.set.Log.Warn("Emergency file: disk is full, receipts stay as they are", zap.String("path", v.set.Path), zap.Error(err))
	} else if err := closeOld(old); err != nil {
		return err
	}
	if v.renaming != nil {
		if err := v.finishRename(); err != nil {
			return err
		}
	}
	for _, file := range v.owed() {
		_, err := v.disk.Stat(v.names.in(file))
		if errors.Is(err, fs.ErrNotExist) {
			err = v.vanished(file)
		}
		if err != nil {
			return err
		}
	}
	if err := v.verify(); err != nil {
		return err
	}
	if info, err := v.disk.Stat(v.set.Path); !v.set.Append && err == nil && info.Size > 0 {
		if err := v.rotate(becauseStart); err != nil {
			return err
		}
	}
	if err := v.openData(); err != nil {
		return err
	}
	v.measure()
	v.clean()
	v.sweep()
	return nil
}

func closeOld(f vfs.File) error {
	if f == nil {
		return nil
	}
	return f.Close()
}

// readReceipts replays the lines. An unfinished last one is cut off, a damaged one is counted and passed by.
func (v *Vault) readReceipts() error {
	path := v.set.Path + receiptsSuffix
	f, err := v.disk.OpenFile(path, vfs.Write, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	v.receipts = f
	info, err := f.Stat()
	if err != nil {
		return err
	}
	closed := true // the process before ended in order, and said so
	whole, err := scanLines(f, info.Size, func(text []byte, at int64) {
		l, ok := v.lineOf(text, at)
		if ok {
			v.replay(&l)
			closed = l.Closed != nil
		}
	})
	if err != nil {
		return fmt.Errorf("read receipts: %w", err)
	}
	if whole < info.Size {
		if err := f.Truncate(whole); err != nil {
			return fmt.Errorf("cut receipts: %w", err)
		}
	}
	// Lines that a killed process had not synced are believed from here on: a queue may let go because of them.
	if err := f.Datasync(); err != nil {
		return fmt.Errorf("sync receipts: %w", err)
	}
	v.tail = aligned(whole)
	if v.mu.damaged > 0 {
		if err := v.keepCopy(f, whole); err != nil {
			return err
		}
		v.set.Log.Error("Emergency file: receipts are damaged, their data stays where it is and is not sent",
			zap.String("path", path), zap.Uint64("lines", v.mu.damaged))
	}
	for _, e := range v.mu.entries {
		e.before = true
	}
	if !closed {
		v.mu.doubt = maxInDoubt
	}
	return nil
}

// lineOf reads a line that begins at at. What is damaged is counted; a line that follows a damaged block begins with a
// block of its own, and is found there.
func (v *Vault) lineOf(text []byte, at int64) (l line, ok bool) {
	if len(bytes.Trim(text, " \x00")) == 0 {
		return l, false
	}
	for skip := int64(0); skip < int64(len(text)); skip = aligned(at+skip+1) - at {
		l, err := parseLine(bytes.Trim(text[skip:], " \x00"))
		if err == nil {
			if len(bytes.Trim(text[:skip], " \x00")) > 0 {
				v.mu.damaged++
			}
			return l, true
		}
	}
	v.mu.damaged++
	return l, false
}

// keepCopy keeps damaged receipts for whoever wants to look at them: the new ones hold what could be read.
func (v *Vault) keepCopy(f vfs.File, size int64) error {
	path := v.set.Path + receiptsSuffix + "." + becauseDamaged
	if err := v.disk.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	to, err := v.disk.OpenFile(path, vfs.Create, filePerm)
	if err != nil {
		if vfs.IsFull(err) {
			return nil
		}
		return err
	}
	chunk := make([]byte, 256<<10)
	for at := int64(0); at < size && err == nil; {
		n, rerr := f.ReadAt(chunk[:min(int64(len(chunk)), size-at)], at)
		if n == 0 {
			err = rerr
			break
		}
		_, err = to.WriteVAt([][]byte{chunk[:n]}, at)
		at += int64(n)
	}
	if vfs.IsFull(err) {
		err = nil
	}
	return errors.Join(err, to.Close())
}

// replay does what a line says.
func (v *Vault) replay(l *line) {
	b := v.mu.book
	switch {
	case l.N > 0:
		r, err := l.receipt()
		if err != nil || b.byN[l.N] != nil {
			b.damaged++
			return
		}
		if v.renaming != nil && r.File == v.renaming.Renamed {
			v.renaming = nil // it was renamed, and made anew
		}
		b.add(r)
	case l.Renamed != "":
		b.rename(l.Renamed, l.To)
		v.renaming = nil
		if _, reason, ok := v.names.ours(l.To); ok && reason != becauseRemoved && l.Renamed == v.names.base {
			v.renaming = l
		}
	case l.Settled > 0:
		b.settle(l.Settled, l.How, l.Rejected)
	case l.Totals != nil:
		a := b.account(l.Totals.Owner)
		a.Removed, a.Rejected = a.Removed+l.Totals.Removed, a.Rejected+l.Totals.Rejected
	}
}

// scanLines calls do with every line that is whole, without its end, and returns the bytes they have.
func scanLines(f vfs.File, size int64, do func(text []byte, at int64)) (whole int64, err error) {
	var rest []byte
	chunk := make([]byte, 256<<10)
	for at := int64(0); at < size; {
		n, err := f.ReadAt(chunk[:min(int64(len(chunk)), size-at)], at)
		if n == 0 && err != nil {
			return whole, err
		}
		at += int64(n)
		rest = append(rest, chunk[:n]...)
		for {
			i := bytes.IndexByte(rest, '\n')
			if i < 0 {
				break
			}
			do(rest[:i], whole)
			whole += int64(i) + 1
			rest = rest[i+1:]
		}
		if len(rest) > maxLine {
			return whole, fmt.Errorf("a line above %d bytes at %d", maxLine, whole)
		}
	}
	return whole, nil
}

// verify compares the last receipts with their data. One that does not hold names nothing: whoever still has its records
// sends them.
func (v *Vault) verify() error {
	entries := v.mu.entries
	for i := len(entries) - 1; i >= max(0, len(entries)-maxVerified); i-- {
		e := entries[i]
		if e.how != "" {
			continue
		}
		if _, err := v.read(&e.Receipt); errors.Is(err, ErrDamaged) {
			v.spoil(e, err)
		} else if err != nil {
			return err
		}
	}
	return nil
}

// spoil notes that the data of a receipt does not hold. It stays open: it is owed, and shown.
func (v *Vault) spoil(e *entry, cause error) {
	v.mu.Lock()
	first := !e.bad
	if first {
		e.bad = true
		v.mu.damaged++
		v.mu.forget(e)
	}
	v.mu.Unlock()
	if first {
		v.set.Log.Error("Emergency file: data is damaged, it stays where it is and is not sent",
			zap.String("file", e.File), zap.Int64("offset", e.Offset), zap.Int64("length", e.Length),
			zap.Uint64("receipt", e.N), zap.Uint32("items", e.Items), zap.Error(cause))
	}
}

// read returns the bytes under a receipt.
func (v *Vault) read(r *Receipt) ([]byte, error) {
	f, err := v.disk.OpenFile(v.names.in(r.File), vfs.Read, 0)
	if err != nil {
		return nil, err
	}
	b, err := readReceipt(f, r)
	return b, errors.Join(err, f.Close())
}

func readReceipt(f vfs.File, r *Receipt) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if r.Offset+r.Length > info.Size {
		return nil, fmt.Errorf("%w: %d bytes at %d of %q, which has %d", ErrDamaged, r.Length, r.Offset, r.File, info.Size)
	}
	b := make([]byte, r.Length)
	if n, err := f.ReadAt(b, r.Offset); n < len(b) {
		return nil, err
	}
	if sum := Sum(b); sum != r.CRC {
		return nil, fmt.Errorf("%w: %d bytes at %d of %q have another sum", ErrDamaged, r.Length, r.Offset, r.File)
	}
	return b, nil
}

// findEnd finds the end of the last whole record of the file that was opened, and cuts off what lies behind. A file that
// is not of our format, or shorter than its receipts say, is renamed aside; then data is nil.
func (v *Vault) findEnd() error {
	info, err := v.data.Stat()
	if err != nil {
		return err
	}
	claimed := int64(0)
	if p := v.mu.files[v.names.base]; p != nil {
		claimed = p.end
	}
	end, err := v.wholeRecords(claimed, info.Size)
	if err != nil {
		return err
	}
	if end < claimed || end < 0 {
		v.dropData()
		return v.rotate(becauseDamaged)
	}
	v.size = end
	if end < info.Size {
		if err := v.cut(); err != nil {
			return err
		}
		return v.data.Datasync()
	}
	return nil
}

// wholeRecords returns where the last whole record ends; a negative number if the file is not of our format. Up to
// claimed it is known to be.
func (v *Vault) wholeRecords(claimed, size int64) (int64, error) {
	if size <= claimed {
		return size, nil
	}
	if !v.set.Framed {
		return v.lastLine(claimed, size)
	}
	var prefix [prefixBytes]byte
	at := claimed
	for at+prefixBytes <= size {
		if _, err := v.data.ReadAt(prefix[:], at); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		n := int64(binary.BigEndian.Uint32(prefix[:]))
		if n == 0 || at+prefixBytes+n > size {
			break
		}
		at += prefixBytes + n
	}
	if at == 0 {
		return v.foreign(size)
	}
	return at, nil
}

// foreign decides about a file without one whole record: what a crash can leave of a first one is cut, anything else is
// somebody's.
func (v *Vault) foreign(size int64) (int64, error) {
	if _, ok := v.mu.files[v.names.base]; ok || len(v.mu.entries) > 0 || size == 0 {
		return 0, nil
	}
	return -1, nil
}

func (v *Vault) lastLine(claimed, size int64) (int64, error) {
	if claimed == 0 {
		var first [1]byte
		if _, err := v.data.ReadAt(first[:], 0); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if first[0] != '{' {
			return -1, nil
		}
	}
	buf := make([]byte, 64<<10)
	for at := size; at > claimed; {
		n := min(int64(len(buf)), at-claimed)
		if _, err := v.data.ReadAt(buf[:n], at-n); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			return at - n + int64(i) + 1, nil
		}
		at -= n
	}
	return claimed, nil
}
