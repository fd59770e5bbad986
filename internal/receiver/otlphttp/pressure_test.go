// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlphttp_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/holdfast-telemetry/holdfast/internal/admission"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/otlphttp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/receivertest"
)

// Fault: L1.
func TestManyLargeRequestsStayWithinTheBudgetAndSmallOnesPass(t *testing.T) {
	if testing.Short() {
		t.Skip("sends 2 GiB")
	}
	const budget, clients, size = 64 << 20, 64, 32 << 20
	wrap := func(field protowire.Number, b []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), b)
	}
	large := wrap(1, append(wrap(3, bytes.Repeat([]byte{'u'}, size-1000)), wrap(2, []byte{0x12, 0x00})...))
	small, _ := receivertest.Request(otlp.Traces, 10, 50)

	// What is accepted waits until as many were refused as do not fit, so that the pressure is there for sure.
	var refused, accepted atomic.Int64
	enough := make(chan struct{})
	release := sync.OnceFunc(func() { close(enough) })
	sink := &receivertest.Sink{Gate: admission.New(budget), Discard: true}
	sink.Answer = func(ctx context.Context, p *otlp.Payload) (receiver.Result, error) {
		if p.Size > 1<<20 {
			select {
			case <-enough:
			case <-ctx.Done():
				return receiver.Result{}, ctx.Err()
			}
		}
		return receiver.Result{}, nil
	}
	r := start(t, sink, options{})

	defer debug.SetGCPercent(debug.SetGCPercent(20)) // it is about what is held, not about garbage
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	var most atomic.Uint64
	stop, sampled := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(sampled)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				var now runtime.MemStats
				runtime.ReadMemStats(&now)
				most.Store(max(most.Load(), now.HeapAlloc-min(now.HeapAlloc, before.HeapAlloc)))
			}
		}
	}()

	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			a, err := r.post(traces, bytes.NewReader(large), "Content-Type", protobufType)
			switch {
			case err != nil: // refused while it went on sending
				if !errors.Is(err, io.EOF) && !isReset(err) {
					t.Errorf("%v", err)
				}
			case a.status == http.StatusOK:
				accepted.Add(1)
				return
			default:
				if _, after := r.wantError(a, http.StatusServiceUnavailable, protobufType); after > 3*time.Second {
					t.Errorf("come back after %s", after)
				}
			}
			if refused.Add(1) >= clients-2 {
				release()
			}
		})
	}
	smallErrors := 0
	for range 200 {
		if a, err := r.post(traces, bytes.NewReader(small), "Content-Type", protobufType); err != nil || a.status != http.StatusOK {
			smallErrors++
		}
	}
	eventually(t, "all but two large requests are refused or one of them is done", func() bool {
		return refused.Load()+accepted.Load() >= clients-2
	})
	release()
	all.Wait()
	close(stop)
	<-sampled
	if accepted.Load() == 0 {
		t.Error("no large request was accepted")
	}
	if smallErrors > 0 {
		t.Errorf("%d of 200 small requests were refused", smallErrors)
	}
	if got := most.Load(); got > 3*budget {
		t.Errorf("the heap grew by %d MiB", got>>20)
	}
	if got := r.Value("holdfast_door_refused_total", "reason", "admission"); got != float64(refused.Load()) {
		t.Errorf("%v refusals counted of %d", got, refused.Load())
	}
	t.Logf("%d accepted, %d refused, heap grew by %d MiB at most", accepted.Load(), refused.Load(), most.Load()>>20)
}

func isReset(err error) bool {
	var op *net.OpError
	return errors.As(err, &op)
}

// raw is a connection on which bytes are written by hand.
type raw struct {
	net.Conn
	t testing.TB
}

func (r *rig) raw(text string) *raw {
	r.T.Helper()
	c, err := net.Dial("tcp", r.Address().String())
	if err != nil {
		r.T.Fatal(err)
	}
	r.T.Cleanup(func() { c.Close() })
	h := &raw{c, r.T}
	h.write(text)
	return h
}

func (h *raw) write(text string) {
	h.t.Helper()
	if _, err := io.WriteString(h, text); err != nil {
		h.t.Fatal(err)
	}
}

// answer reads the answer, or fails.
func (h *raw) answer() *http.Response {
	h.t.Helper()
	h.SetReadDeadline(time.Now().Add(patience))
	resp, err := http.ReadResponse(bufio.NewReader(h), nil)
	if err != nil {
		h.t.Fatal(err)
	}
	return resp
}

