// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc_test

import (
	"context"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
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

// waiting is a sink whose first payload waits for finish, or for the end of its context if finish is nil.
func waiting(finish chan struct{}) (sink *receivertest.Sink, entered chan struct{}) {
	entered = make(chan struct{}, 1)
	first := make(chan struct{}, 1)
	first <- struct{}{}
	return &receivertest.Sink{Answer: func(ctx context.Context, _ *otlp.Payload) (receiver.Result, error) {
		select {
		case <-first:
		default:
			return receiver.Result{}, nil
		}
		entered <- struct{}{}
		select {
		case <-finish:
			return receiver.Result{}, nil
		case <-ctx.Done():
			return receiver.Result{}, ctx.Err()
		}
	}}, entered
}

func (r *rig) begin() <-chan error {
	cc := r.dial("")
	body, _ := receivertest.Request(otlp.Traces, 5, 5)
	answered := make(chan error, 1)
	go func() {
		_, err := send(cc, export, body)
		answered <- err
	}()
	return answered
}

func TestRetiringLetsCallsEndAndServesWhoComesLater(t *testing.T) {
	finish := make(chan struct{})
	sink, entered := waiting(finish)
	r := start(t, sink, options{})
	stays := r.dial("")
	body, _ := receivertest.Request(otlp.Traces, 5, 5)
	if _, err := healthpb.NewHealthClient(r.plain()).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
	answered := r.begin()
	<-entered
	ended := r.retire(patience)
	if _, err := send(stays, export, body); err != nil { // over a new connection
		t.Error(err)
	}
	select {
	case err := <-ended:
		t.Fatalf("ended with %v while a call runs", err)
	default:
	}
	close(finish)
	if err := <-answered; err != nil {
		t.Errorf("the call that ran: %v", err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := send(stays, export, body); err != nil {
		t.Errorf("who came later: %v", err)
	}
	again := r.retire(patience)
	if _, err := send(stays, export, body); err != nil {
		t.Error(err)
	}
	if err := <-again; err != nil {
		t.Errorf("a second time: %v", err)
	}
}

func TestRetiringCutsWhoStaysTooLong(t *testing.T) {
	sink, entered := waiting(nil)
	r := start(t, sink, options{})
	answered := r.begin()
	<-entered
	if err := <-r.retire(100 * time.Millisecond); err != nil {
		t.Error(err)
	}
	if err := <-answered; status.Code(err) != codes.Unavailable {
		t.Errorf("%v", err)
	}
}

func TestAMessageThatIsBeingReadMayGoOn(t *testing.T) {
	r := start(t, &receivertest.Sink{}, options{})
	body, _ := receivertest.Request(otlp.Traces, 5, 5)
	h := r.raw().hello()
	h.headers(1, false)
	framed := message(0, len(body), body)
	if err := h.WriteData(1, false, framed[:20]); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the message is being read", func() bool { return r.Reading() == 1 })
	ended := r.retire(patience)
	if err := h.WriteData(1, true, framed[20:]); err != nil {
		t.Fatal(err)
	}
	if got := h.trailer(1); got["grpc-status"] != "0" {
		t.Errorf("%v", got)
	}
	h.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A client that says nothing is the only one that is cut before the end: grpc-go waits for it with everybody's GOAWAY.
func TestSilentClientsDoNotKeepTheOthersFromLeaving(t *testing.T) {
	r := start(t, &receivertest.Sink{}, options{})
	c, err := net.Dial("tcp", r.Address().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	stays := r.plain()
	if _, err := healthpb.NewHealthClient(stays).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both are connected", func() bool { return r.Value("holdfast_door_connections") == 2 })
	began, limit := time.Now(), 2*time.Second
	if err := <-r.retire(limit); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took >= limit {
		t.Errorf("took %s: it was cut", took)
	}
	if r.Value("holdfast_door_connections") != 0 {
		t.Error("somebody was left")
	}
}

func TestAWatchedHealthDoesNotKeepAClientFromLeaving(t *testing.T) {
	r := start(t, &receivertest.Sink{}, options{})
	watch, err := healthpb.NewHealthClient(r.plain()).Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if m, err := watch.Recv(); err != nil || m.Status != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("%v, %v", m, err)
	}
	ended := r.retire(patience)
	if _, err := watch.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("%v", err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestStopEndsARetirement(t *testing.T) {
	sink, entered := waiting(nil)
	r := start(t, sink, options{})
	answered := r.begin()
	<-entered
	ended := r.retire(patience)
	r.stopWithin(50 * time.Millisecond)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := <-answered; status.Code(err) != codes.Unavailable {
		t.Errorf("%v", err)
	}
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

// plain connects with grpc's own codec.
func (r *rig) plain() *grpc.ClientConn {
	r.T.Helper()
	cc, err := grpc.NewClient(r.Address().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		r.T.Fatal(err)
	}
	r.T.Cleanup(func() { cc.Close() })
	return cc
}

func (r *rig) stopWithin(limit time.Duration) {
	r.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := r.Stop(ctx); err != nil {
		r.T.Error(err)
	}
}
