// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package door_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/collector/config/configtls"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/pprofile/pprofileotlp"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/holdfast-telemetry/holdfast/internal/admission"
	"github.com/holdfast-telemetry/holdfast/internal/certtest"
	"github.com/holdfast-telemetry/holdfast/internal/compression"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/door"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/receivertest"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/swap"
)

func TestABufferWastesAFifthAtMost(t *testing.T) {
	for n := range 5 << 20 {
		if n > 70_000 && n%997 != 0 {
			continue
		}
		size := door.BufferSize(n)
		if size < n || n > 1024 && size > n+n/4+1 || size < 1024 {
			t.Fatalf("%d bytes for %d", size, n)
		}
	}
	for _, n := range []int{0, 1, 1024, 1025, 1280, 1281, 4 << 20, 4<<20 + 1, 64 << 20} {
		b, free := door.NewBuffer(n)
		if len(b) != 0 || cap(b) != door.BufferSize(n) {
			t.Errorf("%d: %d of %d", n, len(b), cap(b))
		}
		free()
	}
}

// lane returns the lane of traces, with its sink.
func lane(t *testing.T, budget int64, maxBytes int) (*door.Lane, *receivertest.Sink) {
	t.Helper()
	sink := &receivertest.Sink{Gate: admission.New(budget)}
	lanes := door.New(receivertest.Settings(sink)).Lanes(door.GRPC, maxBytes)
	if len(lanes) != len(otlp.Signals) || lanes[0].Signal != otlp.Traces {
		t.Fatalf("%d lanes", len(lanes))
	}
	return lanes[0], sink
}

func TestWhatIsKeptOfTheMetadataFollowsTheSink(t *testing.T) {
	sink := swap.New(&receivertest.Sink{Keys: []string{"x-b", "X-A", "authorization"}})
	set := receivertest.Settings(&receivertest.Sink{})
	set.Sinks = map[otlp.Signal]receiver.Sink{otlp.Traces: sink}
	l := door.New(set).Lanes(door.GRPC, 1000)[0]
	kept := func() string {
		var keys []string
		for _, e := range l.Metadata(func(key string) []string { return []string{key} }) {
			keys = append(keys, e.Key)
		}
		return strings.Join(keys, " ")
	}
	for _, c := range []struct {
		keys []string
		want string
	}{
		{[]string{"x-b", "X-A", "authorization"}, "x-a x-b"}, {[]string{"x-c"}, "x-c"}, {nil, ""}, {[]string{"x-b"}, "x-b"},
		{[]string{"cookie"}, ""},
	} {
		sink.Swap(&receivertest.Sink{Keys: c.keys})
		for range 2 {
			if got := kept(); got != c.want || l.WantsMetadata() != (c.want != "") {
				t.Errorf("%q: %q", c.keys, got)
			}
		}
	}
}

// fill writes b where the request says, in pieces of at most piece bytes.
func fill(r *door.Request, b []byte, piece int) error {
	for len(b) > 0 {
		room, err := r.Room(len(b))
		if err != nil {
			return err
		}
		n := copy(room[:min(len(room), piece)], b)
		r.Filled(n)
		b = b[n:]
	}
	return nil
}

func TestWhatIsHeldIsGrantedAndGivenBack(t *testing.T) {
	l, sink := lane(t, 256<<20, 64<<20)
	for _, spans := range []int{1, 100, 3000, 20_000} {
		body, _ := receivertest.Request(otlp.Traces, spans, 300)
		for _, length := range []int64{-1, int64(len(body))} {
			r := l.Begin()
			if err := r.Admit(length); err != nil {
				t.Fatal(err)
			}
			if err := fill(&r, body, 16<<10); err != nil {
				t.Fatal(err)
			}
			if used := sink.Gate.Used(); used < int64(len(body)) || used > int64(len(body))*2+128<<10 {
				t.Errorf("%d bytes granted for %d, length %d", used, len(body), length)
			}
			_, err := r.Accept(t.Context(), compression.None, nil, nil)
			r.End(err)
			if err != nil {
				t.Error(err)
			}
			if used := sink.Gate.Used(); used != 0 {
				t.Errorf("%d bytes still granted", used)
			}
		}
	}
}

