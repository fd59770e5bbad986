// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package loadgen

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
)

// sender sends requests over one connection. Send may be called by several goroutines at once; the bytes are read until
// it returns, and, unless it was acknowledged, maybe longer.
type sender interface {
	// Make builds a request in the form this connection sends.
	Make(m *Maker, b []byte, q Batch) []byte
	// Encode returns the bytes of a body as they are sent.
	Encode(b *body) []byte
	Send(ctx context.Context, s item.Signal, sent []byte) answer
	Close()
}

// answer is how an attempt ended.
type answer struct {
	ledger.Result
	// final says that sending it again is no use: the server said no, and meant it.
	final      bool
	retryAfter time.Duration
}

// newSender makes the sender for a target; it does not connect yet.
func newSender(to string, o *Options) (sender, error) {
	scheme, rest, found := strings.Cut(to, "://")
	if !found {
		return nil, fmt.Errorf("target %q: grpc://, grpcs://, http://, https:// or http+json:// is needed", to)
	}
	p := packer{compression: o.Compression}
	switch p.compression {
	case "none":
		p.compression = ""
	case "zstd":
		// One call at a time, and nothing runs beside it.
		var err error
		p.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
		if err != nil {
			return nil, err
		}
	}
	tlsConfig, err := o.tls()
	if err != nil {
		return nil, err
	}
	switch scheme {
	case "grpc", "grpcs":
		if strings.Contains(rest, "/") {
			return nil, fmt.Errorf("target %q: HOST:PORT is needed", to)
		}
		if scheme == "grpc" {
			tlsConfig = nil
		}
		return newGRPCSender(rest, tlsConfig, p, o)
	case "http", "https", "http+json", "https+json":
		plain, isJSON := strings.CutSuffix(scheme, "+json")
		u, err := url.Parse(plain + "://" + rest)
		if err != nil || u.Host == "" {
			return nil, fmt.Errorf("target %q: no address", to)
		}
		p.json = isJSON
		return newHTTPSender(u, tlsConfig, p, o), nil
	}
	return nil, fmt.Errorf("target %q: %q is not known (grpc, grpcs, http, https, http+json)", to, scheme)
}

// tls are the settings for grpcs and https.
func (o *Options) tls() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: o.SkipVerify} //nolint:gosec // the user asked for it
	pem := o.CAPEM
	if o.CA != "" {
		var err error
		if pem, err = os.ReadFile(o.CA); err != nil {
			return nil, fmt.Errorf("load: ca: %w", err)
		}
	}
	if pem != nil {
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("load: ca: no certificate in it")
		}
	}
	if o.Cert != "" || o.Key != "" {
		pair, err := tls.LoadX509KeyPair(o.Cert, o.Key)
		if err != nil {
			return nil, fmt.Errorf("load: certificate: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// packer makes and compresses bodies.
type packer struct {
	json        bool
	compression string // empty, gzip or zstd
	zstd        *zstd.Encoder
}

var gzipWriters = sync.Pool{New: func() any {
	w, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // the level is known
	return w
}}

func (p packer) Make(m *Maker, b []byte, q Batch) []byte {
	if p.json {
		return m.JSON(b, q)
	}
	return m.Proto(b, q)
}

func (p packer) Encode(b *body) []byte {
	switch p.compression {
	case "gzip":
		out := bytes.NewBuffer(b.packed[:0])
		w := gzipWriters.Get().(*gzip.Writer)
		w.Reset(out)
		_, _ = w.Write(b.raw) // a buffer takes everything
		_ = w.Close()
		gzipWriters.Put(w)
		b.packed = out.Bytes()
	case "zstd":
		b.packed = p.zstd.EncodeAll(b.raw, b.packed[:0])
	default:
		return b.raw
	}
	return b.packed
}

// readSuccess reads a success answer: what was rejected. Success with anything else in it is no answer.
func readSuccess(isJSON bool, text []byte) (rejected uint64, message string, err error) {
	if isJSON {
		return readSuccessJSON(text)
	}
	err = eachField(text, func(num protowire.Number, value []byte) error {
		if num != 1 {
			return nil
		}
		return eachField(value, func(num protowire.Number, value []byte) error {
			switch num {
			case 1:
				n, size := protowire.ConsumeVarint(value)
				if size < 0 {
					return protowire.ParseError(size)
				}
				rejected = n
			case 2:
				message = string(value)
			}
			return nil
		})
	})
	return rejected, message, err
}

// eachField calls visit for every field; strings and messages come without their length.
func eachField(msg []byte, visit func(num protowire.Number, value []byte) error) error {
	for len(msg) > 0 {
		num, typ, n := protowire.ConsumeTag(msg)
		if n < 0 {
			return protowire.ParseError(n)
		}
		msg = msg[n:]
		size := protowire.ConsumeFieldValue(num, typ, msg)
		if size < 0 {
			return protowire.ParseError(size)
		}
		value := msg[:size]
		if typ == protowire.BytesType {
			value, _ = protowire.ConsumeBytes(value)
		}
		if err := visit(num, value); err != nil {
			return err
		}
		msg = msg[size:]
	}
	return nil
}

func readSuccessJSON(text []byte) (uint64, string, error) {
	var out struct {
		Partial struct {
			Spans   json.RawMessage `json:"rejectedSpans"`
			Logs    json.RawMessage `json:"rejectedLogRecords"`
			Points  json.RawMessage `json:"rejectedDataPoints"`
			Message string          `json:"errorMessage"`
		} `json:"partialSuccess"`
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return 0, "", nil
	}
	if err := json.Unmarshal(text, &out); err != nil {
		return 0, "", err
	}
	for _, n := range []json.RawMessage{out.Partial.Spans, out.Partial.Logs, out.Partial.Points} {
		if len(n) > 0 {
			v, err := strconv.ParseUint(strings.Trim(string(n), `"`), 10, 64)
			return v, out.Partial.Message, err
		}
	}
	return 0, out.Partial.Message, nil
}

// success is the answer for a success with this text in it.
func success(code string, isJSON bool, text []byte) answer {
	rejected, message, err := readSuccess(isJSON, text)
	switch {
	case err != nil:
		return answer{Result: ledger.Result{State: ledger.Unknown, Code: code, Text: "success that cannot be read: " + err.Error()}}
	case rejected > 0:
		return answer{Result: ledger.Result{State: ledger.Partial, Rejected: rejected, Code: code, Text: message}}
	}
	return answer{Result: ledger.Result{State: ledger.Acked, Code: code, Text: message}}
}

// unsent is the answer for an attempt of which no byte left: definitely refused, and worth another try.
func unsent(code string, err error) answer {
	return answer{Result: ledger.Result{State: ledger.Refused, Code: code, Text: "not sent: " + err.Error()}}
}
