// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.opentelemetry.io/collector/confmap"
)

const (
	// treeScheme names the parsed sources to the resolver.
	treeScheme = "holdfast-source"
	// maxExpanded bounds what ${} may add to all documents, in bytes; maxInText how many one text may hold. Values
	// may hold references to other values, and without bounds a few lines grow to more than any memory.
	maxExpanded = maxTotalBytes
	maxInText   = 100
)

// expand merges the documents in order, maps key by key, lists replaced, and expands ${}. The configuration is nil
// if that cannot be done at all.
func expand(ctx context.Context, docs documents) (*confmap.Conf, *expansions) {
	x := &expansions{
		docs: docs, providers: providers(), values: map[string]*value{}, seen: map[string]bool{}, unread: map[string]bool{},
	}
	if !x.bounded(ctx) {
		return nil, x
	}
	set := confmap.ResolverSettings{DefaultScheme: "env"}
	for i := range docs {
		set.URIs = append(set.URIs, treeScheme+":"+strconv.Itoa(i))
	}
	add := func(p confmap.Provider) {
		set.ProviderFactories = append(set.ProviderFactories,
			confmap.NewProviderFactory(func(confmap.ProviderSettings) confmap.Provider { return p }))
	}
	add(treeProvider(docs))
	for scheme := range x.providers {
		add(watchedProvider{scheme, x})
	}
	r, err := confmap.NewResolver(set)
	if err != nil {
		x.add(Error, "", err.Error(), "")
		return nil, x
	}
	conf, err := r.Resolve(ctx)
	if err != nil {
		x.add(Error, "", err.Error(), "")
		return nil, x
	}
	return conf, x
}

// treeProvider hands the parsed trees to the resolver.
type treeProvider documents

func (treeProvider) Scheme() string                 { return treeScheme }
func (treeProvider) Shutdown(context.Context) error { return nil }

func (p treeProvider) Retrieve(_ context.Context, uri string, _ confmap.WatcherFunc) (*confmap.Retrieved, error) {
	i, err := strconv.Atoi(strings.TrimPrefix(uri, treeScheme+":"))
	if err != nil || i < 0 || i >= len(p) {
		return nil, fmt.Errorf("%q cannot be named in a configuration", uri)
	}
	if p[i].tree == nil {
		return confmap.NewRetrieved(nil)
	}
	return confmap.NewRetrieved(p[i].tree)
}

// expansions reads what ${} names, each once, and gathers what goes wrong, so that one bad reference does not hide
// the next.
type expansions struct {
	docs      documents
	providers map[string]confmap.Provider
	values    map[string]*value
	spent     int64 // bytes handed out
	findings  []Finding
	seen      map[string]bool
	unread    map[string]bool // paths whose value could not be read
}

// value is what a URI holds. Its size is that of its text with all references in it expanded.
type value struct {
	retrieved *confmap.Retrieved
	err       error
	size      int64
	measuring bool
}

// references finds ${} without another one inside.
var references = regexp.MustCompile(`\$\{([^{}]+)\}`)

// bounded reports whether the documents stay within maxExpanded when they are expanded.
func (x *expansions) bounded(ctx context.Context) bool {
	var total int64
	for _, d := range x.docs {
		for _, r := range d.expanded {
			found := references.FindAllStringSubmatch(r.text, -1)
			for _, m := range found {
				if v := x.read(ctx, fullURI(m[1])); v.err == nil {
					total += v.size
				}
			}
			if len(found) > maxInText || total > maxExpanded {
				component, key := split(r.path)
				x.findings = append(x.findings, Finding{
					Severity: Error, Position: r.position, Component: component, Key: key,
					Text: prefix(key, "too large when it is expanded"),
				})
				return false
			}
		}
	}
	return true
}

// fullURI adds the default scheme.
func fullURI(inner string) string {
	if !strings.Contains(inner, ":") {
		return "env:" + inner
	}
	return inner
}

var errCycle = errors.New("refers to itself")

