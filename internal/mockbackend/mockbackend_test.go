// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package mockbackend_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/snappy"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
	"github.com/holdfast-telemetry/holdfast/internal/loadgen"
	"github.com/holdfast-telemetry/holdfast/internal/mockbackend"
)

// call sends a request to the control API and returns the status and the document.
func call(t *testing.T, c *http.Client, method, url, body string) (int, map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if json.Unmarshal(text, &doc) != nil {
		var list []any
		if err := json.Unmarshal(text, &list); err != nil {
			t.Fatalf("%s %s: %s", method, url, text)
		}
		doc = map[string]any{"list": list}
	}
	return resp.StatusCode, doc
}

func TestTheControlAPIChangesFaultsAndTellsWhatHappened(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "unix:" + filepath.Join(t.TempDir(), "control.sock")} {
		b := start(t, func(o *mockbackend.Options) { o.Control = addr })
		transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			network := "tcp"
			if strings.HasPrefix(addr, "unix") {
				network = "unix"
			}
			return (&net.Dialer{}).DialContext(ctx, network, b.ControlAddr())
		}}
		t.Cleanup(transport.CloseIdleConnections)
		c := &http.Client{Transport: transport}
		api := "http://control"

		if code, _ := call(t, c, "PUT", api+"/faults", `["status:503,count=1","slow:1ms"]`); code != 200 {
			t.Errorf("put: %d", code)
		}
		if code, doc := call(t, c, "PUT", api+"/faults", `["slow:1ms","nonsense"]`); code != 400 || !strings.Contains(fmt.Sprint(doc), "nonsense") {
			t.Errorf("put of nonsense: %d %v", code, doc)
		}
		code, doc := call(t, c, "POST", api+"/faults", `"hang,signals=logs"`)
		if code != 200 {
			t.Errorf("post: %d %v", code, doc)
		}
		id := fmt.Sprint(doc["id"])
		if code, _ := call(t, c, "POST", api+"/wait", `{"stored":{"traces":1},"timeout":"20ms"}`); code != 408 {
			t.Errorf("wait for nothing: %d", code)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			if code, _ := call(t, c, "POST", api+"/wait", `{"stored":{"traces":10},"received":{"traces":20},"timeout":"30s"}`); code != 200 {
				t.Errorf("wait: %d", code)
			}
		})
		ask(t, targets(b)["grpc"], func(o *loadgen.Options) { o.OnUnknown = ledger.ModeRetry })
		wg.Wait()
		_, state := call(t, c, "GET", api+"/state", "")
		if s := fmt.Sprint(state["answers"]); s != "map[OK:1 UNAVAILABLE:1]" {
			t.Errorf("answers %s", s)
		}
		if list, ok := state["faults"].([]any); !ok || len(list) != 3 {
			t.Errorf("faults %v", state["faults"])
		}
		if code, _ := call(t, c, "DELETE", api+"/faults/"+id, ""); code != 200 {
			t.Errorf("delete: %d", code)
		}
		if code, _ := call(t, c, "DELETE", api+"/faults/"+id, ""); code != 404 {
			t.Errorf("second delete: %d", code)
		}
		if code, _ := call(t, c, "DELETE", api+"/faults", ""); code != 200 || len(b.State().Faults) != 0 {
			t.Errorf("delete all: %d", code)
		}
		if _, doc := call(t, c, "GET", api+"/requests?last=1", ""); len(doc["list"].([]any)) != 1 ||
			!strings.Contains(fmt.Sprint(doc), "first:ask/s/1/1 ") {
			t.Errorf("requests: %v", doc)
		}
		if call(t, c, "POST", api+"/reset", ""); b.State().Received["traces"] != 0 || len(b.Requests(9)) != 0 {
			t.Errorf("reset: %+v", b.State())
		}
	}
}

func TestControlListensOnLoopbackOnly(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", ":0", "192.0.2.1:80", "example.invalid:80", "nonsense"} {
		b, err := mockbackend.Start(mockbackend.Options{Name: "x", HTTP: "127.0.0.1:0", Control: addr})
		if err == nil {
			t.Errorf("%q is taken", addr)
			_ = b.Stop()
		}
	}
}

func TestCredentialsAreMasked(t *testing.T) {
	b := start(t, nil)
	for scheme, to := range targets(b) {
		ask(t, to, func(o *loadgen.Options) {
			o.Headers = [][2]string{{"Authorization", "Bearer canary"}, {"X-Api-Key", "canary"}, {"x-tenant", "seven"}}
		})
		r := b.Requests(1)[0]
		if text := fmt.Sprint(r.Headers); strings.Contains(text, "canary") || r.Headers["authorization"] != "***" || r.Headers["x-tenant"] != "seven" {
			t.Errorf("%s: %s", scheme, text)
		}
		if r.Protocol != scheme || r.Items != 10 || r.Signal != "traces" || !r.Stored {
			t.Errorf("%+v", r)
		}
	}
}

