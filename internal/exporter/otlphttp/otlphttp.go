// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package otlphttp is the back door over HTTP: it posts OTLP export requests as wire bytes and says the verdict.
//
// It stands behind the delivery loop. A request leaves with the bytes it arrived with; it is encoded again only where
// a backend wants another compression, and decoded only where it wants JSON. The package promises an answer within
// `timeout`, takes nothing for a success that is no OTLP answer, follows no redirect, and reads a bounded part of what
// a backend says. It does not retry, queue or batch, and does not know whether it is the first choice or the last.
package otlphttp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"

	"go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/component"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/wire"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// Factory makes exporters of type otlp_http.
func Factory() exporter.Factory {
	return exporter.Factory{
		Type:    "otlp_http",
		Aliases: []string{"otlphttp"},
		Signals: otlp.Signals[:],
		Queue:   exporter.QueueByDefault,
		Default: func() any { return Default() },
		New: func(set exporter.Settings, cfg any) (exporter.Exporter, error) {
			c, ok := cfg.(*Config)
			if !ok {
				return nil, fmt.Errorf("otlp_http: configuration is a %T", cfg)
			}
			return New(set, c)
		},
	}
}

// The content types of OTLP.
const (
	typeProto = "application/x-protobuf"
	typeJSON  = "application/json"
)

// Exporter posts to one backend.
type Exporter struct {
	cfg        Config
	set        exporter.Settings
	urls       [len(paths)]*url.URL
	encoder    *wire.Encoder
	media      string
	recompress *telemetry.Counter
	client     *http.Client
	bottom     *bottom
	spoken     atomic.Bool // the backend answered once
	inquiry    inquiry
}

// New makes an exporter; nothing is opened before Start.
func New(set exporter.Settings, cfg *Config) (*Exporter, error) {
	urls, err := cfg.urls()
	if err != nil {
		return nil, err
	}
	encoder, err := wire.NewEncoder(cfg.Client.Compression, int(cfg.Client.CompressionParams.Level), true)
	if err != nil {
		return nil, err
	}
	e := &Exporter{
		cfg: *cfg, set: set, urls: urls, encoder: encoder, media: typeProto,
		recompress: set.Telemetry.Metrics.Counter("holdfast_exporter_recompressed_total",
			"Requests that arrived in another encoding than they were sent in.", "exporter", set.ID),
	}
	if cfg.Encoding == encodingJSON {
		e.media = typeJSON
	}
	return e, nil
}

// Start loads certificates; it connects to nobody.
func (e *Exporter) Start(ctx context.Context, host component.Host) error {
	var err error
	e.client, e.bottom, err = newClient(ctx, &e.cfg.Client, e.set.Telemetry.Component(), host)
	return err
}

// Send implements exporter.Exporter.
func (e *Exporter) Send(ctx context.Context, r *exporter.Request) exporter.Verdict {
	if int(r.Signal) >= len(e.urls) || e.urls[r.Signal] == nil {
		return exporter.Verdict{Kind: exporter.Misconfigured, Err: fmt.Errorf("no endpoint for %s", r.Signal)}
	}
	body, err := e.body(r)
	if err != nil {
		return exporter.Verdict{Kind: exporter.Rejected, Err: err}
	}
	defer body.Release()
	if body.Recoded {
		e.recompress.Inc()
	}
	if e.cfg.Client.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, e.cfg.Client.Timeout)
		defer cancel()
	}
	if len(r.Metadata) > 0 && (e.cfg.Client.Auth.HasValue() || len(e.cfg.Client.Middlewares) > 0) {
		ctx = withMetadata(ctx, r.Metadata)
	}
	return e.post(ctx, r, &body)
}

