// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlphttp

import (
	"context"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/rs/cors"
	"go.opentelemetry.io/collector/component"

	"github.com/holdfast-telemetry/holdfast/internal/compression"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/door"
)

const (
	protobufType = "application/x-protobuf"
	jsonType     = "application/json"
)

// chain is what a request goes through: response headers, CORS, middlewares, the door. The settings' own
// ToServer is not used: it puts an instrumentation of every request in the way that is paid for even where nothing
// is shown, and decodes bodies before they are admitted.
func (s *Server) chain(ctx context.Context, host component.Host) (http.Handler, error) {
	cfg := &s.cfg.ServerConfig
	var extensions map[component.ID]component.Component
	if host != nil {
		extensions = host.GetExtensions()
	}
	if cfg.Auth.HasValue() {
		auth, err := cfg.Auth.Get().Config.GetServerAuthenticator(ctx, extensions)
		if err != nil {
			return nil, err
		}
		s.auth = auth
	}
	var h http.Handler = http.HandlerFunc(s.serve)
	for i := len(cfg.Middlewares) - 1; i >= 0; i-- {
		wrap, err := cfg.Middlewares[i].GetHTTPServerHandler(ctx, extensions)
		if err != nil {
			return nil, err
		}
		if h, err = wrap(ctx, h); err != nil {
			return nil, err
		}
	}
	if c := cfg.CORS.Get(); c != nil && len(c.AllowedOrigins) > 0 {
		h = cors.New(cors.Options{
			AllowedOrigins: c.AllowedOrigins, AllowCredentials: true, AllowedHeaders: c.AllowedHeaders,
			ExposedHeaders: c.ExposedHeaders, MaxAge: c.MaxAge,
		}).Handler(h)
	}
	if len(cfg.ResponseHeaders) > 0 {
		next := h
		h = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for k, v := range cfg.ResponseHeaders.Iter {
				w.Header().Set(k, string(v))
			}
			next.ServeHTTP(w, r)
		})
	}
	return s.patient(farewell(h)), nil
}

// patient gives an answer write_timeout from the time at which it is written. The server's own WriteTimeout would
// count from the headers and cut the answer to a body that came slowly or waited for its commit. The deadline of a
// connection's last answer is taken back first, since the server itself may write (100 Continue).
func (s *Server) patient(next http.Handler) http.Handler {
	timeout := s.cfg.ServerConfig.WriteTimeout
	if timeout <= 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		control.SetWriteDeadline(time.Time{})
		next.ServeHTTP(&answerWriter{ResponseWriter: w, control: control, timeout: timeout}, r)
	})
}

// answerWriter sets the deadline when the answer begins.
type answerWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration
}

// WriteHeader implements http.ResponseWriter.
func (w *answerWriter) WriteHeader(code int) {
	w.control.SetWriteDeadline(time.Now().Add(w.timeout))
	w.ResponseWriter.WriteHeader(code)
}

// Unwrap lets http.ResponseController find the server's writer.
func (w *answerWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// farewell tells clients of connections that are to end not to use them again: HTTP/1.1 has the header for it, and
// HTTP/2's connections get GOAWAY from net/http, which knows the header as the wish for one.
func farewell(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		actOf(r).farewell(w)
		next.ServeHTTP(w, r)
	})
}

// serve answers one request.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	a := actOf(r)
	a.running.Add(1)
	defer a.running.Add(-1)
	ctx, err := s.authenticate(r)
	lane := s.lanes[r.URL.Path]
	switch {
	case lane == nil && err != nil:
		s.refuse(w, r, err)
		return
	case lane == nil:
		writeError(w, formOf(r), http.StatusNotFound, codeUnimplemented, "no such path", 0)
		return
	case r.Method != http.MethodPost && err == nil:
		w.Header().Set("Allow", http.MethodPost)
		writeError(w, formOf(r), http.StatusMethodNotAllowed, codeUnimplemented, "the method must be POST", 0)
		return
	}
	req := lane.Begin()
	defer func() {
		if p := recover(); p != nil {
			s.door.Panicked(p)
			err = &door.Failure{Cause: errPanic}
		}
		req.End(err)
		a.farewell(w) // it may have become time since the headers
		if err != nil {
			s.refuse(w, r, err)
		}
	}()
	if err != nil {
		return
	}
	var res receiver.Result
	var f form
	if res, f, err = s.export(ctx, a, &req, lane, w, r); err == nil {
		a.farewell(w)
		succeed(w, lane.Signal, f, res)
	}
}

// export takes a request in, the cheapest checks first.
func (s *Server) export(
	ctx context.Context, a *act, req *door.Request, lane *door.Lane, w http.ResponseWriter, r *http.Request,
) (res receiver.Result, f form, err error) {
	if s.stopping.Load() {
		return res, f, door.Stopping()
	}
	if entries(r.Header) > maxHeaderEntries {
		return res, f, errHeaders
	}
	f, ok := contentType(r.Header.Get("Content-Type"))
	if !ok {
		return res, f, door.Unsupported(receiver.ReasonContentType,
			"the content type is neither application/x-protobuf nor application/json")
	}
	codec, err := s.contentEncoding(r.Header)
	if err != nil {
		return res, f, err
	}
	if err = req.Admit(r.ContentLength); err != nil {
		return res, f, err
	}
	if err = a.read(req, lane.MaxBytes(), w, r); err != nil {
		return res, f, err
	}
	var translate *door.Translator
	if f == inJSON {
		translate = translators[lane.Signal]
	}
	res, err = req.Accept(ctx, codec, translate, s.metadata(r, lane))
	return res, f, err
}

// form is how a request is written down.
type form uint8

const (
	protobuf form = iota
	inJSON
)

// contentType says which form a content type names; parameters are allowed.
func contentType(value string) (form, bool) {
	switch value {
	case protobufType:
		return protobuf, true
	case jsonType:
		return inJSON, true
	}
	media, _, err := mime.ParseMediaType(value)
	if err != nil {
		return 0, false
	}
	switch media {
	case protobufType:
		return protobuf, true
	case jsonType:
		return inJSON, true
	}
	return 0, false
}

// formOf is the form of error answers: the request's, JSON where it has none.
func formOf(r *http.Request) form {
	if f, ok := contentType(r.Header.Get("Content-Type")); ok {
		return f
	}
	return inJSON
}

// contentEncoding says how the body is compressed: one encoding at a time, and only those that are enabled.
func (s *Server) contentEncoding(h http.Header) (compression.Codec, error) {
	values := h["Content-Encoding"]
	if len(values) == 0 {
		return compression.None, nil
	}
	codec, ok := compression.Parse(strings.ToLower(strings.TrimSpace(values[0])))
	if len(values) > 1 || !ok || !s.codecs[codec] && codec != compression.None {
		return 0, door.Unsupported(receiver.ReasonEncoding, "the content encoding is not one of those accepted here")
	}
	return codec, nil
}

func entries(h http.Header) int {
	n := 0
	for _, values := range h {
		n += len(values)
	}
	return n
}
