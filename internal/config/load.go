// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.opentelemetry.io/collector/confmap"
)

// Options say what to load and how strictly.
type Options struct {
	URIs  []string  // merged in order; a bare path is file:, - is Stdin
	Sets  []string  // key=value, applied after all URIs
	Stdin io.Reader // nil = there is none
	// Texts are what the URIs said when they were read, in their order; nil = they are read now.
	Texts []Text
	// Registry holds the types there are.
	Registry *Registry
	// Strict makes warnings and supplied parts errors.
	Strict bool
	// Fragment assumes what is referenced and not defined, and does not ask for what is missing around it. What it
	// returns cannot be run.
	Fragment bool
	// Here says that this host is the target, Portable that it is not: they turn findings about files and
	// directories into errors or warnings (reload, section 4).
	Here, Portable bool
}

// Load reads, merges, expands, translates, completes and checks a configuration. Findings of a valid one are in
// Config.Findings. An *InvalidError holds everything there is to say about an invalid one; any other error is about
// reading. It opens nothing but the sources.
func Load(ctx context.Context, opts Options) (*Config, error) {
	docs, sources, sum, err := read(ctx, &opts)
	if err != nil {
		return nil, err
	}
	for _, s := range opts.Sets {
		d, err := setDocument(s)
		if err != nil {
			return nil, err
		}
		docs = append(docs, d)
	}
	l := loader{opts: &opts, docs: docs, types: newTypes(opts.Registry), supplied: map[string]Position{},
		assumed: map[string]bool{}, cfg: &Config{
			Sources: sources, Hash: sum, Components: map[Kind]map[string]*Component{}, Fragment: opts.Fragment, docs: docs,
		}}
	l.load(ctx)
	return l.conclude()
}

// loader carries one Load from step to step. Each step adds what it finds, and the next goes on with what is left, so
// that everything is reported at once.
type loader struct {
	opts     *Options
	docs     documents
	types    types
	conf     *confmap.Conf  // merged and expanded; remembers how values were written
	tree     map[string]any // the same as plain values
	stale    bool           // conf was edited since
	cfg      *Config
	supplied map[string]Position // by path: where they were asked for
	// unexpanded holds the paths whose ${} could not be read.
	unexpanded map[string]bool
	assumed    map[string]bool // what a fragment was said to leave out
	findings   []Finding
}

func (l *loader) load(ctx context.Context) {
	unread := false
	for i, d := range l.docs {
		d.source = i
		l.findings = append(l.findings, d.parse()...)
		unread = unread || d.tree == nil && hasError(l.findings)
	}
	if unread {
		return
	}
	conf, expanded := expand(ctx, l.docs)
	l.findings = append(l.findings, expanded.findings...)
	l.unexpanded = expanded.unread
	if conf == nil {
		return
	}
	l.use(conf)
	l.cfg.Original = l.tree
	l.checkSections()
	l.translate()
	l.supply()
	l.decodeComponents()
	l.decodeService()
	l.checkHost()
	l.cfg.Effective = l.tree
}

// refresh makes edits of conf visible in the tree.
func (l *loader) refresh() {
	if l.stale {
		l.use(l.conf)
		l.stale = false
	}
}

// use makes conf the tree of the steps that follow.
func (l *loader) use(conf *confmap.Conf) {
	l.conf, l.tree = conf, conf.ToStringMap()
}

func (l *loader) conclude() (*Config, error) {
	if l.opts.Strict {
		for i := range l.findings {
			if l.findings[i].Severity == Warning {
				l.findings[i].Severity = Error
			}
		}
	}
	Sort(l.findings)
	l.cfg.Findings = l.findings
	if hasError(l.findings) {
		return nil, &InvalidError{Findings: l.findings, Partial: l.cfg}
	}
	return l.cfg, nil
}

func hasError(findings []Finding) bool {
	return slices.ContainsFunc(findings, func(f Finding) bool { return f.Severity == Error })
}

// Sort puts findings in the order of their places: sources as they were given, then line and column.
func Sort(findings []Finding) {
	slices.SortStableFunc(findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Position.source, b.Position.source), cmp.Compare(a.Position.Line, b.Position.Line),
			cmp.Compare(a.Position.Column, b.Position.Column), cmp.Compare(a.Component, b.Component),
			cmp.Compare(a.Text, b.Text))
	})
}

// add notes a finding at the place of path.
func (l *loader) add(severity Severity, path, text, hint string) {
	component, key := split(path)
	l.findings = append(l.findings, Finding{
		Severity: severity, Position: l.docs.where(path), Component: component, Key: key, Text: text, Hint: hint,
	})
}

func (l *loader) fail(path, hint, format string, args ...any) {
	l.add(Error, path, fmt.Sprintf(format, args...), hint)
}

// checkSections refuses top-level keys that are none.
func (l *loader) checkSections() {
	sections := []string{"service"}
	for _, k := range Kinds {
		sections = append(sections, string(k))
	}
	for _, k := range sortedKeys(l.tree) {
		if !slices.Contains(sections, k) {
			l.fail(k, hint(k, sections, "keys"), "unknown key %q", k)
			continue
		}
		if v := l.tree[k]; v != nil {
			if _, ok := v.(map[string]any); !ok {
				l.fail(k, "", "%s: expected a mapping, got %s", k, describe(v))
			}
		}
	}
}

// section returns one section's entries.
func (l *loader) section(k Kind) map[string]any {
	m, _ := l.tree[string(k)].(map[string]any)
	return m
}

// typeAndName parts an ID.
func typeAndName(id string) (typ, name string) {
	typ, name, _ = strings.Cut(id, "/")
	return strings.TrimSpace(typ), strings.TrimSpace(name)
}
