// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package terminal shows frames of text on a whole terminal, and takes keys.
//
// It stands at the edge of the command line. It promises that a frame replaces the one before without a flicker, in one
// write; that nothing of a frame leaves the screen it was made for; and that the terminal is as it was after Close, which
// may be called more than once. Whoever opens it closes it on every way out, signals included. It refuses to know what is
// shown.
package terminal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Terminal is a terminal that is taken over.
type Terminal struct {
	in, out *os.File
	before  unix.Termios
	keys    chan byte
	closing chan struct{}
	reading sync.WaitGroup
	once    sync.Once
	err     error // of Close
}

// What the screen is told. Frames are drawn on the other screen, without a cursor, and lines end where the screen does.
const (
	enter  = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
	leave  = "\x1b[?7h\x1b[?25h\x1b[?1049l"
	begin  = "\x1b[?2026h\x1b[H" // terminals that know it show nothing until end
	end    = "\x1b[J\x1b[?2026l"
	newEnd = "\x1b[K"
)

// Is reports whether a file is a terminal.
func Is(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), getAttributes)
	return err == nil
}

// Open takes a terminal over. Keys come as they are pressed, Ctrl-C as the byte 3.
func Open(in, out *os.File) (*Terminal, error) {
	now, err := unix.IoctlGetTermios(int(in.Fd()), getAttributes)
	if err != nil {
		return nil, fmt.Errorf("%s is no terminal: %w", in.Name(), err)
	}
	t := &Terminal{in: in, out: out, before: *now, keys: make(chan byte), closing: make(chan struct{})}
	raw := *now
	raw.Iflag &^= unix.ICRNL | unix.IXON
	raw.Oflag &^= unix.OPOST
	raw.Lflag &^= unix.ECHO | unix.ICANON | unix.ISIG | unix.IEXTEN
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 0, 1 // a read ends after a tenth of a second, so that it can be over
	if err := unix.IoctlSetTermios(int(in.Fd()), setAttributes, &raw); err != nil {
		return nil, fmt.Errorf("set up terminal: %w", err)
	}
	if _, err := out.WriteString(enter); err != nil {
		return nil, errors.Join(err, t.restore())
	}
	t.reading.Go(t.read)
	return t, nil
}

// Keys are the keys that are pressed; what nobody takes is lost with Close.
func (t *Terminal) Keys() <-chan byte { return t.keys }

func (t *Terminal) read() {
	var one [1]byte
	for {
		n, err := t.in.Read(one[:])
		if n == 0 {
			select {
			case <-t.closing:
				return
			default:
			}
			if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, unix.EAGAIN) {
				return
			}
			continue
		}
		select {
		case t.keys <- one[0]:
		case <-t.closing:
			return
		}
	}
}

// Size is how many columns and lines there are; 80 and 24 where nobody knows.
func (t *Terminal) Size() (width, height int) { return Size(t.out) }

// Size is the size of the terminal that a file is.
func Size(f *os.File) (width, height int) {
	w, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil || w.Col == 0 || w.Row == 0 {
		return 80, 24
	}
	return int(w.Col), int(w.Row)
}

// Draw shows a frame in place of the one before.
func (t *Terminal) Draw(lines []string) error {
	var b strings.Builder
	b.WriteString(begin)
	for i, l := range lines {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(l + newEnd)
	}
	b.WriteString(end)
	_, err := t.out.WriteString(b.String())
	return err
}

// Close gives the terminal back as it was.
func (t *Terminal) Close() error {
	t.once.Do(func() {
		close(t.closing)
		t.reading.Wait() // before reads wait for lines again: one that had begun would never end
		_, err := t.out.WriteString(leave)
		t.err = errors.Join(err, t.restore())
	})
	return t.err
}

func (t *Terminal) restore() error {
	if err := unix.IoctlSetTermios(int(t.in.Fd()), setAttributes, &t.before); err != nil {
		return fmt.Errorf("restore terminal: %w", err)
	}
	return nil
}
