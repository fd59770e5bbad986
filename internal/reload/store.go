// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package reload

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// The files of a store.
const (
	goodPrefix   = "good-"
	goodSuffix   = ".json"
	attemptFile  = "attempt.json"
	baselineFile = "baseline.json"
	historyFile  = "history.jsonl"
	keyFile      = "key.json"
	lockFile     = "lock"
	badDir       = "bad"

	keptGood    = 10 // of what was committed; the newest two in any case, older ones once for each text
	keptNewest  = 2
	keptBytes   = 16 << 20 // of more than the newest two
	keptHistory = 100      // entries
	keyBytes    = 32
)

// Store keeps, in one directory per set of sources, what a restart must know. Every file is replaced whole and carries
// a sum; one that is damaged is moved to bad/, and what stood before it is used. Of the good configurations the newest
// two are kept at least, so one damaged file, and a crash at any moment, leave one, and some older ones that a person may
// want to go back to. Its methods are called by one goroutine at a time.
type Store struct {
	disk vfs.FS
	dir  string
	lock vfs.File
	key  []byte
	// Notes are what was found wrong when it was opened: lines for the log.
	notes []string
	lines int // of the history's file; 0 = not known
	// hashes are those of stored configurations, as far as somebody asked.
	hashes map[Generation]string
}

// DirOf is where the store of these sources lies below a state directory.
func DirOf(place string, uris []string) string {
	sum := sha256.Sum256([]byte(strings.Join(uris, "\n")))
	return path.Join(place, "config", hex.EncodeToString(sum[:])[:12])
}

// lockWait is how long somebody else's lock is waited for: the process before this one may still be stopping.
const (
	lockWait  = 10 * time.Second
	lockAgain = 100 * time.Millisecond
)

// OpenStore opens the store of these sources in a state directory, and makes both where they do not exist. It is not
// usable, and the error says why, if a file cannot be written there, or somebody else has it locked for lockWait.
func OpenStore(ctx context.Context, disk vfs.FS, place string, uris []string) (*Store, error) {
	s := &Store{disk: disk, dir: DirOf(place, uris)}
	if err := s.makeDirs(place); err != nil {
		return nil, fmt.Errorf("state directory %s: %w", place, err)
	}
	if err := s.takeLock(ctx); err != nil {
		return nil, fmt.Errorf("state directory %s: %w", place, err)
	}
	if err := s.openKey(); err != nil {
		return nil, errors.Join(fmt.Errorf("state directory %s: %w", place, err), s.lock.Close())
	}
	return s, nil
}

// makeDirs makes the directories, the durable way: each name before what lies in it. What leads to the place must be
// there already but for its last element.
func (s *Store) makeDirs(place string) error {
	parent := path.Dir(place)
	for _, dir := range []string{place, path.Join(place, "config"), s.dir} {
		info, err := s.disk.Stat(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if err := s.disk.Mkdir(dir, dirPerm); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
			if err := s.disk.SyncDir(parent); err != nil {
				return err
			}
		case err != nil:
			return err
		case dir != place && !info.Mode.IsDir():
			return fmt.Errorf("%s is no directory", dir)
		}
		parent = dir
	}
	return nil
}

func (s *Store) takeLock(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	for {
		f, err := s.disk.Lock(path.Join(s.dir, lockFile))
		if err == nil {
			s.lock = f
			return nil
		}
		if !errors.Is(err, vfs.ErrLocked) || pause(ctx, lockAgain) != nil {
			return err
		}
	}
}

// openKey reads the key of the fingerprints, or makes one. A new one makes every fingerprint differ: a trial.
func (s *Store) openKey() error {
	name := path.Join(s.dir, keyFile)
	var text string
	err := s.load(keyFile, &text)
	if err == nil {
		if s.key, err = hex.DecodeString(text); err == nil && len(s.key) == keyBytes {
			return nil
		}
		err = s.setAside(keyFile, errDamaged)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errDamaged) {
		return err
	}
	s.key = make([]byte, keyBytes)
	rand.Read(s.key) // never fails
	data, err := seal(hex.EncodeToString(s.key))
	if err != nil {
		return err
	}
	return replace(s.disk, name, data)
}

// Fingerprint is what expanded documents are compared by.
func (s *Store) Fingerprint(expanded []byte) string {
	h := hmac.New(sha256.New, s.key)
	h.Write(expanded)
	return hex.EncodeToString(h.Sum(nil))
}