// body makes r's body: its own bytes, or JSON.
func (e *Exporter) body(r *exporter.Request) (wire.Body, error) {
	if e.media != typeJSON {
		return e.encoder.Encode(r)
	}
	parts, free, err := wire.Plain(r)
	if err != nil {
		return wire.Body{}, err
	}
	defer free()
	text, err := wire.ToJSON(r.Signal, join(parts))
	if err != nil {
		return wire.Body{}, fmt.Errorf("encode %s as json: %w", r.Signal, err)
	}
	return e.encoder.Encode(&exporter.Request{Signal: r.Signal, Size: int64(len(text)), Parts: [][]byte{text}})
}

func join(parts [][]byte) []byte {
	if len(parts) == 1 {
		return parts[0]
	}
	var out []byte
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// post sends one request and reads its answer.
func (e *Exporter) post(ctx context.Context, r *exporter.Request, body *wire.Body) exporter.Verdict {
	lent := newLoan(body.Parts)
	defer lent.end()
	var sent atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }})
	req := (&http.Request{
		Method:        http.MethodPost,
		URL:           e.urls[r.Signal],
		Host:          e.urls[r.Signal].Host,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        http.Header{"Content-Type": {e.media}, "User-Agent": {"holdfast/" + e.set.Version}},
		Body:          lent.reader(),
		GetBody:       lent.again,
		ContentLength: int64(body.Len()),
	}).WithContext(ctx)
	if body.Encoding != "" {
		req.Header.Set("Content-Encoding", body.Encoding)
	}
	if req.ContentLength == 0 {
		req.Body, req.GetBody = http.NoBody, nil
	}
	res, err := e.client.Do(req)
	if err != nil {
		return e.fail(ctx, r.Signal, sent.Load(), err)
	}
	defer func() { _ = res.Body.Close() }()
	e.spoken.Store(true)
	return e.answered(ctx, r, res)
}

// withMetadata shows a request's metadata to an extension that asks for it.
func withMetadata(ctx context.Context, m otlp.Metadata) context.Context {
	values := make(map[string][]string, len(m))
	for i := range m {
		values[m[i].Key] = m[i].Values
	}
	return client.NewContext(ctx, client.Info{Metadata: client.NewMetadata(values)})
}

// fail is the verdict of a request without an answer. What never left is to be sent again; what may have left may have
// been taken.
func (e *Exporter) fail(ctx context.Context, s otlp.Signal, sent bool, err error) exporter.Verdict {
	v := exporter.Verdict{Kind: exporter.Retry}
	if sent {
		v.Kind = exporter.Ambiguous
	}
	// The client's own error repeats the URL, which may hold what is nobody's business.
	var outer *url.Error
	if errors.As(err, &outer) {
		err = outer.Err
	}
	if cause := context.Cause(ctx); cause != nil {
		v.Err = fmt.Errorf("post to %s: %w", e.place(s), cause)
		return v
	}
	plain := wire.ExplainTLS(err).Error()
	var op *net.OpError
	dialing := errors.As(err, &op) && op.Op == "dial"
	if !dialing && !strings.Contains(plain, wire.AlertText) {
		if alert := e.inquiry.ask(ctx, e.bottom.tls); alert != "" {
			plain = alert
		}
	}
	text := wire.Clip(wire.ExplainAlert(plain))
	asked := e.bottom.tls.asked.Load()
	if asked {
		text += wire.AskedHint
	}
	// A server that refuses our certificate says so after the handshake, when the request is already on its way.
	if strings.Contains(plain, wire.AlertText) || asked && !e.spoken.Load() {
		v.Kind = exporter.Retry
	}
	v.Err = fmt.Errorf("post to %s: %s", e.place(s), text)
	return v
}

// place is where a signal goes, for people: without user, password and query.
func (e *Exporter) place(s otlp.Signal) string {
	u := e.urls[s]
	return u.Scheme + "://" + u.Host + "/" + strings.TrimPrefix(u.EscapedPath(), "/")
}

// Stop closes the connections nobody uses; with no Send running that is all of them.
func (e *Exporter) Stop(context.Context) error {
	if e.bottom != nil {
		e.bottom.transport.CloseIdleConnections()
	}
	return nil
}

var _ exporter.Exporter = (*Exporter)(nil)
