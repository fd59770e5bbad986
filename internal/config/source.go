// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/envprovider"
	"go.opentelemetry.io/collector/confmap/provider/yamlprovider"
	"go.uber.org/zap"
)

// stdinURI is standard input.
const stdinURI = "-"

var (
	schemeOf    = regexp.MustCompile(`(?s)^([A-Za-z][A-Za-z0-9+.-]+):(.*)$`)
	driveLetter = regexp.MustCompile(`^[A-Za-z]:`)
)

// providers are the five schemes. File and HTTP are read with bounds.
func providers() map[string]confmap.Provider {
	all := map[string]confmap.Provider{}
	for _, f := range []confmap.ProviderFactory{envprovider.NewFactory(), yamlprovider.NewFactory()} {
		p := f.Create(confmap.ProviderSettings{Logger: zap.NewNop()})
		all[p.Scheme()] = p
	}
	for _, p := range []confmap.Provider{fileProvider{}, httpProvider{"http"}, httpProvider{"https"}} {
		all[p.Scheme()] = p
	}
	return all
}

// read fetches every URI and returns them as documents, not yet parsed, with the sources and the hash (reload, 1).
func read(ctx context.Context, opts *Options) (documents, []Source, string, error) {
	if len(opts.URIs) == 0 {
		return nil, nil, "", errors.New("no configuration: at least one URI is needed")
	}
	schemes := providers()
	var docs documents
	var sources []Source
	total := 0
	for i, uri := range opts.URIs {
		d, err := fetchOne(ctx, schemes, opts, i)
		if err != nil {
			return nil, nil, "", fmt.Errorf("read configuration: %w", err)
		}
		if total += len(d.text); total > maxTotalBytes {
			return nil, nil, "", fmt.Errorf("read configuration: more than %d MiB in all", maxTotalBytes>>20)
		}
		docs = append(docs, d)
		sum := sha256.Sum256([]byte(d.text))
		sources = append(sources, Source{URI: uri, SHA256: hex.EncodeToString(sum[:])})
	}
	return docs, sources, hash(sources), nil
}

// Text is what a source said, before anything is expanded in it.
type Text struct{ URI, Text string }

// Texts reads every URI of opts once and returns what they say. Standard input can be read only once: it is for the
// caller to remember.
func Texts(ctx context.Context, opts Options) ([]Text, error) {
	docs, _, _, err := read(ctx, &opts)
	if err != nil {
		return nil, err
	}
	out := make([]Text, len(docs))
	for i, d := range docs {
		out[i] = Text{d.uri, d.text}
	}
	return out, nil
}

// fetchOne returns the document at a place of opts.URIs: what it is known to say, or what it says now.
func fetchOne(ctx context.Context, schemes map[string]confmap.Provider, opts *Options, i int) (*document, error) {
	uri := opts.URIs[i]
	if opts.Texts == nil {
		return fetch(ctx, schemes, uri, opts.Stdin)
	}
	return &document{uri: uri, name: nameOf(uri), text: opts.Texts[i].Text}, nil
}

// IsFile reports whether a URI names a file.
func IsFile(uri string) bool {
	if uri == stdinURI {
		return false
	}
	m := schemeOf.FindStringSubmatch(uri)
	return m == nil || driveLetter.MatchString(uri) || m[1] == "file"
}

// nameOf is how people know a source: a file by its path.
func nameOf(uri string) string {
	if uri == stdinURI {
		return "stdin"
	}
	if m := schemeOf.FindStringSubmatch(uri); m != nil && !driveLetter.MatchString(uri) && m[1] == "file" {
		return m[2]
	}
	return uri
}

