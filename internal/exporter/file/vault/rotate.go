// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

const receiptsSuffix = ".receipts"

// stampLayout is the time in the name of a rotated file, which is named as the file exporter's are.
const stampLayout = "2006-01-02T15-04-05.000"

// Why a file has another name: the last word of it.
const (
	becauseSize    = "size"
	becauseStart   = "start"
	becauseDamaged = "damaged" // it does not end with a whole record, or would not sync
	becauseRemoved = "removed" // nobody renamed it: it is gone, and its receipts get a name that no file has
)

var reasons = []string{becauseSize, becauseStart, becauseDamaged, becauseRemoved}

// names makes and recognises the names of rotated files.
type names struct {
	dir, base   string
	prefix, ext string
	local       bool
}

func newNames(path string, local bool) names {
	base := filepath.Base(path)
	ext := filepath.Ext(base)
	return names{dir: filepath.Dir(path), base: base, prefix: strings.TrimSuffix(base, ext) + "-", ext: ext, local: local}
}

func (n *names) in(base string) string { return filepath.Join(n.dir, base) }

// ours reads the time of a rotated file's name.
func (n *names) ours(base string) (t time.Time, reason string, ok bool) {
	rest, ok := strings.CutPrefix(base, n.prefix)
	if !ok {
		return t, "", false
	}
	if rest, ok = strings.CutSuffix(rest, n.ext); !ok || len(rest) <= len(stampLayout)+1 || rest[len(stampLayout)] != '-' {
		return t, "", false
	}
	zone := time.UTC
	if n.local {
		zone = time.Local
	}
	t, err := time.ParseInLocation(stampLayout, rest[:len(stampLayout)], zone)
	reason = rest[len(stampLayout)+1:]
	return t, reason, err == nil && slices.Contains(reasons, reason)
}

// free is a name that no file and no receipt has.
func (v *Vault) free(reason string) (string, error) {
	now := time.Now()
	for range 1000 {
		t := now.UTC()
		if v.names.local {
			t = now.Local()
		}
		base := v.names.prefix + t.Format(stampLayout) + "-" + reason + v.names.ext
		_, err := v.disk.Stat(v.names.in(base))
		v.mu.Lock()
		known := v.mu.files[base] != nil
		v.mu.Unlock()
		if errors.Is(err, fs.ErrNotExist) && !known {
			return base, nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		now = now.Add(time.Millisecond)
	}
	return "", fmt.Errorf("no free name beside %q", v.set.Path)
}

// rotate gives the present file another name. First the receipts say so; a crash in between leaves a name to be changed
// at the next start.
func (v *Vault) rotate(reason string) error {
	to, err := v.free(reason)
	if err == nil {
		err = v.rename(line{Renamed: v.names.base, To: to})
	}
	if err == nil {
		err = v.finishRename()
	}
	if err != nil {
		return fmt.Errorf("rename %q: %w", v.set.Path, err)
	}
	if reason == becauseDamaged {
		v.set.Log.Warn("Emergency file: a file that cannot be trusted further is set aside",
			zap.String("path", v.set.Path), zap.String("to", to))
	}
	v.clean()
	return nil
}

// rename says that a file has another name.
func (v *Vault) rename(l line) error {
	if err := v.sound(); err != nil {
		return err
	}
	if err := v.say(l); err != nil {
		return err
	}
	v.mu.Lock()
	v.mu.rename(l.Renamed, l.To)
	v.mu.Unlock()
	v.renaming = &l
	return nil
}

// finishRename does what the receipts say already.
func (v *Vault) finishRename() error {
	from, to := v.names.in(v.renaming.Renamed), v.names.in(v.renaming.To)
	_, err := v.disk.Stat(to)
	if errors.Is(err, fs.ErrNotExist) { // else it is done, and what has the old name is another file
		if err = v.disk.Rename(from, to); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("rename %q: %w", v.set.Path, err)
	}
	if err := v.disk.SyncDir(v.names.dir); err != nil {
		return fmt.Errorf("rename %q: %w", v.set.Path, err)
	}
	v.renaming = nil
	v.dropData()
	v.measure()
	return nil
}

// follow notices that the present file was moved, removed or cut by somebody else.
func (v *Vault) follow() {
	if v.data == nil {
		return
	}
	here, herr := v.data.Stat()
	there, err := v.disk.Stat(v.set.Path)
	switch {
	case herr != nil || err != nil && !errors.Is(err, fs.ErrNotExist):
		return
	case err == nil && there.Same(here) && (here.Size == v.size || v.torn):
		return
	case err == nil && there.Same(here) && here.Size > v.size:
		v.size = here.Size // another process appended; nobody claims that
		return
	}
	v.dropData()
	if err == nil && there.Same(here) {
		err = v.rotate(becauseDamaged) // cut below what it held
	} else {
		err = v.vanished(v.names.base)
	}
	if err != nil && v.due("follow") {
		v.set.Log.Warn("Emergency file: somebody else changed it", zap.String("path", v.set.Path), zap.Error(err))
	}
}

// look finds files that somebody removed although data in them is owed.
func (v *Vault) look() {
	if v.sound() != nil {
		return
	}
	v.follow()
	for _, file := range v.owed() {
		_, err := v.disk.Stat(v.names.in(file))
		if errors.Is(err, fs.ErrNotExist) {
			err = v.vanished(file)
		}
		if err != nil && v.due("look") {
			v.set.Log.Warn("Emergency file: cannot look for it", zap.String("path", v.set.Path), zap.Error(err))
		}
	}
}

// owed lists the files with open receipts.
func (v *Vault) owed() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	var out []string
	for file, p := range v.mu.files {
		if p.open > 0 {
			out = append(out, file)
		}
	}
	slices.Sort(out)
	return out
}

