// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/encoding/protowire"
)

// SpanBytes is the size of one span in a request, its field header included.
const SpanBytes = 576

// baseTime is the start of the first span, in nanoseconds: fixed, so that every run sends the same bytes.
const baseTime = 1_790_000_000_000_000_000

// Requests serialises n different ExportTraceServiceRequests of spans each, always the same ones, in the encoding
// given. They look like what an instrumented web service sends: one resource, one scope, client and server spans with
// the attributes of the HTTP conventions.
func Requests(n, spans int, encoding string) ([][]byte, error) {
	out := make([][]byte, n)
	for i := range out {
		raw := request(rand.New(rand.NewPCG(uint64(i), 576)), spans)
		var err error
		if out[i], err = encode(raw, encoding); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func encode(raw []byte, encoding string) ([]byte, error) {
	var buf bytes.Buffer
	switch encoding {
	case "", Identity:
		return raw, nil
	case Gzip:
		w := gzip.NewWriter(&buf) // the default level, as SDKs use it
		if _, err := w.Write(raw); err != nil {
			return nil, err
		}
		err := w.Close()
		return buf.Bytes(), err
	case Zstd:
		w, err := zstd.NewWriter(nil)
		if err != nil {
			return nil, err
		}
		defer w.Close()
		return w.EncodeAll(raw, nil), nil
	}
	return nil, fmt.Errorf("encoding %q: identity, gzip or zstd", encoding)
}

func request(r *rand.Rand, spans int) []byte {
	var resource []byte
	for _, kv := range [][2]string{
		{"service.name", "checkout"}, {"service.namespace", "shop"}, {"service.version", "2.14.1"},
		{"service.instance.id", "checkout-6d9f7c8b5-x2k4q"}, {"telemetry.sdk.language", "go"},
		{"telemetry.sdk.name", "opentelemetry"}, {"telemetry.sdk.version", "1.38.0"},
		{"k8s.namespace.name", "shop"}, {"k8s.pod.name", "checkout-6d9f7c8b5-x2k4q"},
		{"k8s.node.name", "node-17"}, {"deployment.environment.name", "production"},
	} {
		resource = message(resource, 1, text(kv[0], kv[1]))
	}
	scope := message(nil, 1, []byte("github.com/shop/checkout/http"))
	scope = message(scope, 2, []byte("0.63.0"))

	scopeSpans := message(nil, 1, scope)
	for i := range spans {
		scopeSpans = message(scopeSpans, 2, span(r, i))
	}
	resourceSpans := message(nil, 1, resource)
	resourceSpans = message(resourceSpans, 2, scopeSpans)
	return message(nil, 1, resourceSpans)
}

var (
	methods = []string{"GET", "POST", "PUT", "DELETE"}
	routes  = []string{"/api/v1/orders/{id}", "/api/v1/carts/{id}/items", "/api/v1/payments", "/api/v1/users/{id}"}
	hosts   = []string{"orders.shop.svc", "carts.shop.svc", "payments.shop.svc", "users.shop.svc"}
	agents  = []string{"Mozilla/5.0 (X11; Linux x86_64; rv:140.0)", "Go-http-client/2.0"}
)

// span is one span of SpanBytes with its field header; a query string of random length and content fills it up.
func span(r *rand.Rand, i int) []byte {
	which := r.IntN(len(routes))
	method := methods[r.IntN(len(methods))]
	began := uint64(baseTime) + uint64(i)*137_000 + r.Uint64N(100_000)

	var b []byte
	b = message(b, 1, random(r, 16))
	b = message(b, 2, random(r, 8))
	b = message(b, 4, random(r, 8))
	b = message(b, 5, []byte(method+" "+routes[which]))
	b = number(b, 6, 2+r.Uint64N(2))
	b = fixed(b, 7, began)
	b = fixed(b, 8, began+1_000_000+r.Uint64N(50_000_000))
	for _, attribute := range [][]byte{
		text("http.request.method", method),
		text("http.route", routes[which]),
		text("url.scheme", "https"),
		text("url.path", fmt.Sprintf("/api/v1/orders/%d", r.IntN(1_000_000))),
		text("server.address", hosts[which]),
		integer("server.port", 8443),
		text("client.address", fmt.Sprintf("10.%d.%d.%d", r.IntN(8), r.IntN(256), r.IntN(256))),
		integer("client.port", 1024+r.Uint64N(60_000)),
		text("network.peer.address", fmt.Sprintf("10.%d.%d.%d", r.IntN(8), r.IntN(256), r.IntN(256))),
		text("network.protocol.version", "2"),
		integer("http.response.status_code", 200+r.Uint64N(5)*25),
		text("user_agent.original", agents[r.IntN(len(agents))]),
		integer("thread.id", r.Uint64N(64)),
	} {
		b = message(b, 9, attribute)
	}
	b = protowire.AppendFixed32(protowire.AppendTag(b, 16, protowire.Fixed32Type), 0x101) // flags: sampled, local parent

	const header = 3 // of the span in its scope: tag, two bytes of length
	query := func(n int) []byte {
		return message(slices.Clip(b), 9, text("url.query", "session="+hex.EncodeToString(random(r, (n+1)/2))[:n]))
	}
	n := 1
	for full := len(query(n)); full+header < SpanBytes; full = len(query(n)) {
		n += max(1, (SpanBytes-header-full)/2)
	}
	return query(n)
}

func random(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func message(b []byte, field protowire.Number, content []byte) []byte {
	b = protowire.AppendTag(b, field, protowire.BytesType)
	return protowire.AppendBytes(b, content)
}

func number(b []byte, field protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

func fixed(b []byte, field protowire.Number, v uint64) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(b, field, protowire.Fixed64Type), v)
}

func text(key, value string) []byte {
	return message(message(nil, 1, []byte(key)), 2, message(nil, 1, []byte(value)))
}

func integer(key string, v uint64) []byte {
	return message(message(nil, 1, []byte(key)), 2, number(nil, 3, v))
}
