// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package mockbackend_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
	"github.com/holdfast-telemetry/holdfast/internal/loadgen"
	"github.com/holdfast-telemetry/holdfast/internal/mockbackend"
)

// limit is how long a test waits for what must happen; short is the timeout of requests that get no answer.
const (
	limit = 30 * time.Second
	short = 2 * time.Second
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, change func(*mockbackend.Options)) *mockbackend.Backend {
	t.Helper()
	o := mockbackend.Options{Name: "primary", GRPC: "127.0.0.1:0", HTTP: "127.0.0.1:0"}
	if change != nil {
		change(&o)
	}
	b, err := mockbackend.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return b
}

// client sends requests and remembers the answers.
type client struct {
	loadgen.Options
	mu      sync.Mutex
	answers []ledger.Result
}

// ask sends o.Requests requests of spans, one after the other, and returns all answers. What is not set is small.
func ask(t *testing.T, to string, change func(*loadgen.Options)) []ledger.Result {
	t.Helper()
	c := &client{Options: loadgen.Options{Run: "ask", To: []string{to}, Signals: []item.Signal{item.Traces}, Producers: 1, Requests: 1,
		Items: 10, ItemBytes: 40, OnUnknown: ledger.ModeDrop, Timeout: limit}}
	if change != nil {
		change(&c.Options)
	}
	c.Progress = func(_ ledger.Attempt, r ledger.Result) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.answers = append(c.answers, r)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if _, err := loadgen.Run(ctx, c.Options); err != nil {
		t.Fatal(err)
	}
	return c.answers
}

// targets are the addresses of a backend by scheme.
func targets(b *mockbackend.Backend) map[string]string {
	return map[string]string{"grpc": "grpc://" + b.GRPCAddr(), "http": "http://" + b.HTTPAddr(), "http+json": "http+json://" + b.HTTPAddr()}
}

