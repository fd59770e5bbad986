// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package loadgen_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
	"github.com/holdfast-telemetry/holdfast/internal/loadgen"
	"github.com/holdfast-telemetry/holdfast/internal/mockbackend"
)

// forward sends a body on and says what came back.
type forward func(path string, body []byte) int

// relay stands where the product stands, and does to every request what cheat says: it may forward, or not, and answers
// what cheat returns.
func relay(t *testing.T, b *mockbackend.Backend, cheat func(n int64, path string, body []byte, send forward) int) string {
	t.Helper()
	var n atomic.Int64
	transport := &http.Transport{}
	client := &http.Client{Transport: transport}
	send := func(path string, body []byte) int {
		resp, err := client.Post("http://"+b.HTTPAddr()+path, "application/x-protobuf", bytes.NewReader(body))
		if err != nil {
			return http.StatusBadGateway
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
		w.WriteHeader(cheat(n.Add(1), r.URL.Path, body, send))
	}))
	t.Cleanup(func() {
		s.Close()
		transport.CloseIdleConnections()
	})
	return s.URL
}

// TestTheTesterIsTested: everything a product could do wrong, the ledger finds and names.
func TestTheTesterIsTested(t *testing.T) {
	honest := func(_ int64, path string, body []byte, send forward) int { return send(path, body) }
	for _, c := range []struct {
		name   string
		faults []string
		cheat  func(n int64, path string, body []byte, send forward) int
		want   ledger.Outcome
		names  string
	}{
		{name: "honest", cheat: honest, want: ledger.Pass},
		{name: "a sink that forgets", faults: []string{"forget,share=0.5"}, cheat: honest, want: ledger.Fail, names: "lost"},
		{name: "acknowledges without sending", want: ledger.Fail, names: "lost",
			cheat: func(n int64, path string, body []byte, send forward) int {
				if n%3 == 0 {
					return 200
				}
				return send(path, body)
			}},
		{name: "sends twice", want: ledger.Fail, names: "duplicates",
			cheat: func(n int64, path string, body []byte, send forward) int {
				if n == 4 {
					send(path, body)
				}
				return send(path, body)
			}},
		{name: "spoils one byte", want: ledger.Fail, names: "corrupted",
			cheat: func(n int64, path string, body []byte, send forward) int {
				if at := bytes.Index(body, []byte(item.KeyPad)); n == 2 && at > 0 {
					body[at+len(item.KeyPad)+10] ^= 1
				}
				return send(path, body)
			}},
		{name: "sends what nobody gave it", want: ledger.Fail, names: "phantom",
			cheat: func(n int64, path string, body []byte, send forward) int {
				if n == 1 {
					m := &loadgen.Maker{Run: "trip", BaseMicro: tripBase, ItemBytes: 50}
					send("/v1/logs", m.Proto(nil, loadgen.Batch{Signal: item.Logs, Producer: 9, Request: 1, First: 1, Last: 3}))
				}
				return send(path, body)
			}},
		{name: "refuses what it sends", want: ledger.Fail, names: "undead",
			cheat: func(n int64, path string, body []byte, send forward) int {
				code := send(path, body)
				if n == 3 {
					return 400
				}
				return code
			}},
		{name: "an answer that got lost is the producer's own resend", want: ledger.Pass, cheat: honest,
			faults: []string{"reset:answer,store=true,count=4"}},
		{name: "a sink that answers 503 and stores is met by another send", want: ledger.Pass, cheat: honest,
			faults: []string{"status:503,store=true,count=4"}},
		{name: "throttled and refused at times, and everything there in the end", want: ledger.Pass, cheat: honest,
			faults: []string{"status:429,count=5", "slow:1ms..3ms"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			b := sink(t, dir, func(o *mockbackend.Options) { o.Faults = c.faults })
			load(t, loadgen.Options{Dir: dir, To: []string{relay(t, b, c.cheat)}, ItemBytes: 50, Base: time.UnixMicro(tripBase)})
			v := verdict(t, dir, ledger.Options{}, b)
			var names []string
			for _, f := range v.Failures {
				names = append(names, f.Quantity)
			}
			if v.Outcome != c.want || c.names != "" && (len(names) == 0 || names[0] != c.names) {
				t.Errorf("want %s %s:\n%s", c.want, c.names, v.Text())
			}
		})
	}
}

const tripBase = 1_795_000_000_000_000

func TestPartialSuccessIsProvenByNumber(t *testing.T) {
	for _, fault := range []string{"partial:30%", "reject_marked:part", "partial:0"} {
		for _, scheme := range []string{"grpc", "http", "http+json"} {
			dir := t.TempDir()
			b := sink(t, dir, func(o *mockbackend.Options) { o.Faults = []string{fault} })
			to := map[string]string{"grpc": b.GRPCAddr()}[scheme]
			if to == "" {
				to = b.HTTPAddr()
			}
			s := load(t, loadgen.Options{Dir: dir, To: []string{scheme + "://" + to}, PoisonEvery: 10})
			v := verdict(t, dir, ledger.Options{}, b)
			want := map[string]uint64{"partial:30%": 900, "reject_marked:part": 300}[fault]
			if v.Outcome != ledger.Pass || v.Totals.Partial != want || v.Places[0].Items != 3000-want || s.Partial+s.Acked != 3000 {
				t.Errorf("%s %s: %+v\n%s", fault, scheme, s, v.Text())
			}
		}
	}
}

