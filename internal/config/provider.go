// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.opentelemetry.io/collector/confmap"
)

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