func TestEveryFaultShowsOnTheWire(t *testing.T) {
	for _, c := range []struct {
		fault      string
		grpc, http string // state and code
		stored     uint64 // per request, of 10 items
		timeout    time.Duration
	}{
		{fault: "hang", grpc: "unknown DEADLINE_EXCEEDED", http: "unknown TIMEOUT", timeout: short},
		{fault: "hang,store=true", grpc: "unknown DEADLINE_EXCEEDED", http: "unknown TIMEOUT", timeout: short, stored: 10},
		{fault: "slow:1ms..5ms", grpc: "acked OK", http: "acked 200", stored: 10},
		{fault: "status:UNAVAILABLE", grpc: "unknown UNAVAILABLE", http: "unknown 503"},
		{fault: "status:503,store=true", grpc: "unknown UNAVAILABLE", http: "unknown 503", stored: 10},
		{fault: "status:InvalidArgument", grpc: "refused INVALID_ARGUMENT", http: "refused 400"},
		{fault: "status:401", grpc: "refused UNAUTHENTICATED", http: "refused 401"},
		{fault: "status:429", grpc: "refused RESOURCE_EXHAUSTED", http: "unknown 429"},
		{fault: "status:429,retry_after=5s", grpc: "unknown RESOURCE_EXHAUSTED", http: "unknown 429"},
		{fault: "status:INTERNAL", grpc: "unknown INTERNAL", http: "unknown 500"},
		{fault: "partial:3", grpc: "partial OK 3", http: "partial 200 3", stored: 7},
		{fault: "partial:30%", grpc: "partial OK 3", http: "partial 200 3", stored: 7},
		{fault: "partial:0", grpc: "acked OK", http: "acked 200", stored: 10},
		{fault: "partial:100", grpc: "partial OK 10", http: "partial 200 10"},
		{fault: "reject_marked", grpc: "refused INVALID_ARGUMENT", http: "refused 400"},
		{fault: "reject_marked:part", grpc: "partial OK 2", http: "partial 200 2", stored: 8},
		{fault: "max_bytes:100", grpc: "refused RESOURCE_EXHAUSTED", http: "refused 413"},
		{fault: "max_bytes:100000", grpc: "acked OK", http: "acked 200", stored: 10},
		{fault: "no_compression", grpc: "refused UNIMPLEMENTED", http: "refused 415"},
		{fault: "capacity:1,burst=5", grpc: "acked OK", http: "acked 200", stored: 10},
		{fault: "inflight:1", grpc: "acked OK", http: "acked 200", stored: 10},
		{fault: "reset:headers", grpc: "unknown UNAVAILABLE", http: "unknown -"},
		{fault: "reset:body", grpc: "unknown UNAVAILABLE", http: "unknown -"},
		{fault: "reset:answer", grpc: "unknown UNAVAILABLE", http: "unknown -"},
		{fault: "reset:answer,store=true", grpc: "unknown UNAVAILABLE", http: "unknown -", stored: 10},
		{fault: "answer:html", grpc: "unknown UNKNOWN", http: "unknown 200"},
		{fault: "answer:type", grpc: "unknown UNKNOWN", http: "unknown 200"},
		{fault: "answer:redirect", grpc: "unknown UNKNOWN", http: "unknown 307"},
		{fault: "answer:none", grpc: "unknown UNAVAILABLE", http: "unknown -"},
		{fault: "answer:huge", grpc: "unknown RESOURCE_EXHAUSTED", http: "unknown 200"},
		{fault: "answer:endless", grpc: "unknown RESOURCE_EXHAUSTED", http: "unknown 200"},
		{fault: "answer:html,store=true", grpc: "unknown UNKNOWN", http: "unknown 200", stored: 10},
		{fault: "forget", grpc: "acked OK", http: "acked 200"},
		{fault: "refuse", grpc: "refused UNAVAILABLE", http: "refused -"},
		{fault: "goaway:1", grpc: "acked OK", http: "acked 200", stored: 10},
		{fault: "age:1h", grpc: "acked OK", http: "acked 200", stored: 10},
		{fault: "status:503,signals=logs+metrics", grpc: "acked OK", http: "acked 200", stored: 10},
		{fault: "status:503,share=0", grpc: "acked OK", http: "acked 200", stored: 10},
		{fault: "status:503,after=1h", grpc: "acked OK", http: "acked 200", stored: 10},
		{fault: "flap:1h/1h", grpc: "acked OK", http: "acked 200", stored: 10},
		{fault: "flap:1ns/1h,fault=status:504", grpc: "unknown DEADLINE_EXCEEDED", http: "unknown 504"},
	} {
		for scheme, want := range map[string]string{"grpc": c.grpc, "http": c.http, "http+json": c.http} {
			t.Run(c.fault+" "+scheme, func(t *testing.T) {
				t.Parallel()
				b := start(t, func(o *mockbackend.Options) { o.Faults = []string{c.fault} })
				answers := ask(t, targets(b)[scheme], func(o *loadgen.Options) {
					o.PoisonEvery, o.Compression = 5, "gzip"
					if c.timeout > 0 {
						o.Timeout = c.timeout
					}
				})
				got := string(answers[0].State) + " " + answers[0].Code
				if answers[0].Rejected > 0 {
					got += fmt.Sprint(" ", answers[0].Rejected)
				}
				if got != want {
					t.Errorf("%s (%s), want %s", got, answers[0].Text, want)
				}
				s := b.State()
				if s.Stored["traces"] != c.stored {
					t.Errorf("stored %d, want %d", s.Stored["traces"], c.stored)
				}
				quietly := []string{"max_bytes:100000", "inflight:1", "age:1h", "share=0", "after=1h", "flap:1h/1h", "signals=logs", "capacity:1"}
				hit := !slices.ContainsFunc(quietly, func(part string) bool { return strings.Contains(c.fault, part) })
				if hit != (s.Faults[0].Hits > 0) {
					t.Errorf("%d hits", s.Faults[0].Hits)
				}
				if s.Error != "" {
					t.Errorf("%s", s.Error)
				}
			})
		}
	}
}

