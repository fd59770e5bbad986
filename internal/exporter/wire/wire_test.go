// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package wire_test

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/wire"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

func zip(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil || w.Close() != nil {
		t.Fatal("gzip")
	}
	return out.Bytes()
}

func TestABodyThatIsInItsEncodingSharesTheRequestsBytes(t *testing.T) {
	e, err := wire.NewEncoder("gzip", 0, false)
	if err != nil {
		t.Fatal(err)
	}
	part := zip(t, []byte("x"))
	b, err := e.Encode(&exporter.Request{Encoding: otlp.Gzip, Size: 1, Parts: [][]byte{part}})
	if err != nil || b.Recoded || b.Encoding != "gzip" || &b.Parts[0][0] != &part[0] {
		t.Errorf("body %+v, %v", b, err)
	}
	b.Release()
	b.Release()
	if part[0] != 0x1f {
		t.Error("a release touched the request")
	}
	if b, err = e.Encode(&exporter.Request{}); err != nil || b.Encoding != "" || b.Len() != 0 {
		t.Errorf("nothing: %+v, %v", b, err)
	}
}

func TestPlainKeepsTheBoundariesOfParts(t *testing.T) {
	want := [][]byte{[]byte("one"), {}, bytes.Repeat([]byte("two"), 10000), []byte("three")}
	r := &exporter.Request{Encoding: otlp.Gzip}
	for _, p := range want {
		r.Parts = append(r.Parts, zip(t, p))
		r.Size += int64(len(p))
	}
	got, free, err := wire.Plain(r)
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		if !bytes.Equal(got[i], want[i]) {
			t.Errorf("part %d: %d bytes, want %d", i, len(got[i]), len(want[i]))
		}
	}
	free()
}

func TestUnknownCompressionsAreRefused(t *testing.T) {
	if _, err := wire.NewEncoder("brotli", 0, true); err == nil || !strings.Contains(err.Error(), "brotli") {
		t.Errorf("error %v", err)
	}
	if _, err := wire.NewEncoder("gzip", 99, true); err == nil {
		t.Error("level 99 is taken")
	}
}

func TestAStatusIsReadAsTheReferenceReadsIt(t *testing.T) {
	info, err := anypb.New(&errdetails.ErrorInfo{Reason: "r"})
	if err != nil {
		t.Fatal(err)
	}
	for _, delay := range []*durationpb.Duration{
		nil, durationpb.New(0), durationpb.New(time.Second + 5), durationpb.New(-time.Second), {Seconds: math.MaxInt64}, {Seconds: math.MinInt64},
	} {
		retry, err := anypb.New(&errdetails.RetryInfo{RetryDelay: delay})
		if err != nil {
			t.Fatal(err)
		}
		b, err := proto.Marshal(&status.Status{Code: 14, Message: "m", Details: []*anypb.Any{info, retry}})
		if err != nil {
			t.Fatal(err)
		}
		want := max(delay.AsDuration(), 0)
		s, err := wire.ParseStatus(b)
		if err != nil || s.Code != 14 || s.Message != "m" || !s.Hinted || s.Hint != want {
			t.Errorf("%v: %+v, %v", delay, s, err)
		}
	}
	if s, err := wire.ParseStatus(nil); err != nil || s != (wire.Status{}) {
		t.Errorf("empty: %+v, %v", s, err)
	}
	if _, ok := wire.RetryHint("google.rpc.RetryInfo", nil); ok {
		t.Error("a name without its slash is taken")
	}
}

func TestForeignTextIsEscapedAndCut(t *testing.T) {
	for in, want := range map[string]string{
		"":                   "",
		"plain text, ä€😀":    "plain text, ä€😀",
		"a\x1b[31mb\r\n\x00": `a\x1b[31mb\r\n\x00`,
		"\xff\xfe":           `\xff\xfe`,
		"\u202e\u200b":       `\u202e\u200b`,
		"\ufffd":             "\ufffd",
	} {
		if got := wire.Clip(in); got != want {
			t.Errorf("Clip(%q) = %q, want %q", in, got, want)
		}
	}
	for _, long := range []string{strings.Repeat("x", 5000), strings.Repeat("€", 5000), strings.Repeat("\x00", 5000)} {
		got := wire.Clip(long)
		if len(got) > 1024 || len(got) < 1000 || !strings.HasSuffix(got, "…") || !utf8.ValidString(got) {
			t.Errorf("%d bytes, %q", len(got), got[len(got)-10:])
		}
	}
}

func TestOtherErrorsAreNotExplained(t *testing.T) {
	plain := errors.New("some error")
	if got := wire.ExplainTLS(plain); got != plain { //nolint:errorlint // the very same
		t.Errorf("%v", got)
	}
	unknown := x509.UnknownAuthorityError{Cert: &x509.Certificate{}}
	var as x509.UnknownAuthorityError
	if err := wire.ExplainTLS(fmt.Errorf("x: %w", unknown)); !errors.As(err, &as) || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("%v", err)
	}
	early := &x509.Certificate{NotBefore: time.Now().Add(time.Hour), NotAfter: time.Now().Add(2 * time.Hour)}
	if err := wire.ExplainTLS(x509.CertificateInvalidError{Cert: early, Reason: x509.Expired}); !strings.Contains(err.Error(), "not valid before") {
		t.Errorf("%v", err)
	}
	var record tls.RecordHeaderError
	if err := wire.ExplainTLS(record); !strings.Contains(err.Error(), "does not speak TLS") {
		t.Errorf("%v", err)
	}
	if got := wire.ExplainAlert("read: remote error: tls: expired certificate"); !strings.Contains(got, "our client certificate is expired") {
		t.Errorf("%q", got)
	}
}

func FuzzAnswers(f *testing.F) {
	f.Add([]byte("\x0a\x09\x08\x03\x12\x05quota"))
	f.Add([]byte("\x08\x03\x12\x09bad spans\x1a\x02\x0a\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := wire.ParseAnswer(b)
		if len(a.Message) > 1024 || !utf8.ValidString(a.Message) {
			t.Errorf("message %q", a.Message)
		}
		_, _ = wire.RetryHint("type.googleapis.com/google.rpc.RetryInfo", b)
		s, serr := wire.ParseStatus(b)
		if s.Hint < 0 || len(s.Message) > 1024 {
			t.Errorf("status %+v", s)
		}
		// Whatever the reference takes, we take; it also checks UTF-8 and nested messages it knows.
		var ref status.Status
		if proto.Unmarshal(b, &ref) == nil && serr != nil && !groups(b) {
			t.Errorf("the reference reads %v, we say %v", &ref, serr)
		}
		_ = err
	})
}

// groups reports whether b may hold a group, which proto3 has not and we refuse.
func groups(b []byte) bool {
	for _, c := range b {
		if c&7 == 3 || c&7 == 4 {
			return true
		}
	}
	return false
}
