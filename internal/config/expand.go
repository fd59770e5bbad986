// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"go.opentelemetry.io/collector/confmap"
)

// treeScheme names the parsed sources to the resolver.
const treeScheme = "holdfast-source"

// expand merges the documents in order, maps key by key, lists replaced, and expands ${}.
func expand(ctx context.Context, docs documents) (*confmap.Conf, []Finding) {
	watch := &expansions{docs: docs}
	set := confmap.ResolverSettings{DefaultScheme: "env"}
	for i := range docs {
		set.URIs = append(set.URIs, treeScheme+":"+strconv.Itoa(i))
	}
	add := func(p confmap.Provider) {
		set.ProviderFactories = append(set.ProviderFactories,
			confmap.NewProviderFactory(func(confmap.ProviderSettings) confmap.Provider { return p }))
	}
	add(treeProvider(docs))
	for _, p := range providers() {
		add(watchedProvider{p, watch})
	}
	r, err := confmap.NewResolver(set)
	if err != nil {
		return nil, []Finding{{Severity: Error, Position: docs.where(""), Text: err.Error()}}
	}
	conf, err := r.Resolve(ctx)
	if err != nil {
		watch.failed("", err)
		return nil, watch.findings
	}
	return conf, watch.findings
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

// expansions gathers what goes wrong while expanding, so that one bad reference does not hide the next.
type expansions struct {
	docs     documents
	findings []Finding
	seen     map[string]bool
}

// failed adds an error for every place that refers to uri.
func (x *expansions) failed(uri string, err error) { x.add(Error, uri, err.Error(), "") }

func (x *expansions) add(severity Severity, uri, text, hint string) {
	if x.seen == nil {
		x.seen = map[string]bool{}
	}
	if x.seen[uri+"\x00"+text] {
		return
	}
	x.seen[uri+"\x00"+text] = true
	found := false
	for _, d := range x.docs {
		for _, r := range d.expanded {
			if uri == "" && !strings.Contains(text, r.text) || uri != "" && !refersTo(r.text, uri) {
				continue
			}
			found = true
			component, key := split(r.path)
			x.findings = append(x.findings, Finding{
				Severity: severity, Position: r.position, Component: component, Key: key, Text: text, Hint: hint,
			})
		}
	}
	if !found {
		x.findings = append(x.findings, Finding{Severity: severity, Position: x.docs.where(""), Text: text, Hint: hint})
	}
}

func refersTo(text, uri string) bool {
	return strings.Contains(text, "${"+uri+"}") ||
		strings.HasPrefix(uri, "env:") && strings.Contains(text, "${"+strings.TrimPrefix(uri, "env:")+"}")
}

// watchedProvider notes what cannot be retrieved, and answers with nothing instead, so that expansion goes on.
type watchedProvider struct {
	confmap.Provider
	watch *expansions
}

func (p watchedProvider) Retrieve(ctx context.Context, uri string, w confmap.WatcherFunc) (*confmap.Retrieved, error) {
	if name, ok := strings.CutPrefix(uri, "env:"); ok && !strings.Contains(name, ":-") {
		if _, ok := os.LookupEnv(name); !ok {
			p.watch.add(Warning, uri, fmt.Sprintf("environment variable %s is not set", name),
				fmt.Sprintf("${env:%s:-default} gives a default", name))
		}
	}
	r, err := p.Provider.Retrieve(ctx, uri, w)
	if err != nil {
		p.watch.failed(uri, err)
		return confmap.NewRetrieved("")
	}
	return r, nil
}

// split parts a path into component and key: exporters::otlp::tls::insecure is exporters/otlp and tls::insecure.
func split(path string) (component, key string) {
	parts := strings.Split(path, separator)
	if len(parts) > 1 && slices.Contains(Kinds[:], Kind(parts[0])) {
		return parts[0] + "/" + parts[1], strings.Join(parts[2:], separator)
	}
	return "", path
}
