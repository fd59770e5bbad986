// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package reload

import (
	"errors"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// Entry is one line of the history.
type Entry struct {
	Generation Generation `json:"generation"`
	Time       time.Time  `json:"time"`
	Hash       string     `json:"hash,omitempty"`
	Source     string     `json:"source,omitempty"`
	From       Generation `json:"from,omitempty"` // whose text it has, where it was gone back to that one
	State      Outcome    `json:"state"`
	Reason     Reason     `json:"reason,omitempty"`
	Text       string     `json:"text,omitempty"`
	Evidence   Evidence   `json:"evidence,omitempty"`
	// Times is how often in a row the same text ended the same way, 0 = once; generation and time are the last one's.
	Times int `json:"times,omitempty"`
	// Stored says that its text is kept, and can be gone back to; worked out where it is shown.
	Stored bool `json:"stored,omitempty"`
}

// withEntry appends e, or counts it if it repeats the last one, and drops the oldest of more than keptHistory.
func withEntry(all []Entry, e Entry) []Entry {
	e.Text = cut(e.Text, maxEntryText)
	if n := len(all); n > 0 {
		if was := all[n-1]; was.Hash == e.Hash && was.State == e.State && was.Reason == e.Reason {
			e.Times = max(was.Times, 1) + max(e.Times, 1)
			all = all[:n-1]
		}
	}
	all = append(all[:len(all):len(all)], e)
	return all[max(0, len(all)-keptHistory):]
}

// maxEntryText bounds the text of an entry.
const maxEntryText = 4096

// History is the last attempts, oldest first. Lines that cannot be read are skipped.
func (s *Store) History() ([]Entry, error) {
	all, _, err := readHistory(s.disk, s.dir)
	return all, err
}

// readHistory also counts the lines there are, those that cannot be read included.
func readHistory(disk vfs.FS, dir string) (all []Entry, lines int, err error) {
	data, err := readFile(disk, path.Join(dir, historyFile))
	if err != nil {
		return nil, 0, ignoreMissing(err)
	}
	for line := range strings.Lines(string(data)) {
		var e Entry
		if lines++; unseal([]byte(line), &e) == nil {
			all = withEntry(all, e)
		}
	}
	return all, lines, nil
}

// ReadHistory reads the history of these sources in a state directory, newest first, without opening the store: it works
// beside a running process and without one. None is no error.
func ReadHistory(disk vfs.FS, place string, uris []string) ([]Entry, error) {
	dir := DirOf(place, uris)
	all, _, err := readHistory(disk, dir)
	slices.Reverse(all)
	generations, failed := goodFiles(disk, dir)
	stored := make([]kept, 0, len(generations))
	for _, g := range generations {
		stored = append(stored, kept{g, hashIn(disk, dir, g)})
	}
	markStored(all, stored)
	return all, errors.Join(err, ignoreMissing(failed))
}

// markStored says of entries whether they can be gone back to: those that were committed and whose text is kept, be it
// under another number.
func markStored(all []Entry, stored []kept) {
	for i := range all {
		e := &all[i]
		e.Stored = e.State == Committed && e.Hash != "" && slices.ContainsFunc(stored, func(k kept) bool { return k.hash == e.Hash })
	}
}

// AddHistory appends an entry; one that repeats the last one is counted there when it is read. The line is not synced:
// journals may lie on the same disk, whose appends clients wait for, and a power cut costs some lines of a list for people.
// The first entry of a process, and one in keptHistory, write the whole file anew, synced, with what is kept.
func (s *Store) AddHistory(e Entry) error {
	if s.lines > 0 && s.lines < 2*keptHistory {
		if err := s.appendHistory(e); err == nil {
			s.lines++
			return nil
		}
	}
	all, err := s.History()
	if err != nil {
		return err
	}
	s.lines = 0
	var data []byte
	all = withEntry(all, e)
	for _, e := range all {
		line, err := seal(e)
		if err != nil {
			return err
		}
		data = append(data, line...)
	}
	if err := replace(s.disk, path.Join(s.dir, historyFile), data); err != nil {
		return err
	}
	s.lines = len(all)
	return nil
}

// appendHistory writes one line behind the others. One that is torn costs itself: the next begins on a line of its own,
// since a failure writes the file anew.
func (s *Store) appendHistory(e Entry) error {
	e.Text = cut(e.Text, maxEntryText)
	line, err := seal(e)
	if err != nil {
		return err
	}
	f, err := s.disk.OpenFile(path.Join(s.dir, historyFile), vfs.Write, 0)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		_, err = f.WriteVAt([][]byte{line}, info.Size)
	}
	return errors.Join(err, f.Close())
}

func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
