// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"encoding/json"
	"errors"
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
	"github.com/holdfast-telemetry/holdfast/internal/extension"
	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/reload"
)

// Sources say where configurations come from, at start and at each reload.
type Sources struct {
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
func (s *Sources) options(texts []config.Text) config.Options {
	return config.Options{URIs: s.URIs, Sets: s.Sets, Texts: texts, Stdin: s.remembered(), Registry: components.Registry(), Strict: s.Strict}
}

// remembered is standard input as often as it is wanted: it can be read only once.
func (s *Sources) remembered() io.Reader {
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
func (s *Sources) Read(ctx context.Context) ([]reload.Text, error) {
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
func (s *Sources) Still(d time.Duration) bool {
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
func (s *Sources) Watched() reload.Reader {
	var files []string
	for _, uri := range s.URIs {
		if config.IsFile(uri) {
			files = append(files, uri)
		}
	}
	if len(files) == 0 {
		return nil
	}
	return watched{&Sources{URIs: files}}
}

// watched reads files again and again. A pipe would be empty afterwards, and is not opened.
type watched struct{ *Sources }

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
	return w.Sources.Read(ctx)
}

// Offer is a configuration that was loaded: what it says, and what it will do.
type Offer struct {
	Config *config.Config
	Plan   *plan.Plan
}

// Load loads what the sources said, or say now where texts is nil. It has no side effect. Errors hold everything there
// is to say about an invalid configuration.
func (s *Sources) Load(ctx context.Context, texts []reload.Text) (*Offer, error) {
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

// Expanded implements reload.Candidate.
func (o *Offer) Expanded() []byte {
	text, err := json.Marshal(o.Config.Effective) // keys are sorted
	if err != nil {
		return []byte(fmt.Sprintf("%#v", o.Config.Effective))
	}
	return text
}

// Settings implements reload.Candidate.
func (o *Offer) Settings() reload.Settings {
	r := &o.Config.Service.Reload
	return reload.Settings{Trial: r.Trial, Preflight: r.Preflight != "off", BadBootFails: r.OnBadBoot == "fail", Watch: r.Watch}
}

// Storages implements reload.Candidate.
func (o *Offer) Storages() []string { return storageDirs(o.Config) }

// storageDirs are the directories of the storages in use, in the service's order.
func storageDirs(cfg *config.Config) []string {
	out := []string{}
	for _, id := range cfg.Service.Extensions {
		if c := cfg.Components[config.Extensions][id]; c != nil {
			if set, ok := c.Config.(*journal.Config); ok {
				out = append(out, set.Directory)
			}
		}
	}
	return out
}

// same reports whether a component says the same in two configurations.
func same(a, b *config.Config, kind config.Kind, id string) bool {
	x, y := a.Components[kind][id], b.Components[kind][id]
	return x != nil && y != nil && x.Type == y.Type && a.HashOf(kind, id) == b.HashOf(kind, id)
}

// Load implements reload.Builder.
func (a *App) Load(ctx context.Context, texts []reload.Text) (reload.Candidate, error) {
	o, err := a.opts.Sources.Load(ctx, texts)
	if err != nil {
		return nil, err // no candidate, rather than one that is nil
	}
	return o, nil
}

// Prepare implements reload.Builder. The first one makes, besides itself, what the application owns.
func (a *App) Prepare(ctx context.Context, c reload.Candidate) (reload.Instance, error) {
	o := c.(*Offer)
	if extension.Phase(a.phase.Load()) == extension.Starting {
		g := a.generation(o, nil)
		if err := a.begin(ctx, g); err != nil {
			return nil, err
		}
		return g, nil
	}
	g := a.generation(o, a.now())
	if err := g.prepare(ctx); err != nil {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), backDoorTimeout)
		defer cancel()
		return nil, errors.Join(err, g.unwind(undo))
	}
	if section(g.cfg, "telemetry") != section(g.before.cfg, "telemetry") {
		a.log.Warn("Config: service::telemetry takes effect at the next start")
	}
	return g, nil
}

// section is a part of service, in words that are equal where it is.
func section(cfg *config.Config, key string) string {
	service, _ := cfg.Effective["service"].(map[string]any)
	text, err := json.Marshal(service[key])
	if err != nil {
		return fmt.Sprintf("%#v", service[key])
	}
	return string(text)
}

var (
	_ reload.Builder   = (*App)(nil)
	_ reload.Reader    = (*Sources)(nil)
	_ reload.Still     = (*Sources)(nil)
	_ reload.Candidate = (*Offer)(nil)
)
