// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlphttp_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/admission"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/otlphttp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/receivertest"
)

func TestJSONOfEverySignalBecomesTheSameRequest(t *testing.T) {
	for _, s := range otlp.Signals {
		wire, text := receivertest.Request(s, 20, 30)
		var indented bytes.Buffer
		if err := json.Indent(&indented, text, "", "\t"); err != nil {
			t.Fatal(err)
		}
		for name, form := range map[string][]byte{"plain": text, "indented": indented.Bytes()} {
			got, err := otlphttp.Translate(s, form)
			if err != nil || !bytes.Equal(got, wire) {
				t.Errorf("%s, %s: %d bytes of %d, %v", s, name, len(got), len(wire), err)
			}
		}
	}
}

func TestUnknownFieldsOfJSONAreIgnored(t *testing.T) {
	text := `{"resourceSpans":[{"new":{"a":[1,{}]},"scopeSpans":[{"spans":[{"name":"n","new":null}]}]}],"newer":"x"}`
	wire, err := otlphttp.Translate(otlp.Traces, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := otlp.Scan(otlp.Traces, wire); err != nil || n != 1 {
		t.Errorf("%d spans, %v", n, err)
	}
}

func TestJSONMayBeNestedAHundredDeep(t *testing.T) {
	for depth, want := range map[int]bool{2: true, 100: true, 101: false, 100_000: false} {
		text := `{"a":` + strings.Repeat("[", depth-1) + strings.Repeat("]", depth-1) + `}`
		_, err := otlphttp.MeasureJSON([]byte(text))
		var ref *receiver.Refusal
		if (err == nil) != want || err != nil && (!errors.As(err, &ref) || ref.Reason != receiver.ReasonDepth) {
			t.Errorf("%d deep: %v", depth, err)
		}
	}
}

func TestBracketsInStringsDoNotCount(t *testing.T) {
	for text, want := range map[string]bool{
		`{"a":"[[[{{{"}`: true, `{"a":"\"[","b":"\\"}`: true, `{"a":"\\\""}`: true, `{"a":"\"}`: false,
	} {
		if _, err := otlphttp.MeasureJSON([]byte(text)); (err == nil) != want {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestATextOfTinyObjectsIsRefusedBeforeItBecomesLarge(t *testing.T) {
	r := start(t, &receivertest.Sink{Gate: admission.New(32 << 20)}, options{})
	bomb := []byte(`{"resourceSpans":[{"scopeSpans":[{"spans":[{}` + strings.Repeat(",{}", 900_000) + `]}]}]}`)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	a := r.mustPost(traces, receivertest.Gzip(bomb), "Content-Type", jsonType, "Content-Encoding", "gzip")
	runtime.ReadMemStats(&after)
	text, _ := r.wantError(a, http.StatusRequestEntityTooLarge, jsonType)
	if !strings.Contains(text, "900004 objects") {
		t.Errorf("%q", text)
	}
	if got := after.TotalAlloc - before.TotalAlloc; got > 40<<20 {
		t.Errorf("%d MiB allocated", got>>20)
	}
	if a := r.mustPost(traces, bomb[:0:0], "Content-Type", protobufType); a.status != http.StatusOK {
		t.Errorf("afterwards: %d", a.status)
	}
}

// What is refused here is not JSON, is no object, or is too deep; what is valid passes. The reader behind it gets
// what it does not know how to fail on quickly: nothing it is given makes it panic or use a request of another size.
func FuzzJSON(f *testing.F) {
	for _, s := range otlp.Signals {
		_, text := receivertest.Request(s, 2, 3)
		f.Add(uint8(s), text)
	}
	f.Add(uint8(1), []byte(`{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"00"}]}]}]}`))
	f.Add(uint8(2), []byte(`{"a":"\u0000\"[","b":[1e9,-0,true]}`))
	f.Fuzz(func(t *testing.T, signal uint8, text []byte) {
		s := otlp.Signals[int(signal)%len(otlp.Signals)]
		_, err := otlphttp.MeasureJSON(text)
		var ref *receiver.Refusal
		if err != nil && !errors.As(err, &ref) {
			t.Fatalf("%T", err)
		}
		object := bytes.HasPrefix(bytes.TrimLeft(text, " \t\r\n"), []byte("{"))
		if err != nil && ref.Reason != receiver.ReasonDepth && json.Valid(text) && object {
			t.Fatalf("%q is valid: %v", text, err)
		}
		wire, err := otlphttp.Translate(s, text)
		if err != nil && (!errors.As(err, &ref) || ref.Code != receiver.Malformed) {
			t.Fatalf("%v", err)
		}
		if err == nil {
			if _, err := otlp.Scan(s, wire); err != nil && !errors.Is(err, otlp.ErrTooDeep) {
				t.Fatalf("%q becomes what cannot be scanned: %v", text, err)
			}
		}
	})
}
