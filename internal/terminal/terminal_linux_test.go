// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package terminal_test

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-telemetry/holdfast/internal/terminal"
)

// pair is a terminal and whoever sits before it.
type pair struct {
	*testing.T
	user, side *os.File
	mu         sync.Mutex
	seen       bytes.Buffer // what the screen was told
}

func newPair(t *testing.T) *pair {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("SKIP: no terminals here: %v", err)
	}
	if err := unix.IoctlSetPointerInt(int(user.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(user.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	side, err := os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &pair{T: t, user: user, side: side}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 4096)
		for {
			n, err := user.Read(b)
			p.mu.Lock()
			p.seen.Write(b[:n])
			p.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { _ = side.Close(); <-done; _ = user.Close() })
	return p
}

// shows waits until the screen was told something.
func (p *pair) shows(text string) {
	p.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); <-tick.C {
		p.mu.Lock()
		seen := p.seen.String()
		p.mu.Unlock()
		if strings.Contains(seen, text) {
			return
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Fatalf("%q is not shown in %q", text, p.seen.String())
}

func (p *pair) attributes() unix.Termios {
	p.Helper()
	a, err := unix.IoctlGetTermios(int(p.side.Fd()), unix.TCGETS)
	if err != nil {
		p.Fatal(err)
	}
	return *a
}

func TestATerminalIsAsItWasAfterwards(t *testing.T) {
	p := newPair(t)
	before := p.attributes()
	term, err := terminal.Open(p.side, p.side)
	if err != nil {
		t.Fatal(err)
	}
	if during := p.attributes(); during.Lflag&(unix.ECHO|unix.ICANON|unix.ISIG) != 0 {
		t.Errorf("keys are echoed, or wait for the end of a line: %x", during.Lflag)
	}
	if err := term.Draw([]string{"first", "second"}); err != nil {
		t.Fatal(err)
	}
	p.shows("first\x1b[K\r\nsecond\x1b[K\x1b[J")
	for range 2 {
		if err := term.Close(); err != nil {
			t.Error(err)
		}
	}
	if after := p.attributes(); after != before {
		t.Errorf("before %+v\nafter  %+v", before, after)
	}
	p.shows("\x1b[?25h\x1b[?1049l")
}

func TestKeysComeAsTheyArePressedAndCtrlCIsOne(t *testing.T) {
	p := newPair(t)
	term, err := terminal.Open(p.side, p.side)
	if err != nil {
		t.Fatal(err)
	}
	defer term.Close()
	for _, key := range []byte{'x', 3, 'q'} {
		if _, err := p.user.Write([]byte{key}); err != nil {
			t.Fatal(err)
		}
		select {
		case got := <-term.Keys():
			if got != key {
				t.Errorf("%d was pressed, %d came", key, got)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%d was pressed, nothing came", key)
		}
	}
}

func TestTheSizeFollowsTheWindow(t *testing.T) {
	p := newPair(t)
	for _, size := range [][2]uint16{{100, 30}, {40, 12}} {
		if err := unix.IoctlSetWinsize(int(p.user.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: size[0], Row: size[1]}); err != nil {
			t.Fatal(err)
		}
		if w, h := terminal.Size(p.side); w != int(size[0]) || h != int(size[1]) {
			t.Errorf("%dx%d, want %v", w, h, size)
		}
	}
}

func TestWhatIsNoTerminalIsLeftAlone(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if terminal.Is(r) {
		t.Error("a pipe is a terminal")
	}
	if _, err := terminal.Open(r, w); err == nil {
		t.Error("a pipe was opened as a terminal")
	}
	if width, height := terminal.Size(w); width != 80 || height != 24 {
		t.Errorf("a pipe has %dx%d", width, height)
	}
}