// vanished settles the receipts of a file that is gone: their data is lost, and is said to be.
func (v *Vault) vanished(file string) error {
	if file == v.names.base {
		// Its name is soon another file's; its receipts get one that is nobody's.
		to, err := v.free(becauseRemoved)
		if err != nil {
			return err
		}
		if err := v.rename(line{Renamed: file, To: to}); err != nil {
			return err
		}
		v.renaming, file = nil, to
		v.dropData()
	}
	now := time.Now().UTC()
	items, receipts := int64(0), 0
	v.mu.Lock()
	for _, e := range v.mu.openIn(file) {
		v.mu.settle(e.N, Removed, 0)
		v.mu.settled = append(v.mu.settled, line{Settled: e.N, How: Removed, Time: &now})
		items, receipts = items+int64(e.Items), receipts+1
	}
	v.mu.Unlock()
	if receipts > 0 {
		v.set.Log.Error("Emergency file: a file with data that no backend has is gone, its items are dropped",
			zap.String("path", v.set.Path), zap.String("file", file), zap.Int64("items", items), zap.Int("receipts", receipts),
			zap.String("reason", "emergency_file_removed"))
	}
	return v.say()
}

// present tells which files there are.
func (v *Vault) present() func(file string) bool {
	entries, err := v.disk.ReadDir(v.names.dir)
	if err != nil {
		return func(string) bool { return true } // keep every line
	}
	there := map[string]bool{}
	for _, e := range entries {
		there[e.Name] = true
	}
	return func(file string) bool { return there[file] }
}

// rotated is a file of ours that is not the present one.
type rotated struct {
	base   string
	at     time.Time
	reason string
	size   int64
}

func (v *Vault) list() ([]rotated, error) {
	entries, err := v.disk.ReadDir(v.names.dir)
	if err != nil {
		return nil, fmt.Errorf("list rotated files: %w", err)
	}
	var out []rotated
	for _, e := range entries {
		at, reason, ok := v.names.ours(e.Name)
		if !ok || !e.Type.IsRegular() {
			continue
		}
		info, err := v.disk.Stat(v.names.in(e.Name))
		if err == nil {
			out = append(out, rotated{e.Name, at, reason, info.Size})
		}
	}
	slices.SortFunc(out, func(a, b rotated) int { return b.at.Compare(a.at) })
	return out, nil
}