func TestAGrowingBodyIsRefusedWhenTheBudgetEnds(t *testing.T) {
	l, sink := lane(t, 32<<20, 64<<20)
	other, err := sink.Gate.Admit(20 << 20)
	if err != nil {
		t.Fatal(err)
	}
	r := l.Begin()
	if err := r.Admit(-1); err != nil {
		t.Fatal(err)
	}
	err = fill(&r, make([]byte, 30<<20), 64<<10)
	var ref *receiver.Refusal
	if !errors.As(err, &ref) || ref.Reason != receiver.ReasonAdmission || ref.Code != receiver.Unavailable {
		t.Errorf("%v", err)
	}
	if used := sink.Gate.Used(); used > sink.Gate.Limit() {
		t.Errorf("%d of %d granted", used, sink.Gate.Limit())
	}
	r.End(err)
	if used := sink.Gate.Used(); used != 20<<20 {
		t.Errorf("%d still granted", used)
	}
	other.Release()
}

func TestDecodedBytesAreGrantedToo(t *testing.T) {
	l, sink := lane(t, 32<<20, 64<<20)
	other, err := sink.Gate.Admit(27 << 20)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Release()
	r := l.Begin()
	if err := r.Admit(-1); err != nil {
		t.Fatal(err)
	}
	bomb := receivertest.Gzip(make([]byte, 16<<20))
	if err := fill(&r, bomb, len(bomb)); err != nil {
		t.Fatal(err)
	}
	_, err = r.Accept(t.Context(), compression.Gzip, nil, nil)
	var ref *receiver.Refusal
	if !errors.As(err, &ref) || ref.Reason != receiver.ReasonAdmission {
		t.Errorf("%v", err)
	}
	r.End(err)
	if used := sink.Gate.Used(); used != 27<<20 {
		t.Errorf("%d still granted", used)
	}
}

