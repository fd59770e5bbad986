// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package sources is where configurations come from: documents named on the command line, read anew for every reload, and
// what they offer once they are loaded.
//
// It stands before everything that is built, between the loader and the reload that decides. Loading has no side effect, and
// standard input can be read as often as it is wanted. It keeps no generation and builds nothing.
package sources

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-telemetry/holdfast/internal/app/components"
	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/reload"
)

// Set says where configurations come from, at start and at each reload.
type Set struct {
	URIs, Sets []string
	Stdin      io.Reader // nil = there is none
	Strict     bool      // warnings are errors

	stdin struct {
		sync.Mutex
		text string
		read bool
	}
}

// options are how texts are loaded; nil = the sources are read now.
func (s *Set) options(texts []config.Text) config.Options {
	return config.Options{URIs: s.URIs, Sets: s.Sets, Texts: texts, Stdin: s.remembered(), Registry: components.Registry(), Strict: s.Strict}
}

// remembered is standard input as often as it is wanted: it can be read only once.
func (s *Set) remembered() io.Reader {
	if s.Stdin == nil || !slices.Contains(s.URIs, "-") {
		return s.Stdin
	}
	s.stdin.Lock()
	defer s.stdin.Unlock()
	if !s.stdin.read {
		text, err := io.ReadAll(io.LimitReader(s.Stdin, maxStdin))
		if err != nil {
			return s.Stdin // says so itself
		}
		s.stdin.text, s.stdin.read = string(text), true
	}
	return strings.NewReader(s.stdin.text)
}

// maxStdin is a little more than a configuration may have, so that one that is too long is found to be.
const maxStdin = 9 << 20

// Read implements reload.Reader.
func (s *Set) Read(ctx context.Context) ([]reload.Text, error) {
	texts, err := config.Texts(ctx, s.options(nil))
	if err != nil {
		return nil, err
	}
	out := make([]reload.Text, len(texts))
	for i, t := range texts {
		out[i] = reload.Text{URI: t.URI, Text: t.Text}
	}
	return out, nil
}

// Still implements reload.Still: of files it looks at the time of the last change of their inodes, which nobody can set,
// and which a mounted ConfigMap has from before it was put in place. Sources that are no files but texts never change.
func (s *Set) Still(d time.Duration) bool {
	now := time.Now()
	for _, uri := range s.URIs {
		scheme, _, _ := strings.Cut(uri, ":")
		switch {
		case config.IsFile(uri):
			var st unix.Stat_t
			if err := unix.Stat(strings.TrimPrefix(uri, "file:"), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
				return false
			}
			if now.Sub(time.Unix(st.Ctim.Unix())) < d { // also what changes in the future
				return false
			}
		case scheme != "env" && scheme != "yaml":
			return false
		}
	}
	return true
}

// Watched are those sources whose changes can be seen: files. It is nil where there are none.
func (s *Set) Watched() reload.Reader {
	var files []string
	for _, uri := range s.URIs {
		if config.IsFile(uri) {
			files = append(files, uri)
		}
	}
	if len(files) == 0 {
		return nil
	}
	return watched{&Set{URIs: files}}
}

// watched reads files again and again. A pipe would be empty afterwards, and is not opened.
type watched struct{ *Set }

// Read implements reload.Reader.
func (w watched) Read(ctx context.Context) ([]reload.Text, error) {
	for _, uri := range w.URIs {
		path := strings.TrimPrefix(uri, "file:")
		info, err := os.Stat(path)
		switch {
		case err != nil:
			return nil, err
		case !info.Mode().IsRegular():
			return nil, fmt.Errorf("%s is not a regular file", path)
		}
	}
	return w.Set.Read(ctx)
}

// Load loads what the sources said, or say now where texts is nil. It has no side effect. Errors hold everything there
// is to say about an invalid configuration.
func (s *Set) Load(ctx context.Context, texts []reload.Text) (*Offer, error) {
	var known []config.Text
	for _, t := range texts {
		known = append(known, config.Text{URI: t.URI, Text: t.Text})
	}
	cfg, err := config.Load(ctx, s.options(known))
	if err != nil {
		return nil, err
	}
	p, findings := plan.Build(cfg, components.ExporterQueue)
	for _, x := range findings {
		if x.Severity == config.Error || s.Strict && x.Severity == config.Warning {
			return nil, &config.InvalidError{Findings: findings}
		}
	}
	return &Offer{Config: cfg, Plan: p}, nil
}

var (
	_ reload.Reader = (*Set)(nil)
	_ reload.Still  = (*Set)(nil)
)