// silence waits until the server closes the connection and checks that it said nothing.
func (h *raw) silence() {
	h.t.Helper()
	h.SetReadDeadline(time.Now().Add(patience))
	b, err := io.ReadAll(h)
	var netErr net.Error
	if errors.As(err, &netErr) && netErr.Timeout() {
		h.t.Error("the connection stays open")
	}
	if len(b) > 0 {
		h.t.Errorf("%q", b)
	}
}

func head(length int) string {
	return fmt.Sprintf("POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: %d\r\n\r\n", length)
}

// Fault: L5.
func TestABodyThatStallsIsCutWithoutAnAnswer(t *testing.T) {
	r := start(t, &receivertest.Sink{}, options{server: func(s *otlphttp.Server) { s.SetPace(time.Minute, 100*time.Millisecond, 1<<10) }})
	silent, slow := r.raw(head(100_000)), r.raw(head(100_000)+"some bytes")
	silent.silence()
	slow.silence()
	eventually(t, "both are counted", func() bool {
		return r.Value("holdfast_door_refused_total", "reason", "timeout") == 2
	})
	wire, _ := receivertest.Request(otlp.Traces, 1, 1)
	if a := r.mustPost(traces, wire, "Content-Type", protobufType); a.status != http.StatusOK {
		t.Errorf("an honest client: %d", a.status)
	}
}

func TestABodyAboveTheMinimumRateIsCutAtTheEndOfItsTime(t *testing.T) {
	r := start(t, &receivertest.Sink{}, options{server: func(s *otlphttp.Server) { s.SetPace(300*time.Millisecond, 50*time.Millisecond, 1) }})
	h := r.raw(head(1_000_000) + "0123456789") // ten bytes are good for ten seconds
	begun := time.Now()
	h.silence()
	if took := time.Since(begun); took < 250*time.Millisecond {
		t.Errorf("cut after %s", took)
	}
}

func TestASlowBodyThatKeepsTheRateIsTaken(t *testing.T) {
	r := start(t, &receivertest.Sink{}, options{server: func(s *otlphttp.Server) { s.SetPace(patience, 200*time.Millisecond, 1000) }})
	wire, _ := receivertest.Request(otlp.Traces, 40, 200)
	const first = 5000 // good for five seconds
	h := r.raw(head(len(wire)) + string(wire[:first]))
	pause := time.NewTimer(600 * time.Millisecond)
	<-pause.C
	h.write(string(wire[first:]))
	if got := h.answer(); got.StatusCode != http.StatusOK {
		t.Errorf("%d", got.StatusCode)
	}
}

// Fault: L5.
func TestHeadersThatStallAreCut(t *testing.T) {
	r := start(t, &receivertest.Sink{}, options{cfg: func(c *otlphttp.Config) { c.ServerConfig.ReadHeaderTimeout = 100 * time.Millisecond }})
	r.raw("").silence()
	h := r.raw("POST /v1/traces HTTP/1.1\r\nHos")
	h.SetReadDeadline(time.Now().Add(patience))
	if b, err := io.ReadAll(h); err != nil || bytes.Contains(b, []byte("200 OK")) {
		t.Errorf("%q, %v", b, err)
	}
}

func TestABodyShorterThanItsLengthIsNotAnswered(t *testing.T) {
	r := start(t, &receivertest.Sink{}, options{})
	h := r.raw(head(100) + "ten bytes.")
	if err := h.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	h.silence()
	eventually(t, "it is counted", func() bool {
		return r.Value("otelcol_receiver_refused_spans", "transport", "http") == 1
	})
	if n := len(r.Sink.Payloads()); n != 0 {
		t.Errorf("%d payloads", n)
	}
}

func TestAWaitLongerThanTheBodysTimeDoesNotEndTheRequest(t *testing.T) {
	sink := &receivertest.Sink{}
	sink.Answer = func(ctx context.Context, _ *otlp.Payload) (receiver.Result, error) {
		wait := time.NewTimer(1200 * time.Millisecond)
		defer wait.Stop()
		select {
		case <-wait.C:
			return receiver.Result{}, nil
		case <-ctx.Done():
			return receiver.Result{}, ctx.Err()
		}
	}
	r := start(t, sink, options{
		cfg: func(c *otlphttp.Config) {
			c.ServerConfig.ReadTimeout, c.ServerConfig.WriteTimeout = 500*time.Millisecond, 300*time.Millisecond
		},
		server: func(s *otlphttp.Server) { s.SetPace(500*time.Millisecond, 400*time.Millisecond, 1) },
	})
	wire, _ := receivertest.Request(otlp.Traces, 1, 1)
	for range 2 { // the second on the connection of the first
		if a := r.mustPost(traces, wire, "Content-Type", protobufType); a.status != http.StatusOK {
			t.Errorf("%d", a.status)
		}
	}
}

