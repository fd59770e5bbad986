// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package page

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"html"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"golang.org/x/sys/unix"
)

// terminal is holdfast top on a terminal of its own.
type terminal struct {
	*testing.T
	user *os.File
	cmd  *exec.Cmd
	over chan error
	mu   sync.Mutex
	told bytes.Buffer
}

const (
	columns = 100
	rows    = 30
)

// watch runs holdfast top for an instance.
func watch(t *testing.T, stateDir string) *terminal {
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
	w := &terminal{T: t, user: user, over: make(chan error, 1)}
	w.resize(columns, rows)
	w.cmd = exec.Command(program(t), "top", "--state-dir", stateDir, "--every", "200ms")
	w.cmd.Env = append(os.Environ(), "TERM=xterm-256color", "LC_ALL=C.UTF-8", "NO_COLOR=")
	w.cmd.Stdin, w.cmd.Stdout, w.cmd.Stderr = side, side, side
	w.cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = side.Close() // the process has it
	read := make(chan struct{})
	go func() {
		defer close(read)
		b := make([]byte, 64<<10)
		for {
			n, err := user.Read(b)
			w.mu.Lock()
			w.told.Write(b[:n])
			w.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	go func() { w.over <- w.cmd.Wait() }()
	t.Cleanup(func() {
		_ = w.cmd.Process.Kill() // it has ended, unless the test failed
		<-read
		_ = user.Close()
	})
	return w
}

func (w *terminal) resize(columns, rows uint16) {
	w.Helper()
	if err := unix.IoctlSetWinsize(int(w.user.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: rows}); err != nil {
		w.Fatal(err)
	}
}

var frameEnd = "\x1b[J\x1b[?2026l"

// frame is the last whole frame that was drawn.
func (w *terminal) frame() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.told.String()
	end := strings.LastIndex(all, frameEnd)
	if end < 0 {
		return ""
	}
	begin := strings.LastIndex(all[:end], "\x1b[?2026h\x1b[H")
	return strings.NewReplacer("\x1b[K", "", "\r", "").Replace(all[begin+len("\x1b[?2026h\x1b[H") : end])
}

var sgr = regexp.MustCompile("\x1b\\[([0-9;]*)m")

// shows waits for a frame that says everything.
func (w *terminal) shows(words ...string) {
	w.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	text := ""
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); <-tick.C {
		text = sgr.ReplaceAllString(w.frame(), "")
		missing := false
		for _, word := range words {
			missing = missing || !strings.Contains(text, word)
		}
		if !missing {
			return
		}
	}
	w.Fatalf("no frame shows %q, the last is\n%s", words, text)
}

// press presses a key, and waits for the end.
func (w *terminal) press(key string) {
	w.Helper()
	if _, err := w.user.WriteString(key); err != nil {
		w.Fatal(err)
	}
	select {
	case err := <-w.over:
		if err != nil {
			w.Errorf("it ends with %v", err)
		}
	case <-time.After(limit):
		w.Fatalf("%q does not end it", key)
	}
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); {
		w.mu.Lock()
		told := w.told.String()
		w.mu.Unlock()
		if strings.HasSuffix(told, "\x1b[?7h\x1b[?25h\x1b[?1049l") {
			return
		}
		timer := time.NewTimer(10 * time.Millisecond)
		<-timer.C
	}
	w.Errorf("the terminal is not given back: %q", w.told.String()[max(w.told.Len()-80, 0):])
}

// looks are the colours of a terminal.
var looks = map[string]string{"1": "b", "2": "dim", "31": "r", "32": "g", "33": "y", "36": "c", "31;7": "R", "32;7": "G", "33;7": "Y"}

// picture is a frame as a page that looks like a terminal.
func framed(frame string) string {
	var b strings.Builder
	b.WriteString(`<!doctype html><meta charset=utf-8><style>body{margin:0;background:#10151c;color:#d6dde6}
pre{font:15px/1.32 "DejaVu Sans Mono","Liberation Mono",monospace;margin:0;padding:14px 16px;display:inline-block}
.b{font-weight:700;color:#fff}.dim{color:#8592a2}.r{color:#ff8b80}.g{color:#5fd39b}.y{color:#f5b944}.c{color:#7fc4ff}
.R{background:#ff8b80;color:#10151c;font-weight:700}.G{background:#5fd39b;color:#10151c;font-weight:700}.Y{background:#f5b944;color:#10151c;font-weight:700}</style><pre id=frame>`)
	at, open := 0, false
	for _, m := range sgr.FindAllStringSubmatchIndex(frame, -1) {
		b.WriteString(html.EscapeString(frame[at:m[0]]))
		if open {
			b.WriteString("</span>")
		}
		code := frame[m[2]:m[3]]
		if open = code != "0"; open {
			b.WriteString(`<span class="` + looks[code] + `">`)
		}
		at = m[1]
	}
	b.WriteString(html.EscapeString(frame[at:]) + "</pre>")
	return "data:text/html;base64," + base64.StdEncoding.EncodeToString([]byte(b.String()))
}

// photograph takes a picture of the frame that is shown, where pictures are wanted.
func (w *terminal) photograph(name string) {
	w.Helper()
	if os.Getenv("HOLDFAST_PICTURES") == "" {
		return
	}
	b := open(w.T, framed(w.frame()))
	var size []int64
	b.run(chromedp.Evaluate(`(() => { const r = document.getElementById("frame").getBoundingClientRect(); return [Math.ceil(r.width), Math.ceil(r.height)]; })()`, &size))
	b.run(emulation.SetDeviceMetricsOverride(size[0], size[1], 1, false))
	b.picture(name)
}

func TestTopOnARealTerminal(t *testing.T) {
	c := newCollector(t)
	c.start()
	w := watch(t, filepath.Join(c.dir, "state"))
	w.shows(" OK ", "All is well.", "vault", "serving", "WHAT HAPPENED", "Everything is ready", "q quits")
	if n := strings.Count(w.frame(), "\n") + 1; n != rows {
		t.Errorf("a frame has %d lines on a screen of %d", n, rows)
	}
	w.resize(40, 12)
	_ = w.cmd.Process.Signal(unix.SIGWINCH) // a terminal does
	w.shows("All is well.")
	for deadline := time.Now().Add(limit); strings.Count(w.frame(), "\n")+1 != 12; {
		if time.Now().After(deadline) {
			t.Fatalf("a frame has %d lines on a screen of 12", strings.Count(w.frame(), "\n")+1)
		}
		timer := time.NewTimer(20 * time.Millisecond)
		<-timer.C
	}
	c.kill()
	w.shows("NOT ANSWERING", "Not answering since ", "Below is how it was then")
	c.start()
	w.shows(" OK ", "All is well.")
	w.press("q")

	w = watch(t, filepath.Join(c.dir, "state"))
	w.shows("All is well.")
	w.press("\x03") // Ctrl-C
}
