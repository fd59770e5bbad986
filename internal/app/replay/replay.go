// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package replay reads requests back from where they lie, in records of a queue and in files of the file exporter, and makes
// what sends them once more.
//
// It stands beside the path, for commands where no process runs that could be asked. It promises that what a backend took
// is settled, so that no process sends it again, and that what cannot be read stays where it is and is named. It knows no
// plan and no configuration: whoever calls says what is read and where it goes.
package replay

import (
	"fmt"
	"strings"

	"go.opentelemetry.io/collector/confmap"

	"github.com/holdfast-telemetry/holdfast/internal/app/components"
	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/wire"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline/recordmeta"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// StoredRequest is the request that a stored record holds. Its bytes are the record's.
func StoredRequest(r *queue.Record) (*exporter.Request, error) {
	s := otlp.Signal(r.Tag)
	if _, ok := otlp.ParseSignal(s.String()); !ok {
		return nil, fmt.Errorf("read record: it holds no signal that is known (%d)", r.Tag)
	}
	encoding, metadata, err := recordmeta.Decode(r.Meta)
	if err != nil {
		return nil, fmt.Errorf("read record: %w", err)
	}
	return &exporter.Request{
		Signal: s, Encoding: encoding, Items: r.Items, Size: int64(r.Size), Parts: [][]byte{r.Body}, Metadata: metadata,
	}, nil
}

// PlainRequest is the protobuf of a request without its compression.
func PlainRequest(r *exporter.Request) ([]byte, error) {
	var out []byte
	for _, p := range r.Parts {
		if r.Encoding == otlp.Identity && len(r.Parts) == 1 {
			return p, nil
		}
		b, err := components.Decode(r.Encoding, p, int(r.Size))
		if err != nil {
			return nil, err
		}
		out = append(out, b...)
	}
	return out, nil
}

// JSONRequest is a plain request as OTLP JSON, in one line.
func JSONRequest(s otlp.Signal, plain []byte) ([]byte, error) { return wire.ToJSON(s, plain) }

// NewSender makes an exporter that sends to url, as the configuration's keys say besides; it is not started. Schemes are
// grpc, grpcs, http and https. Nothing stands in front of it: no queue, no retries.
func NewSender(url string, keys map[string]any, tel *telemetry.Telemetry, version string) (exporter.Exporter, error) {
	scheme, rest, _ := strings.Cut(url, "://")
	if rest == "" {
		return nil, fmt.Errorf("send to %q: a URL is needed, such as grpc://host:4317 or https://host:4318", url)
	}
	kind := "otlp_http"
	written := map[string]any{"endpoint": url}
	switch scheme {
	case "http", "https":
	case "grpc", "grpcs":
		kind, written["endpoint"] = "otlp_grpc", strings.TrimSuffix(rest, "/")
		written["tls"] = map[string]any{"insecure": scheme == "grpc"}
	default:
		return nil, fmt.Errorf("send to %q: the scheme is none of grpc, grpcs, http, https", url)
	}
	doc := confmap.NewFromStringMap(written)
	if err := doc.Merge(confmap.NewFromStringMap(keys)); err != nil {
		return nil, fmt.Errorf("send to %q: %w", url, err)
	}
	f, ok := components.Exporter(kind)
	if !ok {
		return nil, fmt.Errorf("send to %q: no exporter %s", url, kind)
	}
	cfg := f.Default()
	if err := doc.Unmarshal(cfg); err != nil {
		return nil, fmt.Errorf("send to %q: %w", url, err)
	}
	if err := confmap.Validate(cfg); err != nil {
		return nil, fmt.Errorf("send to %q: %w", url, err)
	}
	return f.New(exporter.Settings{ID: kind, Telemetry: tel, Version: version}, cfg)
}