func TestNonsenseIsNoFault(t *testing.T) {
	for _, text := range []string{"", "nonsense", "refuse:1", "slow", "slow:x", "slow:5ms..1ms", "slow:-1s", "status:", "status:99", "status:NOPE",
		"partial:x", "partial:101%", "partial:-1", "reset", "reset:nowhere", "tls:", "answer:json", "flap:1s", "flap:1s/0s", "flap:1s/1s,fault=flap:1s/1s",
		"flap:1s/1s,fault=nonsense", "capacity:0", "capacity:5,over=jump", "hang,over=slow", "hang,share=2", "hang,share=NaN", "partial:NaN%", "capacity:5,burst=NaN", "capacity:5,burst=-1", "hang,signals=ghosts", "hang,count=-1",
		"hang,for=0s", "hang,store=maybe", "hang,what", "hang,what=1", "max_bytes:x", "age:x", "status:503,retry_after=soon", "hang,fault=hang"} {
		if f, err := mockbackend.ParseFault(text); err == nil {
			t.Errorf("%q is %+v", text, f)
		} else if !strings.Contains(err.Error(), fmt.Sprintf("%q", text)) {
			t.Errorf("%q: the error does not name it: %v", text, err)
		}
	}
	for _, text := range []string{"status:503,retry_after=5s,signals=traces+l,share=0.3,after=1s,for=2s,count=4,store=true",
		"status:unavailable,retry_after=-1s", "status:429,retry_after=1y", "status:429,retry_after=date", "partial:12.5%", "slow:1ms..2ms",
		"flap:1s/2s,fault=status:503", "capacity:5,burst=9,over=reset"} {
		if _, err := mockbackend.ParseFault(text); err != nil {
			t.Error(err)
		}
	}
}

func TestRetryAfterIsWrittenInItsForms(t *testing.T) {
	b := start(t, nil)
	body := (&loadgen.Maker{Run: "ask", BaseMicro: 1, ItemBytes: 10}).Proto(nil, loadgen.Batch{Signal: item.Traces, Producer: 1, Request: 1, First: 1, Last: 1})
	for hint, want := range map[string]string{"5s": "5", "1500ms": "2", "-1s": "-1", "1y": "31536000", "date": "GMT"} {
		if err := b.SetFaults("status:503,retry_after=" + hint); err != nil {
			t.Fatal(err)
		}
		resp := post(t, "http://"+b.HTTPAddr()+"/v1/traces", "application/x-protobuf", "", body)
		if got := resp.Header.Get("Retry-After"); got != want && !(hint == "date" && strings.HasSuffix(got, want)) {
			t.Errorf("%s: %q", hint, got)
		}
	}
}

// post sends a body and reads the answer to its end.
func post(t *testing.T, url, kind, encoding string, body []byte) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	req.Header.Set("Content-Type", kind)
	if encoding != "" {
		req.Header.Set("Content-Encoding", encoding)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp
}

func TestWhatIsNoRequestIsRefused(t *testing.T) {
	b := start(t, nil)
	body := (&loadgen.Maker{Run: "ask", BaseMicro: 1, ItemBytes: 10}).Proto(nil, loadgen.Batch{Signal: item.Traces, Producer: 1, Request: 1, First: 1, Last: 1})
	const proto = "application/x-protobuf"
	for _, c := range []struct {
		name, path, kind, encoding string
		body                       []byte
		want                       int
	}{
		{"good", "/v1/traces", proto, "", body, 200},
		{"snappy", "/v1/traces", proto, "snappy", snappy.Encode(nil, body), 200},
		{"empty", "/v1/traces", proto, "", nil, 200},
		{"torn", "/v1/traces", proto, "", body[:len(body)-1], 400},
		{"bad JSON", "/v1/traces", "application/json; charset=utf-8", "", []byte("{"), 400},
		{"JSON of another signal", "/v1/traces", "application/json", "", []byte(`{"resourceLogs":[{}]}`), 400},
		{"type", "/v1/traces", "text/plain", "", body, 415},
		{"encoding", "/v1/traces", proto, "br", body, 415},
		{"no gzip", "/v1/traces", proto, "gzip", body, 400},
		{"path", "/v1/ghosts", proto, "", body, 404},
	} {
		if resp := post(t, "http://"+b.HTTPAddr()+c.path, c.kind, c.encoding, c.body); resp.StatusCode != c.want {
			t.Errorf("%s: %s, want %d", c.name, resp.Status, c.want)
		}
	}
	if s := b.State(); s.Malformed != 3 || s.Stored["traces"] != 2 {
		t.Errorf("%+v", s)
	}
}