func hash(sources []Source) string {
	if len(sources) == 1 {
		return sources[0].SHA256
	}
	h := sha256.New()
	for _, s := range sources {
		fmt.Fprintf(h, "%s\x00%s\n", s.URI, s.SHA256)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func fetch(ctx context.Context, schemes map[string]confmap.Provider, uri string, stdin io.Reader) (*document, error) {
	if uri == stdinURI {
		if stdin == nil {
			return nil, errors.New("standard input is not there")
		}
		text, err := readBounded(stdin)
		if err != nil {
			return nil, fmt.Errorf("standard input: %w", err)
		}
		return &document{uri: uri, name: nameOf(uri), text: text}, nil
	}
	scheme, full := "file", "file:"+uri
	if m := schemeOf.FindStringSubmatch(uri); m != nil && !driveLetter.MatchString(uri) {
		scheme, full = m[1], uri
	}
	p, ok := schemes[scheme]
	if !ok {
		return nil, fmt.Errorf("%q: unknown scheme %q (%s)", uri, scheme, hint(scheme, keys(schemes), "schemes"))
	}
	r, err := p.Retrieve(ctx, full, func(*confmap.ChangeEvent) {})
	if err != nil {
		return nil, err
	}
	text, err := r.AsString()
	if err != nil {
		return nil, fmt.Errorf("%q is not a document: %w", uri, err)
	}
	if len(text) > maxSourceBytes {
		return nil, fmt.Errorf("%q is larger than %d MiB", uri, maxSourceBytes>>20)
	}
	return &document{uri: uri, name: nameOf(uri), text: text}, nil
}

// setDocument is one --set key=value: dots or :: part the keys, the value is YAML.
func setDocument(set string) (*document, error) {
	key, value, ok := strings.Cut(set, "=")
	key = strings.TrimSpace(key)
	if !ok || key == "" {
		return nil, fmt.Errorf("--set %q: expected key=value", set)
	}
	if !strings.Contains(key, separator) {
		key = strings.ReplaceAll(key, ".", separator)
	}
	return &document{uri: "--set", name: "--set " + strings.ReplaceAll(key, separator, "."),
		text: quoteKey(key) + ": " + strings.TrimSpace(value)}, nil
}

func quoteKey(key string) string { return "'" + strings.ReplaceAll(key, "'", "''") + "'" }

func keys[V any](m map[string]V) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	return out
}

// fetchTimeout bounds one download (reload, section 3).
const fetchTimeout = 10 * time.Second

// readBounded reads r to its end, or fails beyond maxSourceBytes.
func readBounded(r io.Reader) (string, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxSourceBytes+1))
	if err != nil {
		return "", err
	}
	if len(text) > maxSourceBytes {
		return "", fmt.Errorf("larger than %d MiB", maxSourceBytes>>20)
	}
	return string(text), nil
}

// fileProvider reads file: URIs as the Collector's does, but no more than a configuration can be: /dev/zero, or a log
// given by mistake, must not fill the memory of a process that reloads.
type fileProvider struct{}

func (fileProvider) Scheme() string                 { return "file" }
func (fileProvider) Shutdown(context.Context) error { return nil }

func (fileProvider) Retrieve(_ context.Context, uri string, _ confmap.WatcherFunc) (*confmap.Retrieved, error) {
	path, ok := strings.CutPrefix(uri, "file:")
	if !ok {
		return nil, fmt.Errorf("%q is not a file URI", uri)
	}
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := readBounded(f)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", path, err)
	}
	return confmap.NewRetrievedFromYAML([]byte(text))
}

// httpProvider reads http: and https: URIs with the system's certificates, within fetchTimeout.
type httpProvider struct{ scheme string }

func (p httpProvider) Scheme() string               { return p.scheme }
func (httpProvider) Shutdown(context.Context) error { return nil }

func (p httpProvider) Retrieve(ctx context.Context, uri string, _ confmap.WatcherFunc) (*confmap.Retrieved, error) {
	if !strings.HasPrefix(uri, p.scheme+"://") {
		return nil, fmt.Errorf("%q is not an %s URI", uri, p.scheme)
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("get %q: status %d", uri, resp.StatusCode)
	}
	text, err := readBounded(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("get %q: %w", uri, err)
	}
	return confmap.NewRetrievedFromYAML([]byte(text))
}
