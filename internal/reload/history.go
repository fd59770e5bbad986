// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package reload

import (
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
	State      Outcome    `json:"state"`
	Reason     Reason     `json:"reason,omitempty"`
	Text       string     `json:"text,omitempty"`
	Evidence   Evidence   `json:"evidence,omitempty"`
	// Times is how often in a row the same text ended the same way, 0 = once; generation and time are the last one's.
	Times int `json:"times,omitempty"`
}

// withEntry appends e, or counts it if it repeats the last one, and drops the oldest of more than keptHistory.
func withEntry(all []Entry, e Entry) []Entry {
	e.Text = cut(e.Text, maxEntryText)
	if n := len(all); n > 0 {
		if was := all[n-1]; was.Hash == e.Hash && was.State == e.State && was.Reason == e.Reason {
			e.Times = max(was.Times, 1) + 1
			all = all[:n-1]
		}
	}
	all = append(all[:len(all):len(all)], e)
	return all[max(0, len(all)-keptHistory):]
}

// maxEntryText bounds the text of an entry.
const maxEntryText = 4096

// History is the last attempts, oldest first. Lines that cannot be read are skipped.
func (s *Store) History() ([]Entry, error) { return readHistory(s.disk, s.dir) }

func readHistory(disk vfs.FS, dir string) ([]Entry, error) {
	data, err := readFile(disk, path.Join(dir, historyFile))
	if err != nil {
		return nil, ignoreMissing(err)
	}
	var all []Entry
	for line := range strings.Lines(string(data)) {
		var e Entry
		if unseal([]byte(line), &e) == nil {
			all = append(all, e)
		}
	}
	return all, nil
}

// ReadHistory reads the history of these sources in a state directory, newest first, without opening the store: it works
// beside a running process and without one. None is no error.
func ReadHistory(disk vfs.FS, place string, uris []string) ([]Entry, error) {
	all, err := readHistory(disk, DirOf(place, uris))
	slices.Reverse(all)
	return all, err
}

// AddHistory appends an entry; one that repeats the last one is counted there.
func (s *Store) AddHistory(e Entry) error {
	all, err := s.History()
	if err != nil {
		return err
	}
	var data []byte
	for _, e := range withEntry(all, e) {
		line, err := seal(e)
		if err != nil {
			return err
		}
		data = append(data, line...)
	}
	return replace(s.disk, path.Join(s.dir, historyFile), data)
}

func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