// read retrieves uri once and measures it.
func (x *expansions) read(ctx context.Context, uri string) *value {
	if v, ok := x.values[uri]; ok {
		if v.measuring {
			v.err = fmt.Errorf("%q %w", uri, errCycle)
		}
		return v
	}
	v := &value{measuring: true}
	x.values[uri] = v
	defer func() { v.measuring = false }()
	scheme, _, _ := strings.Cut(uri, ":")
	p, ok := x.providers[scheme]
	if !ok {
		v.err = fmt.Errorf("unknown scheme %q in ${%s}", scheme, uri)
		return v
	}
	got, err := p.Retrieve(ctx, uri, func(*confmap.ChangeEvent) {})
	if err != nil {
		v.err = err
		return v
	}
	v.retrieved = got
	text, err := got.AsString()
	if err != nil {
		return v // a structure without a text of its own; it holds no references
	}
	v.size = int64(len(text))
	found := references.FindAllStringSubmatch(text, -1)
	if len(found) > maxInText && scheme == "env" {
		v.err = fmt.Errorf("%q holds more than %d references", uri, maxInText)
	}
	for _, m := range found {
		inner := x.read(ctx, fullURI(m[1]))
		if errors.Is(inner.err, errCycle) {
			v.err = inner.err
		}
		if v.size += inner.size; v.size > maxExpanded {
			v.err = fmt.Errorf("%q is larger than %d MiB when it is expanded", uri, maxExpanded>>20)
		}
	}
	return v
}

// add notes a finding at every place that refers to uri; without one, where the text says what it is about.
func (x *expansions) add(severity Severity, uri, text, hint string) {
	if x.seen[uri+"\x00"+text] {
		return
	}
	x.seen[uri+"\x00"+text] = true
	found := false
	for _, d := range x.docs {
		for _, r := range d.expanded {
			if uri == "" && !mentions(text, r.text) || uri != "" && !refersTo(r.text, uri) {
				continue
			}
			found = true
			component, key := split(r.path)
			if severity == Error {
				x.unread[r.path] = true
			}
			x.findings = append(x.findings, Finding{
				Severity: severity, Position: r.position, Component: component, Key: key, Text: prefix(key, text),
				Hint: hint,
			})
		}
	}
	if !found {
		x.findings = append(x.findings, Finding{Severity: severity, Position: x.docs.where(""), Text: text, Hint: hint})
	}
}

// mentions reports whether an error speaks of a reference in text.
func mentions(err, text string) bool {
	return slices.ContainsFunc(references.FindAllStringSubmatch(text, -1), func(m []string) bool {
		return strings.Contains(err, m[1])
	})
}

func refersTo(text, uri string) bool {
	return slices.ContainsFunc(references.FindAllStringSubmatch(text, -1), func(m []string) bool {
		return fullURI(m[1]) == uri
	})
}

// watchedProvider answers from what was read. What cannot be read is noted, and nothing stands in for it, so that
// expansion goes on.
type watchedProvider struct {
	scheme string
	all    *expansions
}

func (p watchedProvider) Scheme() string               { return p.scheme }
func (watchedProvider) Shutdown(context.Context) error { return nil }

func (p watchedProvider) Retrieve(ctx context.Context, uri string, _ confmap.WatcherFunc) (*confmap.Retrieved, error) {
	v := p.all.read(ctx, uri)
	err := v.err
	if p.all.spent += v.size; err == nil && p.all.spent > maxExpanded {
		err = fmt.Errorf("more than %d MiB are expanded", maxExpanded>>20)
	}
	if err != nil {
		p.all.add(Error, uri, err.Error(), "")
		return confmap.NewRetrieved("")
	}
	if name, ok := strings.CutPrefix(uri, "env:"); ok && !strings.Contains(name, ":-") {
		if _, ok := os.LookupEnv(name); !ok {
			p.all.add(Warning, uri, fmt.Sprintf("environment variable %s is not set", name),
				fmt.Sprintf("${env:%s:-default} gives a default", name))
		}
	}
	return v.retrieved, nil
}

// split parts a path into component and key: exporters::otlp::tls::insecure is exporters/otlp and tls::insecure.
func split(path string) (component, key string) {
	parts := strings.Split(path, separator)
	if len(parts) > 1 && slices.Contains(Kinds[:], Kind(parts[0])) {
		return parts[0] + "/" + parts[1], strings.Join(parts[2:], separator)
	}
	return "", path
}
