// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpreceiver_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/holdfast-telemetry/holdfast/internal/certtest"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/otlpreceiver"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/receivertest"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/sockets"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/swap"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// reloading plays what the application does with receivers in a reload: two of them, one with TLS, on four sockets.
type reloading struct {
	t        *testing.T
	sockets  *sockets.Sockets
	settings receiver.Settings
	dir      string // with certificate and key
	retiring sync.WaitGroup
	accepted atomic.Int64 // requests, by all targets

	running *generation
	warm    []*generation // the others
	built   int           // generations
}

// generation is what one change made: its servers, and the sinks behind them.
type generation struct {
	seats     *sockets.Seats
	receivers []*otlpreceiver.Receiver
	sinks     map[otlp.Signal]*swap.Sink
}

// target is a pipeline's entry: it counts, and fails who comes after it was stopped.
func (r *reloading) target() (sink receiver.Sink, stop func()) {
	var stopped atomic.Bool
	s := &receivertest.Sink{Gate: r.settings.Admission, Discard: true}
	s.Answer = func(context.Context, *otlp.Payload) (receiver.Result, error) {
		if stopped.Load() {
			return receiver.Result{}, errors.New("the pipeline is stopped")
		}
		r.accepted.Add(1)
		return receiver.Result{}, nil
	}
	return s, func() { stopped.Store(true) }
}

func (r *reloading) config(secure bool) *otlpreceiver.Config {
	r.t.Helper()
	security := ""
	if secure {
		security = fmt.Sprintf(", tls: {cert_file: '%[1]s/cert', key_file: '%[1]s/key'}", r.dir)
	}
	cfg, err := load(r.t, fmt.Sprintf(
		"protocols: {grpc: {endpoint: '127.0.0.1:0', max_recv_msg_size_mib: %[1]d%[2]s}, http: {endpoint: '127.0.0.1:0', max_request_body_size: %[1]d000000%[2]s}}",
		1+r.built%7, security))
	if err != nil {
		r.t.Fatal(err)
	}
	return cfg
}

// prepare builds a generation with new settings beside the running one.
func (r *reloading) prepare(to receiver.Sink) *generation {
	r.t.Helper()
	r.built++
	g := &generation{seats: r.sockets.Generation(), sinks: map[otlp.Signal]*swap.Sink{}}
	set := r.settings
	set.Listen, set.Sinks = g.seats.Listen, map[otlp.Signal]receiver.Sink{}
	for _, s := range otlp.Signals {
		g.sinks[s] = swap.New(to)
		set.Sinks[s] = g.sinks[s]
	}
	for _, secure := range []bool{false, true} {
		made := otlpreceiver.New(set, r.config(secure))
		if err := made.Start(r.t.Context(), nil); err != nil {
			r.t.Fatal(err)
		}
		g.receivers = append(g.receivers, made)
	}
	return g
}

// lead swaps what stands behind all servers, those included whose clients are leaving, and waits until nobody is on
// the old way.
func (r *reloading) lead(to receiver.Sink) {
	for _, g := range append(r.warm, r.running) {
		for _, s := range g.sinks {
			<-s.Swap(to)
		}
	}
}

// switchTo lets g serve; the former generation's clients leave in the background.
func (r *reloading) switchTo(g *generation) {
	former := r.running
	g.seats.Take()
	r.running = g
	for _, old := range former.receivers {
		r.retiring.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := old.Retire(ctx); err != nil || ctx.Err() != nil {
				r.t.Errorf("retire: %v, %v", err, ctx.Err())
			}
		})
	}
}

// end stops a generation that no client is left of.
func (r *reloading) end(g *generation) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, old := range g.receivers {
		if err := old.Stop(ctx); err != nil {
			r.t.Error(err)
		}
	}
	if err := g.seats.Close(); err != nil {
		r.t.Error(err)
	}
}

// client sends requests, one after the other, until it is told to end.
type client struct {
	name  string
	pause time.Duration
	send  func() error
	sent  atomic.Int64
}

