// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package page shows a status to people in a browser: one page without anything from elsewhere, the same as JSON, and
// both as a stream.
//
// It stands beside the path of data and is handed copies. It promises to be read only; to answer nobody who asks by a
// name that is not its own, so that no other page can read it; to send the browser rules that load and send nothing
// elsewhere; to serve a bounded number of streams and to let go of a reader that does not keep up; and to show nothing of
// a configuration but where it came from and its hash. The page itself works out no verdict: all words come with the
// status. It refuses to know where a status comes from.
package page

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"io/fs"
	"net/http"
	"path"
	"sync"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/extension"
	"github.com/holdfast-telemetry/holdfast/internal/status"
)

//go:embed assets
var assets embed.FS

// Settings say what a page shows and to whom.
type Settings struct {
	// Status is how the process is now. It may take two seconds. An error says in words for people that nobody answers,
	// where the page outlives what it shows.
	Status func(context.Context) (status.Status, error)
	// Events are up to so many, newest first, and the number of the last there was; nil = they come with the status.
	Events func(most int) ([]status.Event, uint64)
	// History is how many events are shown at most.
	History int
	// Endpoint is the address it is served at, Hosts are further names under which it may be asked for.
	Endpoint string
	Hosts    []string
	// Every is how often a stream is sent a status, Patience how long its reader may take to take it; 0 = a second, and ten.
	Every, Patience time.Duration
}

// Bounds of streams.
const (
	maxStreams     = 16
	streamEvery    = time.Second
	streamPatience = 10 * time.Second
)

// Page is the handler of everything below /.
type Page struct {
	set     Settings
	mux     http.Handler
	streams chan struct{} // a place for each
	closed  chan struct{}
	once    sync.Once
}

// New returns a page. Close ends its streams.
func New(set Settings) *Page {
	if set.Every <= 0 {
		set.Every = streamEvery
	}
	if set.Patience <= 0 {
		set.Patience = streamPatience
	}
	p := &Page{set: set, streams: make(chan struct{}, maxStreams), closed: make(chan struct{})}
	short := http.NewServeMux()
	short.HandleFunc("/{$}", p.asset("index.html", "text/html; charset=utf-8"))
	short.HandleFunc("/page.js", p.asset("page.js", "text/javascript; charset=utf-8"))
	short.HandleFunc("/graph.js", p.asset("graph.js", "text/javascript; charset=utf-8"))
	short.HandleFunc("/page.css", p.asset("page.css", "text/css; charset=utf-8"))
	short.HandleFunc("/icon.svg", p.asset("icon.svg", "image/svg+xml"))
	short.HandleFunc("/status.json", p.answer)
	all := http.NewServeMux()
	all.Handle("/", extension.Limit(short))
	all.HandleFunc("/events", p.stream)
	p.mux = extension.ReadOnly(all)
	return p
}

// Close ends the streams, and every one that is begun later. It may be called more than once.
func (p *Page) Close() { p.once.Do(func() { close(p.closed) }) }

// ServeHTTP implements http.Handler.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rules(w.Header())
	if !p.known(r.Host) {
		http.Error(w, "this page is not served under that name; names are added with the key hosts of the status extension, "+
			"or --status-host", http.StatusMisdirectedRequest)
		return
	}
	p.mux.ServeHTTP(w, r)
}

func (p *Page) asset(name, kind string) http.HandlerFunc {
	text, err := fs.ReadFile(assets, path.Join("assets", name))
	if err != nil {
		panic("page: " + err.Error()) // it is part of the program
	}
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", kind)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(text))
	}
}

// answer is /status.json: the status with all events there are.
func (p *Page) answer(w http.ResponseWriter, r *http.Request) {
	text, _, err := p.render(r.Context(), 0)
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		text, _ = json.Marshal(silence{err.Error()}) // a string can be shown
	}
	_, _ = w.Write(append(text, '\n')) // who asked has gone
}

// silence is what is shown of a process that does not answer.
type silence struct {
	Error string `json:"error"`
}

// render is the status as JSON. Its events are left out if the last one is known already, which is returned.
func (p *Page) render(ctx context.Context, known uint64) (text []byte, last uint64, err error) {
	s, err := p.set.Status(ctx)
	if err != nil {
		return nil, 0, err
	}
	if p.set.Events != nil {
		s.Events, last = p.set.Events(p.set.History)
	} else if len(s.Events) > 0 {
		last = s.Events[0].ID
	}
	if known > 0 && known == last {
		s.Events = nil
	}
	text, err = json.Marshal(&s)
	return text, last, err
}
