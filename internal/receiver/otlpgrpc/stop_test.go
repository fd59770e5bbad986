// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc_test

import (
	"context"
	"net"
	"testing"
	"time"

	"go.opentelemetry.io/collector/config/configgrpc"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/receivertest"
)

func TestStopLetsARequestEndThatIsBeingTaken(t *testing.T) {
	entered, finish := make(chan struct{}), make(chan struct{})
	sink := &receivertest.Sink{Answer: func(context.Context, *otlp.Payload) (receiver.Result, error) {
		close(entered)
		<-finish
		return receiver.Result{}, nil
	}}
	r := start(t, sink, options{})
	cc := r.dial("")
	body, _ := receivertest.Request(otlp.Traces, 5, 5)
	answered := make(chan error, 1)
	go func() {
		_, err := send(cc, export, body)
		answered <- err
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
	if err := <-answered; err != nil {
		t.Errorf("the request that ran: %v", err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	r.WantValue(5, "otelcol_receiver_accepted_spans", "transport", "grpc")
}

func TestStopAnswersWhoIsStillSendingWithAHint(t *testing.T) {
	r := start(t, &receivertest.Sink{}, options{})
	h := r.raw().hello()
	h.headers(1, false)
	if err := h.WriteData(1, false, message(0, 1000, make([]byte, 10))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the message is being read", func() bool { return r.Reading() == 1 })
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- r.Stop(ctx) }()
	got := h.trailer(1)
	if got["grpc-status"] != "14" || got["grpc-status-details-bin"] == "" {
		t.Errorf("%v", got)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	r.WantValue(1, "holdfast_door_refused_total", "reason", "stopping")
}

func TestStopCutsARequestWhoseSinkHeedsItsContext(t *testing.T) {
	entered := make(chan struct{})
	sink := &receivertest.Sink{Answer: func(ctx context.Context, _ *otlp.Payload) (receiver.Result, error) {
		close(entered)
		<-ctx.Done()
		return receiver.Result{}, ctx.Err()
	}}
	r := start(t, sink, options{})
	cc := r.dial("")
	body, _ := receivertest.Request(otlp.Traces, 5, 5)
	answered := make(chan error, 1)
	go func() {
		_, err := send(cc, export, body)
		answered <- err
	}()
	<-entered
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	begun := time.Now()
	if err := r.Stop(ctx); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("took %s", took)
	}
	if err := <-answered; status.Code(err) != codes.Unavailable {
		t.Errorf("the request that ran: %v", err)
	}
}

func TestStopLeavesASinkBehindThatDoesNotEnd(t *testing.T) {
	entered, finish := make(chan struct{}), make(chan struct{})
	sink := &receivertest.Sink{Answer: func(context.Context, *otlp.Payload) (receiver.Result, error) {
		close(entered)
		<-finish
		return receiver.Result{}, nil
	}}
	r := prepare(t, sink, options{})
	if err := r.Start(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	cc := r.dial("")
	body, _ := receivertest.Request(otlp.Traces, 5, 5)
	answered := make(chan error, 1)
	go func() {
		_, err := send(cc, export, body)
		answered <- err
	}()
	<-entered
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := r.Stop(ctx); err == nil {
		t.Error("Stop says that everything ended")
	}
	if err := <-answered; status.Code(err) != codes.Unavailable {
		t.Errorf("the request that ran: %v", err)
	}
	close(finish)
	eventually(t, "its memory is back", func() bool { return r.Set.Admission.Used() == 0 })
}

func TestStopMayBeCalledTwiceAndBeforeStart(t *testing.T) {
	r := prepare(t, &receivertest.Sink{}, options{})
	if err := r.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	r = start(t, &receivertest.Sink{}, options{})
	for range 2 {
		if err := r.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestATakenPortFailsTheStart(t *testing.T) {
	r := start(t, &receivertest.Sink{}, options{})
	other := prepare(t, &receivertest.Sink{}, options{cfg: func(c *configgrpc.ServerConfig) { c.NetAddr.Endpoint = r.Address().String() }})
	if err := other.Start(t.Context(), nil); err == nil {
		t.Error("the port was taken twice")
		other.stop()
	}
}

func TestListeningIsLoggedWithWhatItIsOpenTo(t *testing.T) {
	o, logs := logged(options{})
	r := start(t, &receivertest.Sink{}, o)
	lines := logs.FilterMessage("Listening").All()
	if len(lines) != 1 || lines[0].Level != zap.InfoLevel {
		t.Fatalf("%v", lines)
	}
	got := lines[0].ContextMap()
	if got["component"] != "otlp" || got["address"] != r.Address().String() || got["tls"] != false || got["auth"] != false {
		t.Errorf("%v", got)
	}
	if n := logs.FilterLevelExact(zap.WarnLevel).Len(); n != 0 {
		t.Errorf("%d warnings for a loopback address", n)
	}
	if logs.FilterMessage("Limits in force").Len() != 1 {
		t.Error("the limits are not logged")
	}

	o, logs = logged(options{cfg: func(c *configgrpc.ServerConfig) { c.NetAddr.Endpoint = "0.0.0.0:0" }})
	start(t, &receivertest.Sink{}, o)
	if n := logs.FilterLevelExact(zap.WarnLevel).Len(); n != 1 {
		t.Errorf("%d warnings for all addresses", n)
	}
}

// grpc-go waits for every handshake before it tells anybody that it goes away.
func TestStopDoesNotWaitForClientsThatSayNothing(t *testing.T) {
	r := start(t, &receivertest.Sink{}, options{})
	for _, text := range []string{"", "PRI * HT"} {
		c, err := net.Dial("tcp", r.Address().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the connections are open", func() bool { return r.Value("holdfast_door_connections") == 2 })
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := r.Stop(ctx); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %s", took)
	}
}
