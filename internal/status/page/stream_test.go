// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package page_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/status"
	"github.com/holdfast-telemetry/holdfast/internal/status/page"
)

// message is one server-sent event.
type message struct{ kind, data string }

// listen opens a stream and returns its messages.
func listen(t *testing.T, url string) (<-chan message, func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if kind := r.Header.Get("Content-Type"); r.StatusCode != http.StatusOK || kind != "text/event-stream" {
		t.Fatalf("%s, %s: %s", r.Status, kind, body(t, r))
	}
	out := make(chan message)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(out)
		var m message
		lines := bufio.NewScanner(r.Body)
		for lines.Buffer(nil, 1<<20); lines.Scan(); {
			switch key, value, _ := strings.Cut(lines.Text(), ": "); key {
			case "event":
				m.kind = value
			case "data":
				m.data = value
			case "":
				if m.kind == "" {
					continue // it was the retry line
				}
				select {
				case out <- m:
				case <-ctx.Done():
					return
				}
				m = message{}
			}
		}
	}()
	return out, func() { cancel(); <-done; r.Body.Close() }
}

func TestAStreamTellsTheStatusAgainAndAgainAndEventsWhenThereAreNewOnes(t *testing.T) {
	history := status.NewHistory(10)
	history.Add(status.Event{Text: "first"})
	_, s := served(t, func(set *page.Settings) { set.Events = history.Newest })
	messages, stop := listen(t, s.URL)
	defer stop()
	next := func() status.Status {
		m := <-messages
		var got status.Status
		if err := json.Unmarshal([]byte(m.data), &got); err != nil || m.kind != "status" || got.Verdict != "ok" || got.Headline == "" {
			t.Fatalf("%+v: %v", m, err)
		}
		return got
	}
	if got := next(); len(got.Events) != 1 || got.Events[0].Text != "first" {
		t.Errorf("at first: %+v", got.Events)
	}
	if got := next(); got.Events != nil {
		t.Errorf("nothing happened: %+v", got.Events)
	}
	history.Add(status.Event{Text: "second"})
	for got := next(); ; got = next() {
		if got.Events != nil {
			if len(got.Events) != 2 || got.Events[0].Text != "second" {
				t.Errorf("after the second: %+v", got.Events)
			}
			return
		}
	}
}

func TestAProcessThatDoesNotAnswerIsSaidToBeSilent(t *testing.T) {
	var away atomic.Bool
	away.Store(true)
	_, s := served(t, func(set *page.Settings) {
		answer := set.Status
		set.Status = func(ctx context.Context) (status.Status, error) {
			if away.Load() {
				return status.Status{}, errors.New("it is dead")
			}
			return answer(ctx)
		}
	})
	if r := get(t, http.MethodGet, s.URL+"/status.json", ""); r.StatusCode != http.StatusServiceUnavailable ||
		!strings.Contains(body(t, r), `{"error":"it is dead"}`) {
		t.Errorf("JSON: %s", r.Status)
	}
	messages, stop := listen(t, s.URL)
	defer stop()
	if m := <-messages; m.kind != "silent" || !strings.Contains(m.data, "it is dead") {
		t.Errorf("%+v", m)
	}
	away.Store(false)
	for m := range messages {
		if m.kind == "status" {
			if !strings.Contains(m.data, "otlp/a is down") {
				t.Errorf("events are not told after a silence: %s", m.data)
			}
			return
		}
	}
}

func TestStreamsAreBoundedAndEndWithThePage(t *testing.T) {
	p, s := served(t, nil)
	var all []<-chan message
	var stops []func()
	for range 16 {
		m, stop := listen(t, s.URL)
		all, stops = append(all, m), append(stops, stop)
	}
	r := get(t, http.MethodGet, s.URL+"/events", "")
	if body(t, r); r.StatusCode != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" {
		t.Errorf("the seventeenth: %s", r.Status)
	}
	if r := get(t, http.MethodGet, s.URL+"/status.json", ""); r.StatusCode != http.StatusOK || body(t, r) == "" {
		t.Errorf("streams keep others from asking: %s", r.Status)
	}
	stops[0]()
	deadline := time.Now().Add(30 * time.Second)
	for {
		r := get(t, http.MethodHead, s.URL+"/events", "")
		if body(t, r); r.StatusCode == http.StatusOK {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the place of one who left is not given to another")
		}
	}
	p.Close()
	for i, m := range all[1:] {
		for range m { // until it is closed
		}
		stops[i+1]()
	}
	messages, stop := listen(t, s.URL)
	defer stop()
	count := 0
	for range messages {
		count++
	}
	if count > 1 {
		t.Errorf("a page that is closed goes on for %d messages", count)
	}
}

// A server's read timeout is that of a request; a stream has none to read, and outlives it.
func TestAStreamOutlivesTheTimeoutsOfItsServer(t *testing.T) {
	p := page.New(page.Settings{Endpoint: "localhost:1", Every: 20 * time.Millisecond,
		Status: func(context.Context) (status.Status, error) { return status.Status{}, nil }})
	s := httptest.NewUnstartedServer(p)
	s.Config.ReadTimeout, s.Config.WriteTimeout = 100*time.Millisecond, 100*time.Millisecond
	s.Start()
	defer s.Close()
	defer http.DefaultClient.CloseIdleConnections()
	defer p.Close()
	messages, stop := listen(t, s.URL)
	defer stop()
	for began := time.Now(); time.Since(began) < 400*time.Millisecond; {
		if _, ok := <-messages; !ok {
			t.Fatalf("it ended after %s", time.Since(began))
		}
	}
}

// Somebody who reads nothing is let go of when a write has waited long enough; what is sent is far more than any buffer.
func TestASlowReaderIsLetGoOf(t *testing.T) {
	left := make(chan struct{})
	history := status.NewHistory(10)
	p := page.New(page.Settings{Endpoint: "localhost:1", Every: time.Millisecond, Patience: 200 * time.Millisecond, History: 10,
		Status: func(context.Context) (status.Status, error) {
			history.Add(status.Event{Text: strings.Repeat("x", 1<<20)})
			return status.Status{}, nil
		}, Events: history.Newest})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(left)
		p.ServeHTTP(w, r)
	}))
	defer s.Close()
	defer p.Close()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-left:
	case <-time.After(60 * time.Second):
		t.Error("one who reads nothing is waited for")
	}
}