func TestAClientThatLeavesEndsTheWaitOfItsRequest(t *testing.T) {
	ended := make(chan error, 1)
	sink := &receivertest.Sink{Answer: func(ctx context.Context, _ *otlp.Payload) (receiver.Result, error) {
		<-ctx.Done()
		ended <- ctx.Err()
		return receiver.Result{}, ctx.Err()
	}}
	r := start(t, sink, options{})
	wire, _ := receivertest.Request(otlp.Traces, 5, 5)
	h := r.raw(head(len(wire)) + string(wire))
	eventually(t, "the payload is handed on", func() bool { return len(r.Sink.Payloads()) == 1 })
	h.Close()
	<-ended
	eventually(t, "the request is counted as refused", func() bool {
		return r.Value("otelcol_receiver_refused_spans", "transport", "http") == 5
	})
}

func TestStopLetsARequestEndThatIsBeingTaken(t *testing.T) {
	entered, finish := make(chan struct{}), make(chan struct{})
	sink := &receivertest.Sink{Answer: func(context.Context, *otlp.Payload) (receiver.Result, error) {
		close(entered)
		<-finish
		return receiver.Result{}, nil
	}}
	r := start(t, sink, options{})
	wire, _ := receivertest.Request(otlp.Traces, 5, 5)
	answered := make(chan answer, 1)
	go func() {
		a, err := r.post(traces, bytes.NewReader(wire), "Content-Type", protobufType)
		if err != nil {
			t.Error(err)
		}
		answered <- a
	}()
	<-entered
	stopped := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		stopped <- r.Stop(ctx)
	}()
	eventually(t, "the listener is closed", func() bool {
		c, err := net.Dial("tcp", r.Address().String())
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	close(finish)
	if a := <-answered; a.status != http.StatusOK {
		t.Errorf("the request that ran: %d", a.status)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestStopAnswersWhoIsStillSendingWithAHint(t *testing.T) {
	r := start(t, &receivertest.Sink{}, options{})
	h := r.raw(head(1000) + "ten bytes.")
	eventually(t, "the body is being read", func() bool { return r.Reading() == 1 })
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- r.Stop(ctx) }()
	resp := h.answer()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	r.wantError(answer{resp.StatusCode, resp.Header, b}, http.StatusServiceUnavailable, protobufType)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	r.WantValue(1, "holdfast_door_refused_total", "reason", "stopping")
}

func TestStopDoesNotWaitForClientsThatSayNothing(t *testing.T) {
	r := start(t, &receivertest.Sink{}, options{})
	for range 3 {
		c, err := net.Dial("tcp", r.Address().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	eventually(t, "the connections are open", func() bool { return r.Value("holdfast_door_connections") == 3 })
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := r.Stop(ctx); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestStopIsBoundedAndMayBeCalledTwiceAndBeforeStart(t *testing.T) {
	r := prepare(t, &receivertest.Sink{}, options{})
	if err := r.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	entered, finish := make(chan struct{}), make(chan struct{})
	r = prepare(t, &receivertest.Sink{Answer: func(context.Context, *otlp.Payload) (receiver.Result, error) {
		close(entered)
		<-finish
		return receiver.Result{}, nil
	}}, options{})
	if err := r.Start(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	wire, _ := receivertest.Request(otlp.Traces, 5, 5)
	answered := make(chan error, 1)
	go func() {
		_, err := r.post(traces, bytes.NewReader(wire), "Content-Type", protobufType)
		answered <- err
	}()
	<-entered
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	begun := time.Now()
	if err := r.Stop(ctx); err == nil {
		t.Error("Stop says that everything ended")
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("took %s", took)
	}
	if err := <-answered; err == nil {
		t.Error("a request that was cut was answered")
	}
	if err := r.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	close(finish)
	eventually(t, "its memory is back", func() bool { return r.Set.Admission.Used() == 0 })
}
