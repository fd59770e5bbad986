// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package ledger proves that nothing was lost, or says what was.
//
// It compares three independent notes: what producers were told, what sinks hold, and what the product says about itself
// (its metrics, its files). Producers and sinks write their notes themselves, outside the process under test; the ledger
// reads them and judges. It never asks the product what it delivered and then believes it, and a run that could not
// prove its claim is inconclusive, never passed (spec faults.md, part A).
//
// Notes come from Producer and Sink, which write the files of a run; Read takes a directory of such files, Verify judges
// it. The package opens no connection and knows no parser of the product's: items are read by ledger/item.
package ledger

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// flushEvery is how long a note may wait before it is written to its file.
	flushEvery = 100 * time.Millisecond
	// maxText bounds foreign text in a note, in bytes.
	maxText = 1 << 10
	// magic begins the first line of every TSV file.
	magic = "#holdfast-ledger 1 "
)

// notebook is a TSV file being written: lines are collected and written through every 100 ms and at the end.
type notebook struct {
	out  io.WriteCloser
	stop chan struct{}
	done chan struct{}
	once sync.Once

	mu struct {
		sync.Mutex
		buf   []byte
		lines uint64 // of the current section, without header and end line
		err   error  // of the first write that went wrong
	}
}

func newNotebook(out io.WriteCloser) *notebook {
	n := &notebook{out: out, stop: make(chan struct{}), done: make(chan struct{})}
	go n.run()
	return n
}

func (n *notebook) run() {
	defer close(n.done)
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			n.mu.Lock()
			n.flushLocked()
			n.mu.Unlock()
		case <-n.stop:
			return
		}
	}
}

// flushLocked writes what was collected. Writing under the lock keeps lines in order; a note-taker that has to wait for
// its disk slows its test down and loses nothing.
func (n *notebook) flushLocked() {
	if len(n.mu.buf) == 0 || n.mu.err != nil {
		return
	}
	_, n.mu.err = n.out.Write(n.mu.buf)
	n.mu.buf = n.mu.buf[:0]
}

// header begins a section; kind is load or sink.
func (n *notebook) headerLocked(kind, run string, more ...string) {
	n.mu.buf = append(n.mu.buf, magic...)
	n.mu.buf = append(n.mu.buf, kind...)
	n.mu.buf = append(n.mu.buf, ' ')
	n.mu.buf = append(n.mu.buf, run...)
	for _, m := range more {
		n.mu.buf = append(n.mu.buf, ' ')
		n.mu.buf = append(n.mu.buf, m...)
	}
	n.mu.buf = append(n.mu.buf, '\n')
	n.mu.lines = 0
}

// endLocked ends a section.
func (n *notebook) endLocked(now time.Time) {
	n.mu.buf = fmt.Appendf(n.mu.buf, "E\t%d\t%d\n", now.UnixMicro(), n.mu.lines)
}

// close ends the current section if there is one, and the file. It is idempotent.
func (n *notebook) close(now time.Time, section bool) error {
	n.once.Do(func() {
		close(n.stop)
		<-n.done
		n.mu.Lock()
		defer n.mu.Unlock()
		if section {
			n.endLocked(now)
		}
		n.flushLocked()
		if err := n.out.Close(); n.mu.err == nil {
			n.mu.err = err
		}
	})
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.err
}

// abandon stops writing without an end line, as a process that is killed would.
func (n *notebook) abandon() error {
	n.once.Do(func() {
		close(n.stop)
		<-n.done
		n.mu.Lock()
		defer n.mu.Unlock()
		n.flushLocked()
		if err := n.out.Close(); n.mu.err == nil {
			n.mu.err = err
		}
	})
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.err
}

// appendText appends foreign text with control characters, tabs and backslashes escaped, cut at maxText.
func appendText(b []byte, text string) []byte {
	if len(text) > maxText {
		text = text[:maxText]
	}
	for _, r := range text {
		switch {
		case r == '\\':
			b = append(b, `\\`...)
		case strconv.IsPrint(r):
			b = append(b, string(r)...)
		default:
			q := strconv.QuoteRuneToASCII(r)
			b = append(b, q[1:len(q)-1]...)
		}
	}
	return b
}

func plainText(text string) string {
	if !strings.Contains(text, `\`) {
		return text
	}
	if out, err := strconv.Unquote(`"` + strings.ReplaceAll(text, `"`, `\"`) + `"`); err == nil {
		return out
	}
	return text
}

func openNotes(path string, flag int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|flag, 0o644) //nolint:gosec // the directory is the caller's
	if err != nil {
		return nil, fmt.Errorf("notes: %w", err)
	}
	return f, nil
}

// lineReader reads a TSV file line by line and keeps its place for error texts.
type lineReader struct {
	name string
	in   *bufio.Reader
	line int
}

// next returns the fields of the next line; io.EOF at the end. A last line without its newline is torn and not given.
func (l *lineReader) next() ([]string, error) {
	text, err := l.in.ReadString('\n')
	if err != nil {
		if errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		return nil, fmt.Errorf("read %q: %w", l.name, err)
	}
	l.line++
	return strings.Split(strings.TrimSuffix(text, "\n"), "\t"), nil
}

func (l *lineReader) errorf(format string, args ...any) error {
	return fmt.Errorf("%s:%d: %s", l.name, l.line, fmt.Sprintf(format, args...))
}