// Dir is where the store lies.
func (s *Store) Dir() string { return s.dir }

// Notes returns what was found wrong since the last call, a line each.
func (s *Store) Notes() []string {
	notes := s.notes
	s.notes = nil
	return notes
}

// load reads one file. What is damaged is set aside.
func (s *Store) load(name string, v any) error {
	data, err := readFile(s.disk, path.Join(s.dir, name))
	if err == nil {
		err = unseal(data, v)
	}
	if errors.Is(err, errDamaged) {
		return s.setAside(name, err)
	}
	return err
}

// setAside moves a damaged file out of the way, for somebody to look at, and returns why. Where it cannot be moved it
// stays, and is passed by.
func (s *Store) setAside(name string, why error) error {
	bad := path.Join(s.dir, badDir)
	err := s.disk.Mkdir(bad, dirPerm)
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	if err == nil {
		err = s.disk.Rename(path.Join(s.dir, name), path.Join(bad, name))
	}
	if err == nil {
		err = errors.Join(s.disk.SyncDir(s.dir), s.disk.SyncDir(bad))
	}
	note := fmt.Sprintf("%s in %s: %v; moved to %s", name, s.dir, why, bad)
	if err != nil {
		note = fmt.Sprintf("%s in %s: %v; it cannot be moved away: %v", name, s.dir, why, err)
	}
	s.notes = append(s.notes, note)
	return fmt.Errorf("%s: %w", name, why)
}

// storedAttempt is the body of attempt.json.
type storedAttempt struct {
	Attempt
	Deliveries map[string]time.Time `json:"deliveries,omitempty"`
}

// Attempt is what a process that died was about; nil = none. Damaged, its crash count is lost.
func (s *Store) Attempt() (*Attempt, error) {
	a, err := s.attempt()
	if a == nil {
		return nil, err
	}
	return &a.Attempt, err
}

func (s *Store) attempt() (*storedAttempt, error) {
	var a storedAttempt
	return present(&a, s.load(attemptFile, &a))
}

// SaveAttempt writes the attempt, and who delivered before it.
func (s *Store) SaveAttempt(a Attempt, last map[string]time.Time) error {
	return s.save(attemptFile, storedAttempt{a, last})
}

// ClearAttempt removes it. The name is not synced: after a power cut it may be back, and does no harm. Of what was
// committed it has the hash of the good one, which is started all the same; of what was rolled back it counts one
// unclean end, which is one too few to hold it.
func (s *Store) ClearAttempt() error {
	return ignoreMissing(s.disk.Remove(path.Join(s.dir, attemptFile)))
}

// Deliveries are the last deliveries per sender: as of the last SaveDeliveries, or later, as an attempt that is there says.
func (s *Store) Deliveries() (map[string]time.Time, error) {
	saved := map[string]time.Time{}
	got, err := present(&saved, s.load(baselineFile, &saved))
	all := map[string]time.Time{}
	if got != nil {
		latest(all, *got)
	}
	a, failed := s.attempt()
	if a != nil {
		latest(all, a.Deliveries)
	}
	return all, errors.Join(err, failed)
}

// latest adds what is newer to deliveries.
func latest(to, from map[string]time.Time) {
	for id, at := range from {
		if at.After(to[id]) {
			to[id] = at
		}
	}
}

// SaveDeliveries keeps them over a restart.
func (s *Store) SaveDeliveries(all map[string]time.Time) error { return s.save(baselineFile, all) }

// present makes none of what does not exist or is damaged.
func present[T any](v *T, err error) (*T, error) {
	switch {
	case err == nil:
		return v, nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, errDamaged):
		return nil, nil
	}
	return nil, err
}

func (s *Store) save(name string, v any) error {
	data, err := seal(v)
	if err != nil {
		return err
	}
	return replace(s.disk, path.Join(s.dir, name), data)
}

// Last is the highest number ever given, as far as the store knows.
func (s *Store) Last() Generation {
	all, _ := s.goodFiles()
	last := Generation(0)
	for _, g := range all {
		last = max(last, g)
	}
	if a, _ := s.Attempt(); a != nil {
		last = max(last, a.Generation)
	}
	history, _ := s.History()
	for _, e := range history {
		last = max(last, e.Generation)
	}
	return last
}

// Close gives the directory up.
func (s *Store) Close() error { return s.lock.Close() }
