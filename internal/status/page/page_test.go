// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package page_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-telemetry/holdfast/internal/status"
	"github.com/holdfast-telemetry/holdfast/internal/status/page"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// served is a page on a real listener.
func served(t *testing.T, change func(*page.Settings)) (*page.Page, *httptest.Server) {
	t.Helper()
	history := status.NewHistory(10)
	history.Add(status.Event{Time: time.Now(), Level: "warn", Text: "otlp/a is down"})
	set := page.Settings{
		Status: func(context.Context) (status.Status, error) {
			s := status.Status{Phase: "running", Version: "1", Pipelines: []status.Pipeline{{ID: "traces", Accepting: true}}}
			status.Judge(&s)
			return s, nil
		},
		Events: history.Newest, History: 10, Endpoint: "localhost:13134", Every: 5 * time.Millisecond,
	}
	if change != nil {
		change(&set)
	}
	p := page.New(set)
	s := httptest.NewServer(p)
	t.Cleanup(func() { p.Close(); s.Close(); http.DefaultClient.CloseIdleConnections() })
	return p, s
}

func get(t *testing.T, method, url, host string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if host != "" {
		req.Host = host
	}
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestThePageAndItsPartsComeWithStrictRules(t *testing.T) {
	_, s := served(t, nil)
	for path, kind := range map[string]string{
		"/": "text/html; charset=utf-8", "/page.js": "text/javascript; charset=utf-8", "/graph.js": "text/javascript; charset=utf-8",
		"/page.css": "text/css; charset=utf-8", "/icon.svg": "image/svg+xml", "/status.json": "application/json",
	} {
		r := get(t, http.MethodGet, s.URL+path, "")
		text := body(t, r)
		h := r.Header
		if r.StatusCode != http.StatusOK || h.Get("Content-Type") != kind || len(text) < 100 {
			t.Errorf("%s: %s, %s, %d bytes", path, r.Status, h.Get("Content-Type"), len(text))
		}
		if csp := h.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'self'") || !strings.Contains(csp, "frame-ancestors 'none'") ||
			strings.Contains(csp, "unsafe") {
			t.Errorf("%s: content security policy %q", path, csp)
		}
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != "no-referrer" || h.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %v", path, h)
		}
		for name := range h {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("%s: %s", path, name)
			}
		}
		if r := get(t, http.MethodHead, s.URL+path, ""); r.StatusCode != http.StatusOK || body(t, r) != "" {
			t.Errorf("HEAD %s: %s", path, r.Status)
		}
	}
	if r := get(t, http.MethodGet, s.URL+"/../etc/passwd", ""); r.StatusCode != http.StatusNotFound || body(t, r) == "" {
		t.Errorf("what is not there: %s", r.Status)
	}
}

// The rules forbid what is written into a page: a browser would not run it, and nobody would see why.
func TestThePageHasNothingInlineAndNothingFromElsewhere(t *testing.T) {
	_, s := served(t, nil)
	html := body(t, get(t, http.MethodGet, s.URL+"/", ""))
	for what, pattern := range map[string]string{
		"a script of its own": `<script[^>]*>[^<]`, "a style of its own": `<style|style=`, "a handler": `\son[a-z]+=`,
	} {
		if m := regexp.MustCompile(pattern).FindString(html); m != "" {
			t.Errorf("the page has %s: %q", what, m)
		}
	}
	for _, path := range []string{"/", "/page.js", "/graph.js", "/page.css", "/icon.svg"} {
		text := body(t, get(t, http.MethodGet, s.URL+path, ""))
		for _, m := range regexp.MustCompile(`(?:https?:)?//[a-z0-9][a-z0-9.-]*\.[a-z]{2,}[^\s"']*`).FindAllString(text, -1) {
			if m != "http://www.w3.org/2000/svg" {
				t.Errorf("%s names another place: %s", path, m)
			}
		}
	}
	if !strings.Contains(html, "<noscript>") || !strings.Contains(html, "holdfast status") {
		t.Error("who has no JavaScript is not told what to do")
	}
}

func TestOnlyGetAndHeadAreAnswered(t *testing.T) {
	_, s := served(t, nil)
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions} {
		for _, path := range []string{"/", "/status.json", "/events"} {
			r := get(t, method, s.URL+path, "")
			if body(t, r); r.StatusCode != http.StatusMethodNotAllowed || r.Header.Get("Allow") != "GET, HEAD" {
				t.Errorf("%s %s: %s", method, path, r.Status)
			}
		}
	}
}

func TestNobodyReadsThePageThroughANameOfTheirOwn(t *testing.T) {
	for _, tc := range []struct{ endpoint, hosts, good, bad string }{
		{"localhost:13134", "", "localhost localhost:13134 127.0.0.1:13134 127.0.0.1 [::1]:13134 LOCALHOST:1 localhost.:5",
			"evil.example evil.example:13134 localhost.evil.example 10.0.0.1 10.0.0.1:13134 127.0.0.1.evil.example"},
		{"127.44.1.1:13134", "", "127.44.1.1:13134 localhost:9 127.0.0.1", "evil.example 10.1.1.1"},
		{"0.0.0.0:13134", "", "localhost 10.0.0.1:13134 [fe80::1]:1", "evil.example status.internal"},
		{":13134", "status.internal", "status.internal status.internal:13134 Status.Internal 10.0.0.1", "evil.example"},
		{"10.0.0.1:13134", "", "10.0.0.1:13134 10.0.0.1", "localhost 127.0.0.1 10.0.0.2 evil.example"},
		{"gateway.internal:13134", "a.example, b.example:80", "gateway.internal:13134 a.example:1 b.example:2", "10.0.0.1 evil.example localhost"},
	} {
		_, s := served(t, func(set *page.Settings) {
			set.Endpoint = tc.endpoint
			for _, h := range strings.Split(tc.hosts, ",") {
				set.Hosts = append(set.Hosts, strings.TrimSpace(h))
			}
		})
		ask := func(hosts string, want int) {
			for _, host := range strings.Fields(hosts) {
				for _, path := range []string{"/", "/status.json"} {
					r := get(t, http.MethodGet, s.URL+path, host)
					if text := body(t, r); r.StatusCode != want || want != http.StatusOK && strings.Contains(text, "verdict") {
						t.Errorf("at %s, %s asked for as %s: %s", tc.endpoint, path, host, r.Status)
					}
				}
			}
		}
		ask(tc.good, http.StatusOK)
		ask(tc.bad, http.StatusMisdirectedRequest)
	}
}
