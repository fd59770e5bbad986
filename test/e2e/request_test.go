// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net/http"
	"testing"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	protobufType = "application/x-protobuf"
	jsonType     = "application/json"
)

// quiet is where servers of the tests log handshakes that are meant to fail.
var quiet = log.New(io.Discard, "", 0)

// numbered are n names that begin alike.
func numbered(prefix string, n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("%s-%d", prefix, i)
	}
	return names
}

// spans is a request with one span per name.
func spans(names []string) ptraceotlp.ExportRequest {
	td := ptrace.NewTraces()
	rs := td.ResourceSpans().AppendEmpty()
	rs.Resource().Attributes().PutStr("service.name", "e2e")
	ss := rs.ScopeSpans().AppendEmpty()
	for i, name := range names {
		s := ss.Spans().AppendEmpty()
		s.SetName(name)
		s.SetTraceID([16]byte{1, byte(i >> 8), byte(i)})
		s.SetSpanID([8]byte{1, byte(i >> 8), byte(i)})
	}
	return ptraceotlp.NewExportRequestFromTraces(td)
}

// records is a request with one log record per body.
func records(bodies []string) plogotlp.ExportRequest {
	ld := plog.NewLogs()
	sl := ld.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty()
	for _, body := range bodies {
		sl.LogRecords().AppendEmpty().Body().SetStr(body)
	}
	return plogotlp.NewExportRequestFromLogs(ld)
}

// wire is the encoded form of a request.
func wire(t testing.TB, r interface{ MarshalProto() ([]byte, error) }) []byte {
	t.Helper()
	b, err := r.MarshalProto()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// answer is what an HTTP request got.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// post sends one request on a connection of its own; headers are pairs.
func post(ctx context.Context, config *tls.Config, url, contentType string, body io.Reader, headers ...string) (answer, error) {
	tr := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true, DisableCompression: true}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, body)
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", contentType)
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return answer{resp.StatusCode, resp.Header, text}, err
}

// mustPost is post with success over plaintext HTTP.
func mustPost(t *testing.T, url, contentType string, body []byte, headers ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	a, err := post(ctx, nil, url, contentType, bytes.NewReader(body), headers...)
	if err != nil {
		t.Fatal(err)
	}
	if a.status != http.StatusOK {
		t.Fatalf("POST %s: %d %s", url, a.status, a.body)
	}
}

// get asks a status page.
func get(t *testing.T, url string) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, text}
}

// dial makes a gRPC client as applications do; nil = plaintext.
func dial(t *testing.T, addr string, config *tls.Config) *grpc.ClientConn {
	t.Helper()
	creds := insecure.NewCredentials()
	if config != nil {
		creds = credentials.NewTLS(config)
	}
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// export sends spans over gRPC.
func export(ctx context.Context, conn *grpc.ClientConn, names []string) error {
	_, err := ptraceotlp.NewGRPCClient(conn).Export(ctx, spans(names))
	return err
}