func TestCountOnlyCountsTheSame(t *testing.T) {
	for _, countOnly := range []bool{true, false} {
		b := start(t, func(o *mockbackend.Options) { o.CountOnly = countOnly })
		for _, to := range targets(b) {
			ask(t, to, func(o *loadgen.Options) { o.Signals, o.Items = nil, 17 })
		}
		if s := b.State(); fmt.Sprint(s.Stored) != "map[logs:51 metrics:51 traces:51]" {
			t.Errorf("%+v", s)
		}
	}
}

func TestBodiesAreKeptWhenAsked(t *testing.T) {
	b := start(t, func(o *mockbackend.Options) { o.KeepBodies = true })
	for _, to := range targets(b) {
		ask(t, to, func(o *loadgen.Options) { o.Compression = "zstd" })
		if r := b.Requests(1)[0]; len(r.Body) != r.Bytes || r.Bytes == 0 || r.Compression != "zstd" {
			t.Errorf("%+v", r)
		}
	}
}

func TestAStoppedBackendTakesNoFaultsAndAKilledOneEndsNoNotes(t *testing.T) {
	dir := t.TempDir()
	b := start(t, func(o *mockbackend.Options) { o.Dir, o.Faults = dir, []string{"slow:1ms"} })
	ask(t, targets(b)["grpc"], func(o *loadgen.Options) { o.Dir = dir })
	if err := b.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.AddFault("hang"); err == nil {
		t.Error("a fault is added to nobody")
	}
	n, err := ledger.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(n.Doubts) != 1 || len(n.Faults) != 0 {
		t.Errorf("doubts %q, faults %+v", n.Doubts, n.Faults)
	}
	again := start(t, func(o *mockbackend.Options) { o.Dir, o.Faults = dir, []string{"slow:1ms,for=1h", "hang,after=1h"} })
	ask(t, targets(again)["grpc"], func(o *loadgen.Options) { o.Dir = dir })
	if err := again.Stop(); err != nil {
		t.Fatal(err)
	}
	if n, err = ledger.Read(dir); err != nil {
		t.Fatal(err)
	}
	if len(n.Faults) != 1 || n.Faults[0].Hits != 1 || n.Faults[0].Where != "primary" || n.Faults[0].T1 <= n.Faults[0].T0 || len(n.Arrivals) != 2 {
		t.Errorf("faults %+v, arrivals %d", n.Faults, len(n.Arrivals))
	}
}

func TestFlappingFollowsItsScheduleInVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end := mockbackend.NewMem("sink")
		b, err := mockbackend.Start(mockbackend.Options{Name: "primary", GRPCListener: end, Faults: []string{"flap:10s/5s"}})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		var states []string
		_, err = loadgen.Run(t.Context(), loadgen.Options{Run: "ask", To: []string{"grpc://sink:1"}, Dial: end.Dial, Signals: []item.Signal{item.Logs},
			Producers: 1, Items: 10, ItemBytes: 20, Rate: 10, For: 29500 * time.Millisecond, OnUnknown: ledger.ModeDrop, Timeout: 500 * time.Millisecond,
			Progress: func(_ ledger.Attempt, r ledger.Result) {
				states = append(states, fmt.Sprintf("%d:%s", int(time.Since(began).Seconds()), r.State))
			}})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Stop(); err != nil {
			t.Fatal(err)
		}
		for _, s := range states {
			var second int
			var state string
			_, _ = fmt.Sscanf(strings.Replace(s, ":", " ", 1), "%d %s", &second, &state)
			down := second%15 >= 10
			// Just behind the switch a client may still wait for its next dial.
			if edge := second%15 == 0 || second%15 == 10; !edge && (state == "acked") == down {
				t.Errorf("second %d: %s", second, state)
			}
		}
		if len(states) < 25 {
			t.Errorf("%d answers", len(states))
		}
	})
}

func TestRefuseWorksOnListenersThatWereGiven(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := start(t, func(o *mockbackend.Options) {
		o.GRPC, o.HTTP, o.HTTPListener, o.Faults = "", "", l, []string{"refuse,count=9"}
	})
	to := "http://" + b.HTTPAddr()
	if a := ask(t, to, nil); a[0].State == ledger.Acked {
		t.Errorf("%+v", a)
	}
	if err := b.SetFaults(); err != nil {
		t.Fatal(err)
	}
	if a := ask(t, to, nil); a[0].State != ledger.Acked {
		t.Errorf("%+v", a)
	}
}

// FuzzParseFault: no text makes the parser panic, and what it takes it can be asked about.
func FuzzParseFault(f *testing.F) {
	for _, text := range []string{"refuse", "slow:1ms..2s,share=0.5", "flap:1s/2s,fault=status:503", "status:429,retry_after=1y", "partial:30%",
		"capacity:5,burst=9,over=reset,signals=traces+l,after=1s,for=2s,count=4,store=true"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		fault, err := mockbackend.ParseFault(text)
		if err == nil && (fault.Kind == "" || fault.Text != text || !(fault.Share >= 0 && fault.Share <= 1)) {
			t.Fatalf("%q: %+v", text, fault)
		}
	})
}
