// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package page looks at the status page the way people do: in a browser, beside a real process in a real outage. A module
// of its own, since driving a browser is nothing the product needs. It reads what the page shows, watches that the
// browser asks nobody else and complains of nothing, and takes the pictures of the documents (make page-shots).
package page

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// limit is generous: machines are busy.
const limit = 60 * time.Second

// binary is the program: $HOLDFAST_BINARY, or what is built here once.
var binary = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("HOLDFAST_BINARY"); path != "" {
		return filepath.Abs(path)
	}
	dir, err := os.MkdirTemp("", "holdfast-page-*")
	if err != nil {
		return "", err
	}
	made = dir
	path := filepath.Join(dir, "holdfast")
	build := exec.Command("go", "build", "-C", "../..", "-tags", "grpcnotrace", "-o", path, "./cmd/holdfast")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return path, nil
})

// made is the directory of what was built here.
var made string

func TestMain(m *testing.M) {
	code := m.Run()
	if made != "" {
		_ = os.RemoveAll(made)
	}
	os.Exit(code)
}

func program(t *testing.T) string {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// browserPath is a Chromium; without one the test is skipped, unless nothing may be.
func browserPath(t *testing.T) string {
	t.Helper()
	for _, name := range []string{os.Getenv("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("HOLDFAST_NO_SKIP") != "" {
		t.Fatal("there is no chromium")
	}
	t.Skip("SKIP: there is no chromium, nobody looks at the page (apt-get install chromium, or $CHROMIUM)")
	return ""
}

// tab is one open page.
type tab struct {
	*testing.T
	ctx    context.Context
	origin string

	mu       sync.Mutex
	requests []string // URLs
	trouble  []string // what the console says, and exceptions
}

// open opens a page in a browser of its own, which ends with the test.
func open(t *testing.T, address string) *tab {
	t.Helper()
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(browserPath(t)), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("no-first-run", true), chromedp.Flag("hide-scrollbars", true), chromedp.WindowSize(1280, 800))
	allocated, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(allocated)
	t.Cleanup(cancel)
	b := &tab{T: t, ctx: ctx, origin: address}
	chromedp.ListenTarget(ctx, b.hear)
	b.run(log.Enable(), network.Enable(), chromedp.Navigate(address))
	return b
}

func (b *tab) hear(ev any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch ev := ev.(type) {
	case *network.EventRequestWillBeSent:
		b.requests = append(b.requests, ev.Request.URL)
	case *runtime.EventConsoleAPICalled:
		for _, a := range ev.Args {
			b.trouble = append(b.trouble, fmt.Sprintf("console.%s: %s", ev.Type, a.Value))
		}
	case *runtime.EventExceptionThrown:
		b.trouble = append(b.trouble, "exception: "+ev.ExceptionDetails.Error())
	case *log.EventEntryAdded:
		b.trouble = append(b.trouble, fmt.Sprintf("%s %s: %s %s", ev.Entry.Source, ev.Entry.Level, ev.Entry.Text, ev.Entry.URL))
	}
}

func (b *tab) run(actions ...chromedp.Action) {
	b.Helper()
	if err := b.try(actions...); err != nil {
		b.Fatal(err)
	}
}

// try is bounded, and does not end the browser when its time is over.
func (b *tab) try(actions ...chromedp.Action) error {
	done := make(chan error, 1)
	go func() { done <- chromedp.Run(b.ctx, actions...) }()
	select {
	case err := <-done:
		return err
	case <-time.After(limit):
		return fmt.Errorf("the browser has not answered for %s", limit)
	}
}

// text is what an element shows.
func (b *tab) text(selector string) string {
	b.Helper()
	var out string
	b.run(chromedp.Evaluate(fmt.Sprintf("(document.querySelector(%q) || {innerText: ''}).textContent", selector), &out))
	return out
}

// number is what an expression is.
func (b *tab) number(expression string) float64 {
	b.Helper()
	var out float64
	b.run(chromedp.Evaluate(expression, &out))
	return out
}

// shows waits until an element shows all the words, each of which may be several: "a|b".
func (b *tab) shows(selector string, words ...string) {
	b.Helper()
	deadline := time.Now().Add(limit)
	got := ""
	for time.Now().Before(deadline) {
		got = b.text(selector)
		if !slices.ContainsFunc(words, func(w string) bool {
			return !slices.ContainsFunc(strings.Split(w, "|"), func(one string) bool { return strings.Contains(got, one) })
		}) {
			return
		}
		b.rest(100 * time.Millisecond)
	}
	b.Fatalf("%s does not show %q within %s, but\n%s\nverdict: %s", selector, words, limit, got, b.text("#verdict"))
}

func (b *tab) rest(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-b.ctx.Done():
	}
}