// measure sums up the rotated files.
func (v *Vault) measure() {
	list, err := v.list()
	if err != nil {
		return // as large as they were
	}
	v.others = 0
	for _, f := range list {
		v.others += f.size
	}
}

// sweep deletes rotated files of which every byte was settled, and is said to be on disk: a file that is gone before that
// would count as lost after a crash.
func (v *Vault) sweep() {
	list, err := v.list()
	if err != nil {
		return
	}
	for _, f := range list {
		v.mu.Lock()
		p := v.mu.files[f.base]
		over := p != nil && p.open == 0 && p.claimed >= f.size && f.size > 0 && len(v.mu.settled) == 0 && v.receipts != nil
		v.mu.Unlock()
		if over {
			v.remove(f.base)
		}
	}
	v.measure()
	if v.receipts != nil && v.tail > rewriteAbove && v.stale() {
		if err := v.rewrite(); err != nil && v.due("rewrite") {
			v.set.Log.Warn("Emergency file: receipts", zap.Error(err))
		}
	}
}

// stale reports whether most receipts on disk say nothing any more.
func (v *Vault) stale() bool {
	there := v.present()
	v.mu.Lock()
	defer v.mu.Unlock()
	live := 0
	for _, e := range v.mu.entries {
		if e.how == "" || len(e.Records) > 0 || there(e.File) {
			live++
		}
	}
	return live < len(v.mu.entries)/2
}

func (v *Vault) remove(base string) {
	if err := v.disk.Remove(v.names.in(base)); err != nil && !errors.Is(err, fs.ErrNotExist) && v.due("remove") {
		v.set.Log.Warn("Emergency file: a file that nobody needs is not deleted", zap.String("file", base), zap.Error(err))
	}
}

// clean deletes rotated files beyond the configured number or age, but none that holds what is owed, and none that
// nobody has looked at.
func (v *Vault) clean() {
	list, err := v.list()
	if err != nil {
		return
	}
	for i, f := range list {
		tooMany := v.set.MaxBackups > 0 && i >= v.set.MaxBackups
		tooOld := v.set.MaxAge > 0 && time.Since(f.at) > v.set.MaxAge
		if !tooMany && !tooOld || f.reason == becauseDamaged {
			continue
		}
		v.mu.Lock()
		p := v.mu.files[f.base]
		owes := p != nil && p.open > 0
		v.mu.Unlock()
		switch {
		case !owes:
			v.remove(f.base)
		case !v.spared[f.base]:
			v.spared[f.base] = true
			v.set.Log.Warn("Emergency file: a file is kept beyond max_backups and max_days, no backend has its data yet",
				zap.String("file", f.base))
		}
	}
	v.measure()
}

// Probe reports whether the vault would take data: there is room for what was refused last, and a small file can be
// written, synced and removed beside it. It may run beside everything else.
func (v *Vault) Probe(context.Context) error {
	info, err := v.disk.Stat(v.set.Path)
	if err == nil {
		list, lerr := v.list()
		err = lerr
		total := info.Size
		for _, f := range list {
			total += f.size
		}
		if err == nil && total+v.need.Load() > v.set.Cap && !v.reclaimable(info.Size) {
			return fmt.Errorf("write %q: %w: %d of %d bytes", v.set.Path, ErrFull, total, v.set.Cap)
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	v.probing.Lock()
	defer v.probing.Unlock()
	return tryWrite(v.disk, v.set.Path+".probe")
}

// reclaimable reports whether nothing in the present file is owed.
func (v *Vault) reclaimable(size int64) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	p := v.mu.files[v.names.base]
	return p != nil && p.open == 0 && p.claimed >= size && size > 0
}

func tryWrite(disk vfs.FS, path string) error {
	if err := disk.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := disk.OpenFile(path, vfs.Create, filePerm)
	if err != nil {
		return err
	}
	_, err = f.WriteVAt([][]byte{make([]byte, 4096)}, 0)
	if err == nil {
		err = f.Datasync()
	}
	return errors.Join(err, f.Close(), disk.Remove(path))
}
