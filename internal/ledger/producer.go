// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
)

// State is what an answer means for a request, best first.
type State string

// The states of an attempt (spec faults.md 3).
const (
	Acked   State = "acked"   // OK or 200, nothing rejected
	Partial State = "partial" // OK or 200 with some rejected; the protocol does not say which
	Unknown State = "unknown" // it may have been taken, or be taken later
	Refused State = "refused" // it definitely was not taken
)

// Attempt is one try of a request, as its producer notes it before the first byte is sent.
type Attempt struct {
	Signal      item.Signal
	Producer    uint16
	Request     uint64
	Attempt     uint32 // from 1
	First, Last uint64 // items
}

// Result is how an attempt ended.
type Result struct {
	State    State
	Rejected uint64 // of Partial
	Code     string // a gRPC code's name or an HTTP status
	Text     string
}

// Producer takes the notes of producers: load-N.tsv. It may be used by many goroutines at once.
type Producer struct{ book *notebook }

// NewProducer begins notes that go to out, which is closed by Close.
func NewProducer(out io.WriteCloser, run string) *Producer {
	p := &Producer{book: newNotebook(out)}
	p.book.mu.Lock()
	p.book.headerLocked("load", run)
	p.book.mu.Unlock()
	return p
}

// CreateProducer begins the next load-N.tsv in dir.
func CreateProducer(dir, run string) (*Producer, error) {
	for n := 1; ; n++ {
		f, err := openNotes(filepath.Join(dir, fmt.Sprintf("load-%d.tsv", n)), os.O_EXCL)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return NewProducer(f, run), nil
	}
}

// Invoked notes that an attempt is about to be sent.
func (p *Producer) Invoked(a Attempt) {
	b := p.book
	b.mu.Lock()
	defer b.mu.Unlock()
	line := append(b.mu.buf, 'I')
	line = appendAttempt(line, a)
	line = appendNumbers(line, a.First, a.Last)
	b.mu.buf = append(line, '\n')
	b.mu.lines++
}

// Ended notes how an attempt ended.
func (p *Producer) Ended(a Attempt, r Result) {
	b := p.book
	b.mu.Lock()
	defer b.mu.Unlock()
	line := append(b.mu.buf, 'R')
	line = appendAttempt(line, a)
	line = append(line, '\t')
	line = append(line, r.State...)
	if r.State == Partial {
		line = fmt.Appendf(line, "(%d)", r.Rejected)
	}
	line = append(line, '\t')
	line = appendText(line, r.Code)
	line = append(line, '\t')
	line = appendText(line, r.Text)
	b.mu.buf = append(line, '\n')
	b.mu.lines++
}

// Close writes the end line and closes the file; it returns the first error of any write.
func (p *Producer) Close() error { return p.book.close(time.Now(), true) }

// Abandon closes the file without the end line, as if the process had been killed.
func (p *Producer) Abandon() error { return p.book.abandon() }

func appendAttempt(line []byte, a Attempt) []byte {
	line = append(line, '\t')
	line = strconv.AppendInt(line, time.Now().UnixMicro(), 10)
	line = append(line, '\t', byte(a.Signal))
	return appendNumbers(line, uint64(a.Producer), a.Request, uint64(a.Attempt))
}

func appendNumbers(line []byte, numbers ...uint64) []byte {
	for _, n := range numbers {
		line = append(line, '\t')
		line = strconv.AppendUint(line, n, 10)
	}
	return line
}