func TestARefusedAddressComesBackAsItWas(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	for scheme, to := range targets(b) {
		if a := ask(t, to, nil); a[0].State != ledger.Acked {
			t.Fatalf("%s: %+v", scheme, a)
		}
	}
	id, err := b.AddFault("refuse")
	if err != nil {
		t.Fatal(err)
	}
	for scheme, to := range targets(b) {
		_, err := net.DialTimeout("tcp", strings.TrimPrefix(to, scheme+"://"), time.Second)
		if err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("%s: dial: %v", scheme, err)
		}
		if a := ask(t, to, nil); a[0].State != ledger.Refused || !strings.Contains(a[0].Text, "not sent") {
			t.Errorf("%s: %+v", scheme, a)
		}
	}
	if !b.RemoveFault(id) || b.RemoveFault(id) {
		t.Error("a fault is removed once")
	}
	for scheme, to := range targets(b) {
		if a := ask(t, to, nil); a[0].State != ledger.Acked {
			t.Errorf("%s: %+v", scheme, a)
		}
	}
}

func TestRefuseEndsByItself(t *testing.T) {
	t.Parallel()
	b := start(t, func(o *mockbackend.Options) { o.Faults = []string{"refuse,for=300ms"} })
	answers := ask(t, targets(b)["grpc"], func(o *loadgen.Options) { o.OnUnknown = ledger.ModeRetry })
	if n := len(answers); n < 2 || answers[0].State != ledger.Refused || answers[n-1].State != ledger.Acked {
		t.Errorf("%+v", answers)
	}
}

func TestABlackholeTakesConnectionsAndReadsNothing(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"grpc", "http"} {
		b := start(t, nil)
		to := targets(b)[scheme]
		if a := ask(t, to, nil); a[0].State != ledger.Acked {
			t.Fatalf("%+v", a)
		}
		if _, err := b.AddFault("blackhole"); err != nil {
			t.Fatal(err)
		}
		c, err := net.DialTimeout("tcp", strings.TrimPrefix(to, scheme+"://"), limit)
		if err != nil {
			t.Fatalf("the kernel refuses: %v", err)
		}
		defer c.Close()
		answers := ask(t, to, func(o *loadgen.Options) { o.Timeout = short })
		// gRPC waits for the server's settings before it sends anything: no byte of the request left.
		want := map[string]ledger.State{"grpc": ledger.Refused, "http": ledger.Unknown}[scheme]
		if answers[0].State != want {
			t.Errorf("%s: %+v", scheme, answers)
		}
		if s := b.State(); s.Stored["traces"] != 10 || s.Faults[0].Hits == 0 {
			t.Errorf("%s: %+v", scheme, s)
		}
		if err := b.SetFaults(); err != nil {
			t.Fatal(err)
		}
		if a := ask(t, to, nil); a[0].State != ledger.Acked {
			t.Errorf("%s: after: %+v", scheme, a)
		}
	}
}

func TestLiveConnectionsStopBeingReadInABlackhole(t *testing.T) {
	t.Parallel()
	b := start(t, func(o *mockbackend.Options) { o.Faults = []string{"blackhole,after=200ms"} })
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var mu sync.Mutex
	var answers []ledger.Result
	_, err := loadgen.Run(ctx, loadgen.Options{Run: "live", To: []string{targets(b)["grpc"]}, Signals: []item.Signal{item.Traces}, Producers: 1,
		For: time.Second, Rate: 1000, Items: 10, ItemBytes: 40, Timeout: short, OnUnknown: ledger.ModeDrop,
		Progress: func(_ ledger.Attempt, r ledger.Result) {
			mu.Lock()
			defer mu.Unlock()
			answers = append(answers, r)
		}})
	if err != nil {
		t.Fatal(err)
	}
	last := answers[len(answers)-1]
	if answers[0].State != ledger.Acked || last.Code != "DEADLINE_EXCEEDED" {
		t.Errorf("first %+v, last %+v", answers[0], last)
	}
}

func TestResetAtAcceptShowsTheKernelsReset(t *testing.T) {
	b := start(t, func(o *mockbackend.Options) { o.Faults = []string{"reset:accept"} })
	if err := firstRead(b.HTTPAddr()); err == nil || !strings.Contains(err.Error(), "reset") {
		t.Errorf("read: %v", err)
	}
	for _, to := range targets(b) {
		if a := ask(t, to, nil); a[0].State == ledger.Acked {
			t.Errorf("%s: %+v", to, a)
		}
	}
}

