// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlphttp_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptrace"
	"testing"
	"time"

	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/config/configtls"

	"github.com/holdfast-telemetry/holdfast/internal/certtest"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/otlphttp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/receivertest"
)

// retire begins to retire and returns what the end says.
func (r *rig) retire(limit time.Duration) <-chan error {
	ended := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		ended <- r.Retire(ctx)
	}()
	return ended
}

// retiring waits until clients are asked to leave: whoever comes is served by a new act.
func (r *rig) retiring(acts int) {
	r.T.Helper()
	eventually(r.T, "clients are asked to leave", func() bool { return r.Leaving() == acts })
}

// wantAnswer checks an answer and whether its connection ends.
func (h *raw) wantAnswer(closes bool) {
	h.t.Helper()
	resp := h.answer()
	if resp.StatusCode != http.StatusOK || resp.Close != closes {
		h.t.Errorf("%s, close %v", resp.Status, resp.Close)
	}
}

func whole() string {
	wire, _ := receivertest.Request(otlp.Traces, 5, 5)
	return head(len(wire)) + string(wire)
}

func TestAnIdleConnectionIsNotClosedButToldWithItsNextAnswer(t *testing.T) {
	r := start(t, &receivertest.Sink{}, options{})
	h, silent := r.raw(whole()), r.raw("")
	h.wantAnswer(false)
	eventually(t, "both are connected", func() bool { return r.Value("holdfast_door_connections") == 2 })
	ended := r.retire(patience)
	r.retiring(1)
	later := r.raw(whole())
	later.wantAnswer(false) // who comes later may stay
	h.write(whole())
	h.wantAnswer(true)
	h.silence()
	silent.write(whole())
	silent.wantAnswer(true)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	later.write(whole())
	later.wantAnswer(false)
	again := r.retire(patience)
	r.retiring(1)
	later.write(whole())
	later.wantAnswer(true)
	if err := <-again; err != nil {
		t.Errorf("a second time: %v", err)
	}
}

func TestTheAnswerOfARequestThatRanTellsToo(t *testing.T) {
	entered, finish := make(chan struct{}), make(chan struct{})
	sink := &receivertest.Sink{Answer: func(context.Context, *otlp.Payload) (receiver.Result, error) {
		close(entered)
		<-finish
		return receiver.Result{}, nil
	}}
	r := start(t, sink, options{})
	h := r.raw(whole())
	<-entered
	ended := r.retire(patience)
	r.retiring(1)
	close(finish)
	h.wantAnswer(true)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestABodyThatIsBeingReadMayGoOn(t *testing.T) {
	r := start(t, &receivertest.Sink{}, options{})
	text := whole()
	h := r.raw(text[:len(text)-10])
	eventually(t, "the body is being read", func() bool { return r.Reading() == 1 })
	ended := r.retire(patience)
	r.retiring(1)
	h.write(text[len(text)-10:])
	h.wantAnswer(true)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestRetiringCutsWhoStaysTooLong(t *testing.T) {
	entered := make(chan struct{})
	sink := &receivertest.Sink{Answer: func(ctx context.Context, _ *otlp.Payload) (receiver.Result, error) {
		close(entered)
		<-ctx.Done()
		return receiver.Result{}, ctx.Err()
	}}
	r := start(t, sink, options{})
	idle, reading := r.raw(head(0)), r.raw(head(1000)+"some bytes")
	idle.wantAnswer(false)
	eventually(t, "the body is being read", func() bool { return r.Reading() == 1 })
	running := r.raw(whole())
	<-entered
	if err := <-r.retire(50 * time.Millisecond); err != nil {
		t.Error(err)
	}
	idle.silence()
	running.silence()
	if resp := reading.answer(); resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("the body that was being read: %s", resp.Status)
	}
	r.raw(head(0)).wantAnswer(false)
}

func TestStopEndsARetirement(t *testing.T) {
	r := start(t, &receivertest.Sink{}, options{})
	h := r.raw(whole())
	h.wantAnswer(false)
	ended := r.retire(patience)
	r.retiring(1)
	r.stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	h.silence()
	if err := <-r.retire(patience); err != nil {
		t.Errorf("after Stop: %v", err)
	}
}

func TestNobodyHasToRetireBeforeTheStart(t *testing.T) {
	r := prepare(t, &receivertest.Sink{}, options{})
	if err := <-r.retire(patience); err != nil {
		t.Error(err)
	}
}

func TestHTTP2ClientsAreToldToGoAway(t *testing.T) {
	authority := certtest.NewAuthority(t, "authority")
	dir := t.TempDir()
	issued := authority.Issue(t, time.Now().Add(time.Hour), "server", "127.0.0.1")
	r := start(t, &receivertest.Sink{}, options{cfg: func(c *otlphttp.Config) {
		cfg := configtls.NewDefaultServerConfig()
		cfg.CertFile = certtest.Write(t, dir, "cert.pem", issued.Cert)
		cfg.KeyFile = certtest.Write(t, dir, "key.pem", issued.Key)
		c.ServerConfig.TLS = configoptional.Some(cfg)
	}})
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: authority.Pool()}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: patience}
	wire, _ := receivertest.Request(otlp.Traces, 5, 5)
	post := func() (reused bool) {
		t.Helper()
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			GotConn: func(i httptrace.GotConnInfo) { reused = i.Reused },
		})
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+r.Address().String()+traces, bytes.NewReader(wire))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", protobufType)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 {
			t.Errorf("%s %s, %v", resp.Proto, resp.Status, err)
		}
		return reused
	}
	post()
	if !post() {
		t.Error("a connection per request")
	}
	ended := r.retire(patience)
	r.retiring(1)
	if !post() {
		t.Error("the idle connection was closed")
	}
	eventually(t, "the client has left", func() bool { return !post() })
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if !post() {
		t.Error("the new connection does not stay")
	}
}
