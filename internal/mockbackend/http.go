// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package mockbackend

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"mime"
	"net"
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
)

var (
	errEncoding = errors.New("unknown encoding")
	errTooLarge = errors.New("request is too large")
)

func newReader(b []byte) io.Reader { return bytes.NewReader(b) }

// readAll reads to the end, up to maxRequest.
func readAll(r io.Reader) ([]byte, error) {
	out, err := io.ReadAll(io.LimitReader(r, maxRequest+1))
	if err == nil && len(out) > maxRequest {
		err = errTooLarge
	}
	return out, err
}

// connKey finds the connection in a request's context.
type connKey struct{}

func (b *Backend) newHTTPServer() *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	mux := http.NewServeMux()
	for _, s := range item.Signals {
		mux.HandleFunc("/v1/"+s.String(), func(w http.ResponseWriter, r *http.Request) { b.serveHTTP(w, r, s) })
	}
	return &http.Server{
		Handler: mux, Protocols: &protocols, ConnContext: withConn,
		ErrorLog: log.New(io.Discard, "", 0), // broken connections are what this is for
	}
}

// withConn puts the connection into the context of its requests.
func withConn(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if h, ok := c.(*conn); ok {
		return context.WithValue(ctx, connKey{}, h)
	}
	return ctx
}

func (b *Backend) serveHTTP(w http.ResponseWriter, r *http.Request, signal item.Signal) {
	c, _ := r.Context().Value(connKey{}).(*conn)
	if c == nil {
		http.Error(w, "request without a connection", http.StatusInternalServerError)
		return
	}
	q := &call{conn: c, protocol: "http", signal: signal, compression: r.Header.Get("Content-Encoding")}
	q.headers = func() map[string]string { return mask(r.Header) }
	if q.compression == "identity" {
		q.compression = ""
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case r.Method != http.MethodPost:
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	case kind == "application/json":
		q.json, q.protocol = true, "http+json"
	case kind != "application/x-protobuf":
		w.WriteHeader(http.StatusUnsupportedMediaType)
		return
	}
	if !b.readBody(q, w, r) {
		return
	}
	o, err := b.handle(r.Context(), q)
	if err != nil {
		writeStatus(w, q, codes.InvalidArgument, http.StatusBadRequest, err.Error())
		return
	}
	if o.release != nil {
		defer o.release()
	}
	if c.leaving.Load() {
		w.Header().Set("Connection", "close")
	}
	b.answerHTTP(w, r, q, o)
}

// readBody reads the body as far as faults let it; false if there is nothing to answer any more.
func (b *Backend) readBody(q *call, w http.ResponseWriter, r *http.Request) bool {
	if cut := b.cutsBody(q); cut != nil {
		if cut.what().Value == "body" {
			_, _ = io.ReadFull(r.Body, make([]byte, min(max(r.ContentLength/2, 1), 64<<10))) // or less, if there is less
		}
		q.conn.reset()
		panic(http.ErrAbortHandler)
	}
	raw, err := readAll(r.Body)
	if err != nil {
		code := http.StatusBadRequest
		if errors.Is(err, errTooLarge) {
			code = http.StatusRequestEntityTooLarge
		}
		writeStatus(w, q, codes.InvalidArgument, code, err.Error())
		return false
	}
	q.wire = len(raw)
	if q.body, err = decompress(q.compression, true, raw); err != nil {
		code, number := codes.InvalidArgument, http.StatusBadRequest
		if errors.Is(err, errEncoding) {
			code, number = codes.Unimplemented, http.StatusUnsupportedMediaType
		}
		writeStatus(w, q, code, number, err.Error())
		return false
	}
	return true
}

// cutsBody finds the fault that resets this request before its body is read whole.
func (b *Backend) cutsBody(q *call) *rule {
	for _, r := range b.rules.all() {
		f := r.what()
		if f.Kind != "reset" || f.Value != "headers" && f.Value != "body" {
			continue
		}
		hash := func() float64 { return share01(b.o.Seed, fmt.Append(nil, q.conn.id, q.conn.requests.Load())) }
		if active, _ := r.active(time.Now()); active && r.for1(q.signal, hash) && r.hit() {
			return r
		}
	}
	return nil
}

func (b *Backend) answerHTTP(w http.ResponseWriter, r *http.Request, q *call, o *outcome) {
	switch {
	case o.hang:
		panic(http.ErrAbortHandler)
	case o.reset:
		q.conn.reset()
		panic(http.ErrAbortHandler)
	case o.odd != "":
		b.answerOddly(w, r, q.conn, o.odd, contentType(q))
	case o.code == codes.OK:
		w.Header().Set("Content-Type", contentType(q))
		if q.json {
			_, _ = w.Write(partialSuccessJSON(q.signal, o)) // the client is gone, or not
			return
		}
		_, _ = w.Write(partialSuccess(o)) // as above
	default:
		if o.hint != "" {
			_, header, _ := retryAfter(o.hint, time.Now()) // it was read when the fault was set
			w.Header().Set("Retry-After", header)
		}
		writeStatus(w, q, o.code, o.http, o.message)
	}
}

func contentType(q *call) string {
	if q.json {
		return "application/json"
	}
	return "application/x-protobuf"
}

// writeStatus answers with a google.rpc.Status.
func writeStatus(w http.ResponseWriter, q *call, code codes.Code, number int, message string) {
	w.Header().Set("Content-Type", contentType(q))
	w.WriteHeader(number)
	if q.json {
		_, _ = fmt.Fprintf(w, `{"code":%d,"message":%q}`, code, message) // as above
		return
	}
	b := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), uint64(code))
	_, _ = w.Write(protowire.AppendString(protowire.AppendTag(b, 2, protowire.BytesType), message)) // as above
}

func partialSuccessJSON(s item.Signal, o *outcome) []byte {
	if !o.partial {
		return []byte("{}")
	}
	name := map[item.Signal]string{
		item.Traces: "rejectedSpans", item.Logs: "rejectedLogRecords", item.Metrics: "rejectedDataPoints",
	}[s]
	return fmt.Appendf(nil, `{"partialSuccess":{"%s":"%d","errorMessage":%q}}`, name, o.rejected, o.message)
}

// loginPage is what a captive portal answers.
const loginPage = "<!DOCTYPE html><html><head><title>Sign in</title></head><body><form>Please sign in</form></body></html>\n"

// hugeBytes is the size of a huge answer.
const hugeBytes = 1 << 30

// answerOddly gives an answer of HTTP that is none of OTLP. kind is the content type a good answer would have.
func (b *Backend) answerOddly(w http.ResponseWriter, r *http.Request, c *conn, odd, kind string) {
	switch odd {
	case "html":
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, loginPage) // the client is gone, or not
	case "type":
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, "OK") // as above
	case "redirect":
		w.Header().Set("Location", "/login")
		w.WriteHeader(http.StatusTemporaryRedirect)
	case "none":
		_ = c.Close()
		panic(http.ErrAbortHandler)
	case "huge", "endless":
		w.Header().Set("Content-Type", kind)
		if strings.HasPrefix(kind, "application/grpc") {
			_, _ = w.Write([]byte{0, 0x40, 0, 0, 0}) // a message of 1 GiB follows
		}
		block := make([]byte, 64<<10)
		for sent := 0; odd == "endless" || sent < hugeBytes; sent += len(block) {
			if _, err := w.Write(block); err != nil || b.stopped() || r.Context().Err() != nil {
				return
			}
		}
	}
}