func TestCountEndsAFault(t *testing.T) {
	b := start(t, func(o *mockbackend.Options) { o.Faults = []string{"status:503,count=3"} })
	for scheme, to := range targets(b) {
		if err := b.SetFaults("status:503,count=3"); err != nil {
			t.Fatal(err)
		}
		answers := ask(t, to, func(o *loadgen.Options) { o.Requests = 5 })
		var states []string
		for _, a := range answers {
			states = append(states, string(a.State))
		}
		if strings.Join(states, " ") != "unknown unknown unknown acked acked" {
			t.Errorf("%s: %q", scheme, states)
		}
		if s := b.State(); s.Faults[0].Hits != 3 || s.Faults[0].Active {
			t.Errorf("%s: %+v", scheme, s.Faults)
		}
	}
}

func TestAShareIsDrawnByTheRequestAndStaysTheSame(t *testing.T) {
	draw := func() string {
		b := start(t, func(o *mockbackend.Options) { o.Faults, o.Seed = []string{"status:503,share=0.3"}, 7 })
		var states []string
		for _, a := range ask(t, targets(b)["grpc"], func(o *loadgen.Options) { o.Requests, o.Base = 400, time.UnixMicro(1) }) {
			states = append(states, string(a.State))
		}
		return strings.Join(states, " ")
	}
	first := draw()
	if n := strings.Count(first, "unknown"); n < 90 || n > 150 {
		t.Errorf("%d of 400 are hit", n)
	}
	if again := draw(); again != first {
		t.Errorf("another draw:\n%s\n%s", first, again)
	}
}

func TestTheFirstFaultThatDecidesAnswers(t *testing.T) {
	b := start(t, func(o *mockbackend.Options) { o.Faults = []string{"slow:50ms", "status:500,count=1", "status:400"} })
	began := time.Now()
	answers := ask(t, targets(b)["http"], func(o *loadgen.Options) { o.Requests = 2 })
	if answers[0].Code != "500" || answers[1].Code != "400" || time.Since(began) < 100*time.Millisecond {
		t.Errorf("%+v after %s", answers, time.Since(began))
	}
}

func TestRatesAndDelaysTakeTheirTime(t *testing.T) {
	t.Parallel()
	for fault, least := range map[string]time.Duration{
		"slow:200ms": 200 * time.Millisecond, "read_rate:20000": 250 * time.Millisecond, "write_rate:400": 100 * time.Millisecond,
		"capacity:100,burst=100,over=slow": 0,
	} {
		for _, scheme := range []string{"grpc", "http"} {
			b := start(t, func(o *mockbackend.Options) { o.Faults = []string{fault} })
			began := time.Now()
			answers := ask(t, targets(b)[scheme], func(o *loadgen.Options) { o.ItemBytes = 1000 })
			if took := time.Since(began); answers[0].State != ledger.Acked || took < least || b.State().Faults[0].Hits == 0 && least > 0 {
				t.Errorf("%s %s: %+v after %s, %+v", fault, scheme, answers, took, b.State().Faults)
			}
		}
	}
}

func TestCapacityRefusesWhatIsAboveIt(t *testing.T) {
	t.Parallel()
	for over, want := range map[string]string{"status": "RESOURCE_EXHAUSTED", "reset": "UNAVAILABLE"} {
		b := start(t, func(o *mockbackend.Options) { o.Faults = []string{"capacity:1,burst=15,over=" + over} })
		answers := ask(t, targets(b)["grpc"], func(o *loadgen.Options) { o.Requests = 2 })
		if answers[0].State != ledger.Acked || answers[1].State != ledger.Unknown || answers[1].Code != want {
			t.Errorf("%s: %+v", over, answers)
		}
	}
	b := start(t, func(o *mockbackend.Options) { o.Faults = []string{"capacity:100,burst=10,over=slow"} })
	began := time.Now()
	if answers := ask(t, targets(b)["grpc"], func(o *loadgen.Options) { o.Requests = 4 }); answers[3].State != ledger.Acked {
		t.Errorf("%+v", answers)
	}
	if took := time.Since(began); took < 250*time.Millisecond {
		t.Errorf("40 items at 100/s took %s", took)
	}
}