// stays reports whatever the browser complained of but for what is expected, and whoever else it asked.
func (b *tab) stays(expected ...string) {
	b.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	own, err := url.Parse(b.origin)
	if err != nil {
		b.Fatal(err)
	}
	for _, r := range b.requests {
		if u, err := url.Parse(r); err != nil || u.Host != own.Host || u.Scheme != "http" {
			b.Errorf("the page asks elsewhere: %s", r)
		}
	}
	if len(b.requests) < 5 {
		b.Errorf("only %d requests were seen: nobody watches", len(b.requests))
	}
	for _, text := range b.trouble {
		if !slices.ContainsFunc(expected, func(e string) bool { return strings.Contains(text, e) }) {
			b.Errorf("the browser complains: %s", text)
		}
	}
}

// dark and light are what a browser says its user likes.
const (
	dark  = "dark"
	light = "light"
)

// screen is what somebody looks at the page with.
type screen struct {
	name          string
	width, height int64
	scheme        string
}

var screens = []screen{
	{"desk-light", 1280, 800, light}, {"desk-dark", 1280, 800, dark}, {"phone-light", 390, 844, light}, {"phone-dark", 390, 844, dark},
}

// look shows the page on every screen, checks that nothing is cut off or lies upon another thing, and takes a picture of
// it where pictures are wanted: NAME-SCREEN.png.
func (b *tab) look(name string) {
	b.Helper()
	began := time.Now()
	defer func() { b.Logf("%s was looked at for %s", name, time.Since(began).Round(time.Millisecond)) }()
	for _, s := range screens {
		b.run(emulation.SetDeviceMetricsOverride(s.width, s.height, 1, s.width < 600),
			emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: s.scheme},
				{Name: "prefers-reduced-motion", Value: "reduce"}}))
		b.settled(s)
		b.check(name, s)
		b.picture(name + "-" + s.name)
	}
}

// settled waits until the picture is drawn for the screen.
func (b *tab) settled(s screen) {
	b.Helper()
	const drawn = `(() => { const p = document.querySelector("#picture svg"); const w = document.querySelector("#picture");
		return p && w && Math.abs(p.getBoundingClientRect().width - w.clientWidth) < 2 && innerWidth; })()`
	for deadline := time.Now().Add(limit); ; b.rest(50 * time.Millisecond) {
		var width any
		b.run(chromedp.Evaluate(drawn, &width))
		if w, ok := width.(float64); ok && int64(w) == s.width {
			return
		}
		if time.Now().After(deadline) {
			b.Fatalf("the picture is not drawn for %d pixels: %v", s.width, width)
		}
	}
}

// picture takes one where pictures are wanted.
func (b *tab) picture(name string) {
	b.Helper()
	dir := os.Getenv("HOLDFAST_PICTURES")
	if dir == "" {
		return
	}
	var png []byte
	b.run(chromedp.ActionFunc(func(ctx context.Context) (err error) {
		png, err = cdppage.CaptureScreenshot().WithOptimizeForSpeed(false).Do(ctx)
		return err
	}))
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		b.Fatal(err)
	}
}