func (c *client) run(t *testing.T, end <-chan struct{}) {
	for i := 0; ; i++ {
		select {
		case <-end:
			return
		default:
		}
		if err := c.send(); err != nil {
			t.Errorf("%s, request %d: %v", c.name, i, err)
			return
		}
		c.sent.Add(1)
		if c.pause > 0 {
			select {
			case <-end:
				return
			case <-time.After(c.pause):
			}
		}
	}
}

func grpcClient(t *testing.T, addr net.Addr, creds credentials.TransportCredentials) func() error {
	t.Helper()
	cc, err := grpc.NewClient(addr.String(), grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	c, req := ptraceotlp.NewGRPCClient(cc), ptraceotlp.NewExportRequestFromTraces(receivertest.Traces(3, 10))
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_, err := c.Export(ctx, req)
		return err
	}
}

// newcomer makes a connection for every call.
func newcomer(addr net.Addr) func() error {
	req := ptraceotlp.NewExportRequestFromTraces(receivertest.Traces(3, 10))
	return func() error {
		cc, err := grpc.NewClient(addr.String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return err
		}
		defer cc.Close()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_, err = ptraceotlp.NewGRPCClient(cc).Export(ctx, req)
		return err
	}
}

// strict is an HTTP/1.1 client that never repeats anything, unlike net/http's.
type strict struct {
	dial func() (net.Conn, error)
	head string
	body []byte
	c    net.Conn
	r    *bufio.Reader
}

func (s *strict) post() error {
	if s.c == nil {
		c, err := s.dial()
		if err != nil {
			return err
		}
		s.c, s.r = c, bufio.NewReader(c)
	}
	s.c.SetDeadline(time.Now().Add(patience))
	if _, err := s.c.Write(append([]byte(s.head), s.body...)); err != nil {
		return err
	}
	resp, err := http.ReadResponse(s.r, nil)
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", resp.Status)
	}
	if resp.Close {
		s.c.Close()
		s.c = nil
	}
	return nil
}

func (s *strict) close() {
	if s.c != nil {
		s.c.Close()
	}
}

func newStrict(t *testing.T, addr net.Addr, secure *tls.Config, header string) *strict {
	body, _ := receivertest.Request(otlp.Traces, 3, 10)
	s := &strict{body: body, head: fmt.Sprintf(
		"POST /v1/traces HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-protobuf\r\n%sContent-Length: %d\r\n\r\n", header, len(body))}
	s.dial = func() (net.Conn, error) {
		if secure != nil {
			return tls.Dial("tcp", addr.String(), secure)
		}
		return net.Dial("tcp", addr.String())
	}
	t.Cleanup(s.close)
	return s
}