func TestNoMoreRequestsAtOnceThanAllowed(t *testing.T) {
	b := start(t, func(o *mockbackend.Options) { o.Faults = []string{"slow:100ms", "inflight:2"} })
	answers := ask(t, targets(b)["grpc"], func(o *loadgen.Options) { o.Producers, o.Requests = 6, 1 })
	acked, refused := 0, 0
	for _, a := range answers {
		switch {
		case a.State == ledger.Acked:
			acked++
		case a.Code == "RESOURCE_EXHAUSTED":
			refused++
		}
	}
	if acked < 2 || refused == 0 || acked+refused != 6 {
		t.Errorf("%+v", answers)
	}
}

func TestGoAwayAndAgeMoveClientsToNewConnectionsWithoutAnError(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{"goaway:3", "age:30ms"} {
		for _, scheme := range []string{"grpc", "http"} {
			b := start(t, func(o *mockbackend.Options) { o.Faults = []string{fault, "slow:10ms"} })
			for i, a := range ask(t, targets(b)[scheme], func(o *loadgen.Options) { o.Requests = 12 }) {
				if a.State != ledger.Acked {
					t.Errorf("%s %s: answer %d: %+v", fault, scheme, i, a)
				}
			}
			if s := b.State(); s.Conns.Total < 3 || s.Stored["traces"] != 120 {
				t.Errorf("%s %s: %+v", fault, scheme, s)
			}
		}
	}
}

func TestRetryHintsReachTheClient(t *testing.T) {
	t.Parallel()
	b := start(t, func(o *mockbackend.Options) { o.Faults = []string{"status:429,retry_after=700ms,count=1"} })
	for scheme, to := range targets(b) {
		if err := b.SetFaults("status:429,retry_after=1s,count=1"); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		answers := ask(t, to, func(o *loadgen.Options) { o.OnUnknown = ledger.ModeRetry })
		if took := time.Since(began); len(answers) != 2 || answers[1].State != ledger.Acked || took < 900*time.Millisecond {
			t.Errorf("%s: %+v after %s", scheme, answers, took)
		}
	}
}

func TestSpoiltCertificatesAreRefusedByClients(t *testing.T) {
	for fault, good := range map[string]bool{
		"": true, "tls:expired": false, "tls:wrong_name": false, "tls:unknown_ca": false, "tls:client_cert": false, "tls:old": false,
	} {
		b := start(t, func(o *mockbackend.Options) {
			if o.TLS = true; fault != "" {
				o.Faults = []string{fault}
			}
		})
		for _, to := range []string{"grpcs://" + b.GRPCAddr(), "https://" + b.HTTPAddr()} {
			answers := ask(t, to, func(o *loadgen.Options) { o.CAPEM, o.Timeout = b.CA(), 2*time.Second })
			if acked := answers[0].State == ledger.Acked; acked != good {
				t.Errorf("%s %s: %+v", fault, to, answers)
			}
			if !good && answers[0].State != ledger.Refused && fault != "tls:client_cert" {
				t.Errorf("%s %s: bytes were sent: %+v", fault, to, answers)
			}
		}
	}
}

func TestATLSFaultAlsoTurnsOnWhatWasPlain(t *testing.T) {
	b := start(t, nil)
	id, err := b.AddFault("tls:wrong_name")
	if err != nil {
		t.Fatal(err)
	}
	if a := ask(t, "grpcs://"+b.GRPCAddr(), func(o *loadgen.Options) { o.SkipVerify = true }); a[0].State != ledger.Acked {
		t.Errorf("%+v", a)
	}
	b.RemoveFault(id)
	if a := ask(t, "grpc://"+b.GRPCAddr(), nil); a[0].State != ledger.Acked {
		t.Errorf("%+v", a)
	}
}
