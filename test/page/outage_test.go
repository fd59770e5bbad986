// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package page

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// demo is an outage under way.
type demo struct {
	*testing.T
	lines chan string
	page  string
	state string // directory of its collector
}

// play starts holdfast demo, and waits until its page is served.
func play(t *testing.T) *demo {
	t.Helper()
	length := os.Getenv("HOLDFAST_DEMO_SECONDS")
	if length == "" {
		length = "50"
	}
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program(t), "demo", "--seconds", length, "--status", "127.0.0.1:0", "--dir", dir)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) } // it ends what it started
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d := &demo{T: t, state: filepath.Join(dir, "outage", "state"), lines: make(chan string, 10000)} // more than a demo says
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(d.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			d.lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-read
		_ = cmd.Wait() // it was interrupted, unless it had ended; its verdict is somebody else's test
	})
	line := d.until("the page: ")
	d.page = line[strings.Index(line, "http://"):]
	return d
}

// until waits for a line of the demo.
func (d *demo) until(words string) string {
	d.Helper()
	timer := time.NewTimer(2 * limit)
	defer timer.Stop()
	for {
		select {
		case line, ok := <-d.lines:
			if !ok {
				d.Fatalf("the demo ended before it said %q", words)
			}
			if strings.Contains(line, words) {
				return line
			}
		case <-timer.C:
			d.Fatalf("the demo does not say %q", words)
		}
	}
}

var digits = regexp.MustCompile(`[\d,]+(\.\d)?`)

// figure is the first number in a text.
func figure(text string) float64 {
	n, err := strconv.ParseFloat(strings.ReplaceAll(digits.FindString(text), ",", ""), 64)
	if err != nil {
		return -1
	}
	return n
}

// level is the box of the picture with the name.
const level = `#picture g:has(text.name[data-name="NAME"])`

func box(name string) string { return strings.ReplaceAll(level, "NAME", name) }

// flows waits until most of what is sent goes to a level.
func (b *tab) flows(name string) {
	b.Helper()
	for deadline := time.Now().Add(limit); figure(b.text(box(name)+" .rate")) < 2500; b.rest(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatalf("%s takes %s", name, b.text(box(name)+" .rate"))
		}
	}
}

func TestATiredPersonSeesInEveryPhaseOfAnOutageWhatIsGoingOn(t *testing.T) {
	browserPath(t)
	d := play(t)
	b := open(t, d.page)
	w := watch(t, d.state)

	b.shows("#verdict", "ok", "All is well", "items/s come in and go out", "Nothing lost")
	b.shows(box("primary"), "serving")
	b.shows(box("secondary"), "standby")
	b.shows(box("emergency file"), "ready")
	b.shows("#live", "live")
	b.flows("primary")
	b.look("well")
	if in := figure(b.text(box("otlp") + " .rate")); in < 3000 || in > 12000 {
		t.Errorf("the receiver takes %v items a second, about 6,000 are sent", in)
	}

	d.until("the primary goes away")
	b.shows("#verdict", "degraded", "Primary down for ", "(connection refused)", "Everything goes to secondary", "Nothing lost")
	b.shows(box("primary"), "down for ", "connection refused")
	b.shows(box("secondary"), "serving")
	b.shows("#events", "otlp_grpc/primary is down, data goes to the next level: connection refused", "data goes to otlp_grpc/secondary now")
	b.shows("#levels", "connection refused", "next probe in ")
	b.shows(box("primary")+" .rate", "0/s") // after the seconds over which a rate is taken
	b.flows("secondary")
	b.look("primary-down")
	w.shows(" DEGRADED ", "Primary down for ", "Everything goes to secondary", "connection refused", "serving")
	w.photograph("top-primary-down")

	d.until("kill -9")
	b.shows("#verdict", "Primary down for ", "Everything goes to secondary")
	b.shows("#events", "Holdfast starts")

	d.until("the secondary goes away too")
	b.shows("#verdict", "degraded", "Primary and secondary down", "Everything goes to the emergency file", "Nothing lost",
		"safe in the emergency file until a backend is back")
	b.shows(box("emergency file"), "serving", "items in it, safe")
	b.flows("emergency file")
	b.look("all-down")
	w.shows(" DEGRADED ", "Primary and secondary down for ", "Everything goes to the emergency file", "items in it, safe")
	w.photograph("top-all-down")

	d.until("both come back")
	b.shows(box("primary"), "serving|ramping")
	b.shows("#events", "backfill begins")
	b.look("returning")
	b.shows("#verdict", "ok", "All is well", "Nothing lost")
	b.shows("#books", "every item accounted for")
	b.look("recovered")
	w.shows(" OK ", "All is well.")
	w.press("q")

	b.stays()
	if n := b.number(`document.querySelectorAll("#events li").length`); n < 8 || n > 100 {
		t.Errorf("%v events are listed", n)
	}
}
