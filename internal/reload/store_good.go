// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package reload

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// storedGood is the body of good-<generation>.json.
type storedGood struct {
	Generation  Generation `json:"generation"`
	Texts       []Text     `json:"texts"` // unexpanded: a secret written out in one is as safe as its file
	Hash        string     `json:"hash"`
	Fingerprint string     `json:"fingerprint"`
	Settings    Settings   `json:"settings"`
	Evidence    Evidence   `json:"evidence"`
	Source      string     `json:"source"`
	Time        time.Time  `json:"time"`
	Version     string     `json:"version"`

	Deliveries map[string]time.Time `json:"deliveries,omitempty"`
}

// Good is a configuration that was committed.
type Good struct {
	Record
	Texts   []Text
	Version string // of the program that committed it
	// Deliveries are who delivered when it was committed: what is offered next may be judged by them after a restart.
	Deliveries map[string]time.Time
}

// Good is the newest configuration that was committed and is not damaged; nil = none. The error, if any, is about files
// that could not be read.
func (s *Store) Good() (*Good, error) { return s.Newest(func(*Good) bool { return true }) }

// Newest is the newest configuration that was committed, fits, and is not damaged; nil = there is none, or not any more.
func (s *Store) Newest(fits func(*Good) bool) (*Good, error) {
	all, err := s.goodFiles()
	var errs []error
	for _, g := range slices.Backward(all) {
		good, err := s.goodOf(g)
		if err == nil && fits(good) {
			return good, errors.Join(errs...)
		}
		if err != nil && !errors.Is(err, errDamaged) {
			errs = append(errs, err)
		}
	}
	return nil, errors.Join(append(errs, err)...)
}

// goodOf reads one; errDamaged says that it was set aside.
func (s *Store) goodOf(g Generation) (*Good, error) {
	name := goodName(g)
	var body storedGood
	err := s.load(name, &body)
	if err == nil && (body.Generation != g || HashOf(body.Texts) != body.Hash || check(body.Texts) != nil) {
		err = s.setAside(name, fmt.Errorf("%w: its text is not what its hash says", errDamaged))
	}
	if err != nil {
		return nil, err
	}
	return &Good{Texts: body.Texts, Version: body.Version, Deliveries: body.Deliveries, Record: Record{
		Generation: g, Source: body.Source, Hash: body.Hash, Fingerprint: body.Fingerprint,
		Settings: body.Settings, Evidence: body.Evidence, At: body.Time,
	}}, nil
}

// goodFiles are the generations there are files of, ascending.
func (s *Store) goodFiles() ([]Generation, error) { return goodFiles(s.disk, s.dir) }

func goodFiles(disk vfs.FS, dir string) ([]Generation, error) {
	entries, err := disk.ReadDir(dir)
	var all []Generation
	for _, e := range entries {
		number, ok := strings.CutPrefix(e.Name, goodPrefix)
		number, end := strings.CutSuffix(number, goodSuffix)
		if g, err := strconv.ParseUint(number, 10, 63); ok && end && err == nil && goodName(Generation(g)) == e.Name {
			all = append(all, Generation(g))
		}
	}
	slices.Sort(all)
	return all, err
}

func goodName(g Generation) string {
	return goodPrefix + strconv.FormatUint(uint64(g), 10) + goodSuffix
}

// SaveGood makes g the good configuration. The one before stays beside it, and of older ones as many as are kept.
func (s *Store) SaveGood(g *Good) error {
	data, err := seal(storedGood{
		Generation: g.Generation, Texts: g.Texts, Hash: g.Hash, Fingerprint: g.Fingerprint, Settings: g.Settings,
		Evidence: g.Evidence, Source: g.Source, Time: g.At, Version: g.Version, Deliveries: g.Deliveries,
	})
	if err != nil {
		return err
	}
	if err := replace(s.disk, path.Join(s.dir, goodName(g.Generation)), data); err != nil {
		return fmt.Errorf("store generation %d: %w", g.Generation, err)
	}
	all, err := s.goodFiles()
	if err != nil {
		return nil // it is stored; old files are tidied up another time
	}
	for _, old := range s.surplus(all) {
		if err := s.disk.Remove(path.Join(s.dir, goodName(old))); err != nil {
			s.notes = append(s.notes, fmt.Sprintf("%s in %s stays: %v", goodName(old), s.dir, err))
		}
	}
	return nil
}

// surplus are the configurations that go: what is too old, and of older ones what a newer one says too. A script that
// alternates between two texts leaves room for others.
func (s *Store) surplus(all []Generation) (gone []Generation) {
	seen, kept, bytes := map[string]bool{}, 0, int64(0)
	for _, g := range slices.Backward(all) {
		hash := s.hashOf(g)
		if info, err := s.disk.Stat(path.Join(s.dir, goodName(g))); err == nil {
			bytes += info.Size
		}
		if kept >= keptGood || kept >= keptNewest && (bytes > keptBytes || hash != "" && seen[hash]) {
			gone = append(gone, g)
			continue
		}
		seen[hash] = true
		kept++
	}
	maps.DeleteFunc(s.hashes, func(g Generation, _ string) bool { return slices.Contains(gone, g) })
	return gone
}

// hashOf is the hash that a stored configuration is said to have; "" = it cannot be read.
func (s *Store) hashOf(g Generation) string {
	if hash, ok := s.hashes[g]; ok {
		return hash
	}
	hash := hashIn(s.disk, s.dir, g)
	if hash != "" {
		if s.hashes == nil {
			s.hashes = map[Generation]string{}
		}
		s.hashes[g] = hash
	}
	return hash
}

func hashIn(disk vfs.FS, dir string, g Generation) string {
	var body storedGood
	data, err := readFile(disk, path.Join(dir, goodName(g)))
	if err != nil || unseal(data, &body) != nil {
		return ""
	}
	return body.Hash
}

// kept is a text there is to go back to.
type kept struct {
	generation Generation
	hash       string
}

// kept are the texts there are to go back to, the oldest first. What cannot be read is none.
func (s *Store) kept() (all []kept) {
	generations, _ := s.goodFiles() // Good reports that
	for _, g := range generations {
		if hash := s.hashOf(g); hash != "" {
			all = append(all, kept{g, hash})
		}
	}
	return all
}