func TestARequestWaitsForADecoderAndIsRefusedWithoutOne(t *testing.T) {
	l, sink := lane(t, 64<<20, 1<<20)
	body, _ := receivertest.Request(otlp.Traces, 1, 1)
	ctx, cancel := context.WithCancel(t.Context())
	places := 0
	for ; ; places++ {
		hold, stop := context.WithTimeout(ctx, 10*time.Millisecond)
		err := sink.Gate.AcquireDecoder(hold)
		stop()
		if err != nil {
			break
		}
	}
	cancel()
	wire := receivertest.Gzip(body)
	r := l.Begin()
	if err := r.Admit(int64(len(wire))); err != nil {
		t.Fatal(err)
	}
	if err := fill(&r, wire, len(wire)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Accept(ctx, compression.Gzip, nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	} else {
		r.End(err)
	}
	for range places {
		sink.Gate.ReleaseDecoder()
	}
}

func TestTheLimitOfARequestFollowsTheBudgetUnlessItIsSet(t *testing.T) {
	for budget, want := range map[int64]int{32 << 20: 16 << 20, 64 << 20: 32 << 20, 1 << 30: 64 << 20} {
		d := door.New(receivertest.Settings(&receivertest.Sink{Gate: admission.New(budget)}))
		if got := d.MaxRequest(0); got != want {
			t.Errorf("budget %d: %d", budget, got)
		}
		if got := d.MaxRequest(100 << 20); got != 100<<20 {
			t.Errorf("set: %d", got)
		}
	}
}

func TestTextIsCleanedAndCut(t *testing.T) {
	for text, want := range map[string]string{
		"plain": "plain", "a\x1b[31mb\r\nc\x00": "a [31mb  c ", "\xff\xfe": "?", "héllo ✓": "héllo ✓",
		"\u0085\u009b": "  ",
	} {
		if got := door.Clean(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	for n := range 8 {
		got := door.Clean(strings.Repeat("x", 1020+n) + strings.Repeat("€", 2000))
		if len(got) > 1024 || !utf8.ValidString(got) || strings.Contains(got, "?") {
			t.Errorf("%d bytes, ends in %q", len(got), got[len(got)-4:])
		}
	}
}

func TestAPartialSuccessIsWhatTheProtocolSays(t *testing.T) {
	for _, res := range []receiver.Result{{Rejected: 3, Message: "why"}, {Rejected: 1 << 31}, {Message: "a warning"}} {
		traces, logs := ptraceotlp.NewExportResponse(), plogotlp.NewExportResponse()
		metrics, profiles := pmetricotlp.NewExportResponse(), pprofileotlp.NewExportResponse()
		for s, read := range map[otlp.Signal]func() (int64, string){
			otlp.Traces:   func() (int64, string) { p := traces.PartialSuccess(); return p.RejectedSpans(), p.ErrorMessage() },
			otlp.Metrics:  func() (int64, string) { p := metrics.PartialSuccess(); return p.RejectedDataPoints(), p.ErrorMessage() },
			otlp.Logs:     func() (int64, string) { p := logs.PartialSuccess(); return p.RejectedLogRecords(), p.ErrorMessage() },
			otlp.Profiles: func() (int64, string) { p := profiles.PartialSuccess(); return p.RejectedProfiles(), p.ErrorMessage() },
		} {
			m := map[otlp.Signal]interface {
				UnmarshalProto([]byte) error
				UnmarshalJSON([]byte) error
			}{otlp.Traces: traces, otlp.Metrics: metrics, otlp.Logs: logs, otlp.Profiles: profiles}[s]
			check := func(form string, err error) {
				if n, text := read(); err != nil || n != int64(res.Rejected) || text != res.Message {
					t.Errorf("%s in %s: %d, %q, %v; want %+v", s, form, n, text, err, res)
				}
			}
			check("protobuf", m.UnmarshalProto(door.PartialSuccess(res)))
			check("JSON", m.UnmarshalJSON(door.PartialSuccessJSON(s, res)))
		}
	}
}

func TestConnectionsLeaveDescriptorsToOthers(t *testing.T) {
	if n := door.MaxConnections(); n < 1 || n > 20_000 {
		t.Errorf("%d", n)
	}
}

func TestAnEndingCertificateIsWarnedOfThreeTimesAndThenWhenItEnded(t *testing.T) {
	const day = 24 * time.Hour
	authority, dir := certtest.NewAuthority(t, "authority"), t.TempDir()
	now := time.Now()
	issued := authority.Issue(t, now.Add(30*day), "server", "127.0.0.1")
	cfg := configtls.NewDefaultServerConfig()
	cfg.CertFile, cfg.KeyFile = certtest.Write(t, dir, "cert.pem", issued.Cert), certtest.Write(t, dir, "key.pem", issued.Key)
	core, logs := observer.New(zap.WarnLevel)
	w, err := door.Watch(cfg, zap.New(core), func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for hour := range 31 * 24 {
		w.Get()
		now = now.Add(time.Hour)
		got := logs.FilterMessage("Certificate expires soon").Len()
		if got > total {
			t.Logf("a warning after %s", time.Duration(hour)*time.Hour)
			total = got
		}
	}
	if total != 4 {
		t.Errorf("%d warnings", total)
	}
	if w.Get() == nil {
		t.Error("a certificate that expired while running is no longer served")
	}
	issued = authority.Issue(t, now.Add(90*day), "renewed", "127.0.0.1")
	certtest.Write(t, dir, "key.pem", issued.Key)
	certtest.Write(t, dir, "cert.pem", issued.Cert)
	before := w.Get()
	now = now.Add(time.Second)
	if after := w.Get(); after == before {
		t.Error("the renewed certificate is not served")
	}
}

func TestWordsOfRefusalsNameLimitsAndNoPayload(t *testing.T) {
	l, _ := lane(t, 64<<20, 1000)
	r := l.Begin()
	err := r.Admit(1001)
	if want := "the request is larger than max, 1000 bytes"; !strings.Contains(fmt.Sprint(err), want) {
		t.Errorf("%v", err)
	}
	r.End(err)
}
