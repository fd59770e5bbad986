// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
)

// Sink takes the notes of one sink: sink-NAME.tsv. It may be used by many goroutines at once.
//
// Besides the S lines of the format it writes "F t conn signal foreign damaged stored answer" for items that have no
// identity, or one that cannot be read. A sink that receives another run begins a new section for it.
type Sink struct {
	checker *item.Checker
	book    *notebook
	run     *item.Run // of the current section, guarded by the book's lock
}

// NewSink begins notes that go to out, which is closed by Close.
func NewSink(out io.WriteCloser, checker *item.Checker) *Sink {
	return &Sink{checker: checker, book: newNotebook(out)}
}

// CreateSink begins sink-NAME.tsv in dir, or goes on after what an earlier process wrote there. If dir holds run.json,
// the checker is told of it.
func CreateSink(dir, name string, checker *item.Checker) (*Sink, error) {
	if name == "" || name != filepath.Base(name) {
		return nil, fmt.Errorf("notes: %q is no name for a sink", name)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // notes are for everybody
		return nil, fmt.Errorf("notes: %w", err)
	}
	if run, err := ReadRun(dir); err == nil {
		checker.Know(run.Name, run.BaseMicro)
	}
	path := filepath.Join(dir, "sink-"+name+".tsv")
	f, err := openNotes(path, os.O_APPEND)
	if err != nil {
		return nil, err
	}
	// A process that was killed may have left half a line.
	if old, err := os.ReadFile(path); err == nil && len(old) > 0 && old[len(old)-1] != '\n' { //nolint:gosec // as above
		if _, err := f.WriteString("\n"); err != nil {
			return nil, errors.Join(fmt.Errorf("notes: %w", err), f.Close())
		}
	}
	return NewSink(f, checker), nil
}

// Arrived notes what came in one request: ranges, and how many items were foreign or damaged.
func (s *Sink) Arrived(now time.Time, conn uint64, signal item.Signal, c item.Content, stored bool, answer string) {
	b := s.book
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range c.Ranges {
		s.sectionLocked(now, r.Run)
		line := append(b.mu.buf, 'S', '\t')
		line = strconv.AppendInt(line, now.UnixMicro(), 10)
		line = append(line, '\t')
		line = strconv.AppendUint(line, conn, 10)
		line = append(line, '\t', byte(r.Signal))
		line = appendNumbers(line, uint64(r.Producer), r.Request, r.First, r.Last)
		line = appendOutcome(line, stored, answer)
		line = append(line, '\t')
		line = append(line, r.Flags.String()...)
		b.mu.buf = append(line, '\n')
		b.mu.lines++
	}
	if c.Foreign+c.Damaged > 0 {
		s.sectionLocked(now, s.run)
		line := append(b.mu.buf, 'F', '\t')
		line = strconv.AppendInt(line, now.UnixMicro(), 10)
		line = append(line, '\t')
		line = strconv.AppendUint(line, conn, 10)
		line = append(line, '\t', byte(signal))
		line = appendNumbers(line, uint64(c.Foreign), uint64(c.Damaged))
		line = appendOutcome(line, stored, answer)
		b.mu.buf = append(line, '\n')
		b.mu.lines++
	}
}

// sectionLocked makes sure that the current section is run's; before any run was seen it is nobody's, "-".
func (s *Sink) sectionLocked(now time.Time, run *item.Run) {
	b := s.book
	switch {
	case b.mu.lines > 0 && (run == nil || s.run != nil && s.run.Tag == run.Tag):
		return
	case b.mu.lines > 0:
		b.endLocked(now)
	}
	s.run = run
	if run == nil {
		b.headerLocked("sink", "-")
		return
	}
	b.headerLocked("sink", run.Label(), "base="+strconv.FormatInt(s.checker.Base(run), 10))
}

// Close writes the end line, also if nothing arrived, and closes the file; it returns the first error of any write.
func (s *Sink) Close() error {
	now := time.Now()
	s.book.mu.Lock()
	if s.book.mu.lines == 0 {
		s.book.headerLocked("sink", "-")
	}
	s.book.mu.Unlock()
	return s.book.close(now, true)
}

// Abandon closes the file without the end line, as if the process had been killed.
func (s *Sink) Abandon() error { return s.book.abandon() }

func appendOutcome(line []byte, stored bool, answer string) []byte {
	if stored {
		line = append(line, "\t1\t"...)
	} else {
		line = append(line, "\t0\t"...)
	}
	return appendText(line, answer)
}