func TestASinkThatWasKilledProvesNothing(t *testing.T) {
	dir := t.TempDir()
	b := sink(t, dir, nil)
	load(t, loadgen.Options{Dir: dir, To: []string{"grpc://" + b.GRPCAddr()}})
	if err := b.Kill(); err != nil {
		t.Fatal(err)
	}
	if v := verdict(t, dir, ledger.Options{}); v.Outcome != ledger.Inconclusive {
		t.Errorf("%s", v.Text())
	}
}

func TestAnOutageIsRiddenOut(t *testing.T) {
	dir := t.TempDir()
	b := sink(t, dir, func(o *mockbackend.Options) { o.Faults = []string{"refuse,after=100ms,for=500ms"} })
	s := load(t, loadgen.Options{Dir: dir, To: []string{"grpc://" + b.GRPCAddr(), "http://" + b.HTTPAddr()}, Rate: 4000, Requests: 8})
	v := verdict(t, dir, ledger.Options{Expect: []string{"primary.hits>0"}}, b)
	if s.Acked != s.Items || s.Attempts <= s.Requests || v.Outcome != ledger.Pass || len(v.Faults) != 1 {
		t.Errorf("%+v\n%s", s, v.Text())
	}
}

func TestGivingUpLeavesUnknowns(t *testing.T) {
	dir := t.TempDir()
	b := sink(t, dir, func(o *mockbackend.Options) { o.Faults = []string{"status:503,store=true"} })
	s := load(t, loadgen.Options{Dir: dir, To: []string{"grpc://" + b.GRPCAddr()}, OnUnknown: ledger.ModeDrop})
	v := verdict(t, dir, ledger.Options{}, b)
	if s.Unknown != 3000 || v.Recovered != 3000 || v.Outcome != ledger.Inconclusive {
		t.Errorf("%+v\n%s", s, v.Text())
	}
}

func TestSeveralProducersAndRequestsAtOnceKeepTheirNumbers(t *testing.T) {
	dir := t.TempDir()
	b := sink(t, dir, nil)
	to := []string{"grpc://" + b.GRPCAddr(), "http://" + b.HTTPAddr()}
	load(t, loadgen.Options{Dir: dir, To: to, Producers: 3, Inflight: 4, Requests: 20, Items: 7})
	load(t, loadgen.Options{Dir: dir, To: to, Producers: 2, Requests: 5, Items: 9, Signals: []item.Signal{item.Metrics}})
	v := verdict(t, dir, ledger.Options{}, b)
	if v.Outcome != ledger.Pass || v.Totals.Acked != 3*3*20*7+2*5*9 {
		t.Errorf("%s", v.Text())
	}
}

func TestTheRateIsKept(t *testing.T) {
	b := sink(t, "", nil)
	began := time.Now()
	s := load(t, loadgen.Options{To: []string{"grpc://" + b.GRPCAddr()}, Rate: 5000, Items: 50, Requests: 1000, For: time.Second})
	if took := time.Since(began).Seconds(); float64(s.Acked) > 5000*took+1000 || s.Acked < 1000 {
		t.Errorf("%d items in %.2f s", s.Acked, took)
	}
}

func TestWhatMakesNoSenseIsRefusedBeforeAnythingIsWritten(t *testing.T) {
	for _, o := range []loadgen.Options{
		{Run: "Bad Name", To: []string{"grpc://127.0.0.1:1"}}, {Run: "x"}, {Run: "x", To: []string{"127.0.0.1:1"}},
		{Run: "x", To: []string{"ftp://127.0.0.1:1"}}, {Run: "x", To: []string{"grpc://127.0.0.1:1/path"}}, {Run: "x", To: []string{"http://"}},
		{Run: "x", To: []string{"grpc://127.0.0.1:1"}, Compression: "brotli"}, {Run: "x", To: []string{"grpc://127.0.0.1:1"}, OnUnknown: "pray"},
		{Run: "x", To: []string{"grpc://127.0.0.1:1"}, CA: "/does/not/exist"}, {Run: "x", To: []string{"grpc://127.0.0.1:1"}, Items: -1},
		{Run: "x", To: []string{"grpc://127.0.0.1:1"}, Producers: 70000},
		{Run: "x", To: []string{"grpc://127.0.0.1:1"}, Signals: []item.Signal{item.Logs, item.Logs}},
	} {
		o.Dir = t.TempDir() + "/run"
		if _, err := loadgen.Run(t.Context(), o); err == nil {
			t.Errorf("%+v runs", o)
		}
		if _, err := ledger.ReadRun(o.Dir); err == nil {
			t.Errorf("%+v leaves a run behind", o)
		}
	}
}

func TestJSONAndProtobufHoldTheSame(t *testing.T) {
	for _, s := range item.Signals {
		m := &loadgen.Maker{Run: "trip", BaseMicro: tripBase, ItemBytes: 50, PoisonEvery: 3}
		q := loadgen.Batch{Signal: s, Producer: 2, Request: 3, First: 21, Last: 33}
		c := item.NewChecker()
		binary, err := c.Read(s, false, m.Proto(nil, q), nil)
		if err != nil {
			t.Fatal(err)
		}
		text, err := c.Read(s, true, m.JSON(nil, q), nil)
		if err != nil {
			t.Fatal(err)
		}
		var a, b strings.Builder
		for i := range binary.Ranges {
			binary.Ranges[i].Run = nil
		}
		for i := range text.Ranges {
			text.Ranges[i].Run = nil
		}
		writeRanges(&a, binary)
		writeRanges(&b, text)
		if a.String() != b.String() || binary.Items != 13 {
			t.Errorf("%s:\n%s\n%s", s, a.String(), b.String())
		}
	}
}

func writeRanges(b *strings.Builder, c item.Content) {
	for _, r := range c.Ranges {
		fmt.Fprintf(b, "%+v\n", r)
	}
}