func http2Client(t *testing.T, addr net.Addr, secure *tls.Config) func() error {
	transport := &http.Transport{TLSClientConfig: secure, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	c := &http.Client{Transport: transport, Timeout: patience}
	body, _ := receivertest.Request(otlp.Traces, 3, 10)
	return func() error {
		resp, err := c.Post("https://"+addr.String()+"/v1/traces", "application/x-protobuf", bytes.NewReader(body))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 {
			return fmt.Errorf("%s %s", resp.Proto, resp.Status)
		}
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
}

// Reload, section 6: "100 swaps …, 0 errors, 0 refused". HOLDFAST_LONG=1 plays all of them.
func TestNobodyNoticesThatGenerationsChange(t *testing.T) {
	swaps, every := 20, 30*time.Millisecond
	if os.Getenv("HOLDFAST_LONG") != "" {
		swaps, every = 100, 45*time.Millisecond
	}
	authority := certtest.NewAuthority(t, "authority")
	issued := authority.Issue(t, time.Now().Add(time.Hour), "server", "127.0.0.1")
	r := &reloading{t: t, sockets: sockets.New(nil), settings: receivertest.Settings(&receivertest.Sink{}), dir: t.TempDir()}
	certtest.Write(t, r.dir, "cert", issued.Cert)
	certtest.Write(t, r.dir, "key", issued.Key)
	target, stop := r.target()
	r.running = r.prepare(target)
	r.running.seats.Take()

	plain, secure := r.running.receivers[0], r.running.receivers[1]
	trust := &tls.Config{RootCAs: authority.Pool()}
	old := &tls.Config{RootCAs: authority.Pool(), NextProtos: []string{"http/1.1"}}
	fresh := newStrict(t, plain.HTTP.Address(), nil, "Connection: close\r\n")
	clients := []*client{
		{name: "gRPC", send: grpcClient(t, plain.GRPC.Address(), insecure.NewCredentials())},
		{name: "gRPC, now and then", send: grpcClient(t, plain.GRPC.Address(), insecure.NewCredentials()), pause: 7 * time.Millisecond},
		{name: "gRPC, TLS", send: grpcClient(t, secure.GRPC.Address(), credentials.NewTLS(trust))},
		{name: "HTTP/1.1", send: newStrict(t, plain.HTTP.Address(), nil, "").post},
		{name: "HTTP/1.1, now and then", send: newStrict(t, plain.HTTP.Address(), nil, "").post, pause: 11 * time.Millisecond},
		{name: "HTTP/1.1, TLS", send: newStrict(t, secure.HTTP.Address(), old, "").post, pause: time.Millisecond},
		{name: "HTTP/2, TLS", send: http2Client(t, secure.HTTP.Address(), trust), pause: time.Millisecond},
		{name: "gRPC, a connection per call", send: newcomer(plain.GRPC.Address()), pause: time.Millisecond},
		{name: "HTTP/1.1, one per request", send: fresh.post, pause: time.Millisecond},
	}
	var dials atomic.Int64
	dial := &client{name: "a dial", pause: time.Millisecond, send: func() error {
		addr := []net.Addr{plain.GRPC.Address(), plain.HTTP.Address(), secure.GRPC.Address(), secure.HTTP.Address()}[dials.Add(1)%4]
		c, err := net.Dial("tcp", addr.String())
		if err != nil {
			return err
		}
		return c.Close()
	}}
	end := make(chan struct{})
	var running sync.WaitGroup
	for _, c := range append(clients, dial) {
		running.Go(func() { c.run(t, end) })
	}

	began := time.Now()
	var slowest time.Duration
	servers, rollbacks := 0, 0
	turn := time.NewTicker(every)
	defer turn.Stop()
	for i := range swaps {
		<-turn.C
		to, stopNext := r.target()
		if i%2 == 0 { // the receivers are unchanged
			r.lead(to)
		} else {
			next, former := r.prepare(to), r.running
			switched := time.Now()
			r.switchTo(next)
			slowest = max(slowest, time.Since(switched))
			r.warm = append(r.warm, former)
			r.lead(to)
			servers++
			if i%10 == 9 { // and back again; the clients of the new servers leave them
				<-turn.C
				rollbacks++
				r.switchTo(former)
				r.warm[len(r.warm)-1] = next
			}
			if err := r.running.seats.Settle(); err != nil {
				t.Error(err)
			}
		}
		stop()
		stop = stopNext
	}
	r.retiring.Wait() // while the clients go on: nobody is cut
	took := time.Since(began)
	close(end)
	running.Wait()
	for _, g := range append(r.warm, r.running) {
		r.end(g)
	}
	if err := r.sockets.Close(); err != nil {
		t.Error(err)
	}
	var sent int64
	for _, c := range clients {
		if c.sent.Load() == 0 {
			t.Errorf("%s sent nothing", c.name)
		}
		t.Logf("%-28s %6d", c.name, c.sent.Load())
		sent += c.sent.Load()
	}
	if sent != r.accepted.Load() {
		t.Errorf("%d requests were accepted, %d acknowledged", r.accepted.Load(), sent)
	}
	if used := r.settings.Admission.Used(); used != 0 {
		t.Errorf("%d bytes are still granted", used)
	}
	t.Logf("%d swaps in %s: %d new servers, %d ways back, slowest take %s; %d requests, %d dials",
		swaps, took.Round(time.Millisecond), servers, rollbacks, slowest.Round(time.Microsecond), sent, dials.Load())
}
