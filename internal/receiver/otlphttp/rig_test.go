// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlphttp_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strconv"
	"testing"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/door"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/otlphttp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/receivertest"
)

// What both doors' tests use.
const patience = receivertest.Patience

var (
	eventually = receivertest.Eventually
	encoded    = receivertest.Encoded
)

type host = receivertest.Host

const (
	protobufType = "application/x-protobuf"
	jsonType     = "application/json"
	traces       = "/v1/traces"
)

var paths = map[otlp.Signal]string{
	otlp.Traces: traces, otlp.Metrics: "/v1/metrics", otlp.Logs: "/v1/logs", otlp.Profiles: "/v1development/profiles",
}

// rig is a door on a real socket.
type rig struct {
	*otlphttp.Server
	receivertest.Rig
	client *http.Client
	scheme string
}

// options change what a rig is made of.
type options struct {
	cfg      func(*otlphttp.Config)
	settings func(*receiver.Settings)
	server   func(*otlphttp.Server)
	host     component.Host
}

func start(t testing.TB, sink *receivertest.Sink, o options) *rig {
	t.Helper()
	r := prepare(t, sink, o)
	if err := r.Start(context.Background(), o.host); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.stop)
	return r
}

// prepare makes a rig that is not started.
func prepare(t testing.TB, sink *receivertest.Sink, o options) *rig {
	cfg := otlphttp.DefaultConfig()
	cfg.ServerConfig.NetAddr.Endpoint = "127.0.0.1:0"
	if o.cfg != nil {
		o.cfg(&cfg)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	base := receivertest.NewRig(t, sink, o.settings)
	s := otlphttp.New(door.New(base.Set), cfg)
	if o.server != nil {
		o.server(s)
	}
	r := &rig{Server: s, Rig: base, scheme: "http", client: &http.Client{Transport: &http.Transport{}}}
	t.Cleanup(r.client.CloseIdleConnections)
	return r
}

func (r *rig) stop() {
	r.client.CloseIdleConnections()
	r.Ends(r.Stop)
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// post sends one request; headers alternate name and value.
func (r *rig) post(path string, body io.Reader, headers ...string) (answer, error) {
	r.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.scheme+"://"+r.Address().String()+path, body)
	if err != nil {
		r.T.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	return r.do(req)
}

func (r *rig) do(req *http.Request) (answer, error) {
	resp, err := r.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, b}, err
}

// mustPost is post for requests that are answered.
func (r *rig) mustPost(path string, body []byte, headers ...string) answer {
	r.T.Helper()
	a, err := r.post(path, bytes.NewReader(body), headers...)
	if err != nil {
		r.T.Fatal(err)
	}
	return a
}

// rpcCodes are the codes that go with statuses.
var rpcCodes = map[int]int32{400: 3, 401: 16, 403: 7, 404: 12, 405: 12, 413: 8, 415: 12, 431: 8, 503: 14}

// wantError checks an error's status and its body, a google.rpc.Status in the given type, and that a hint to come
// back is there exactly where it must be. It returns the text and the hint.
func (r *rig) wantError(a answer, status int, contentType string) (string, time.Duration) {
	r.T.Helper()
	var st rpcstatus.Status
	err := proto.Unmarshal(a.body, &st)
	if contentType == jsonType {
		err = protojson.Unmarshal(a.body, &st)
	}
	if err != nil || a.status != status || a.header.Get("Content-Type") != contentType || st.Code != rpcCodes[status] {
		r.T.Errorf("%d, %q, %v, %v; want %d, %s", a.status, a.body, a.header, err, status, contentType)
		return "", 0
	}
	var after time.Duration
	for _, d := range st.Details {
		var info errdetails.RetryInfo
		if err := d.UnmarshalTo(&info); err != nil {
			r.T.Error(err)
		}
		after = info.RetryDelay.AsDuration()
	}
	seconds, _ := strconv.Atoi(a.header.Get("Retry-After"))
	whole := time.Duration(seconds) * time.Second
	if hinted := status == http.StatusServiceUnavailable; hinted != (after > 0) || whole < after || whole-after >= time.Second {
		r.T.Errorf("%d with RetryInfo %s and Retry-After %q", status, after, a.header.Get("Retry-After"))
	}
	return st.Message, after
}

// logged gives a rig a logger whose lines can be read.
func logged(o options) (options, *observer.ObservedLogs) {
	logs := receivertest.Logged(&o.settings)
	return o, logs
}
