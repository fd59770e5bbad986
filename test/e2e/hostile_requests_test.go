// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
)

const mib = 1 << 20

// maxRequest is what the door takes: half the admission budget (faults, part C).
const maxRequest = budgetMiB / 2 * mib

// single is a request that must be refused, over each protocol that can carry it.
type single struct {
	name     string
	encoding string // of the body; gRPC knows gzip, zstd and snappy
	body     []byte
	http     int // 0 = gRPC only
	grpc     codes.Code
	reason   string
}

func (f *fortress) attackWithSingleRequests(t *testing.T) {
	good := wire(t, records([]string{"a record"}))
	zipped, zstandard := gzipOf(t, bytes.NewReader(good)), zstdOf(t, bytes.NewReader(good))
	const bad, badCode = http.StatusBadRequest, codes.InvalidArgument
	for _, s := range []single{
		{"values nested 10,000 deep", "", logRecord(deepValue(10_000)), bad, badCode, "depth"},
		{"values nested 10,000 deep, compressed", "gzip", gzipOf(t, bytes.NewReader(logRecord(deepValue(10_000)))), bad, badCode, "depth"},
		{"a length of 2^62", "", []byte{1<<3 | 2, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40}, bad, badCode, "malformed"},
		{"a length beyond the end", "", []byte{1<<3 | 2, 100, 1}, bad, badCode, "malformed"},
		{"a varint of eleven bytes", "", append([]byte{1<<3 | 2}, bytes.Repeat([]byte{0xff}, 11)...), bad, badCode, "malformed"},
		{"field 0", "", []byte{0<<3 | 2, 0}, bad, badCode, "malformed"},
		{"a group that does not end", "", []byte{1<<3 | 3}, bad, badCode, "malformed"},
		{"a truncated request", "", good[:len(good)-3], bad, badCode, "malformed"},
		{"bytes after the request", "", append(slices.Clone(good), 0xff), bad, badCode, "malformed"},
		{"a truncated gzip body", "gzip", zipped[:len(zipped)-6], bad, badCode, "malformed"},
		{"bytes after the gzip body", "gzip", append(slices.Clone(zipped), "more"...), bad, badCode, "malformed"},
		{"a truncated zstd body", "zstd", zstandard[:len(zstandard)-3], bad, badCode, "malformed"},
		{"bytes after the zstd body", "zstd", append(slices.Clone(zstandard), "more"...), bad, badCode, "malformed"},
		{"a zstd window of 2 GiB", "zstd", wideZstd(), bad, badCode, "malformed"},
		{"no gzip where gzip is said", "gzip", good, bad, badCode, "malformed"},
		{"an encoding nobody knows", "br", good, http.StatusUnsupportedMediaType, codes.Unimplemented, "encoding"},
	} {
		f.attack(t, s.name, func(t *testing.T) {
			if s.http != 0 {
				f.refusesPost(t, s.http, protobufType, s.encoding, s.body)
			}
			f.refusesCall(t, s.grpc, s.encoding, bytes.NewReader(framed(flagOf(s.encoding), s.body)))
		}, s.reason)
	}
	f.attack(t, "a million items and one", func(t *testing.T) {
		a, err := post(t.Context(), nil, "http://"+f.host+":4318/v1/traces", protobufType, bytes.NewReader(emptySpans(1_000_001)))
		f.isRefused(t, a, err, http.StatusRequestEntityTooLarge)
		g, err := f.call(t.Context(), "trace", "", bytes.NewReader(framed(0, emptySpans(1_000_001))))
		f.isRefusedCall(t, g, err, codes.ResourceExhausted)
	}, "items")
	f.attack(t, "a snappy block that says it holds 4 GiB", func(t *testing.T) {
		a, err := f.postLogs(t.Context(), protobufType, bytes.NewReader(hugeSnappy()), "Content-Encoding", "snappy")
		if err != nil || a.status != http.StatusRequestEntityTooLarge && a.status != bad {
			t.Errorf("HTTP: %v, %d %s", err, a.status, a.body)
		}
		g, err := f.call(t.Context(), "logs", "snappy", bytes.NewReader(framed(1, hugeSnappy())))
		if err != nil || g.code != codes.ResourceExhausted && g.code != badCode {
			t.Errorf("gRPC: %v, %+v", err, g)
		}
	})
	f.attack(t, "JSON nested 10,000 deep", func(t *testing.T) {
		f.refusesPost(t, bad, jsonType, "", deepJSON(10_000))
		f.refusesPost(t, bad, jsonType, "", []byte(strings.Repeat("[", 10_000)))
	}, "depth")
	f.attack(t, "JSON that is none", func(t *testing.T) {
		for _, text := range []string{`{"resourceLogs":`, `{"resourceLogs":[{}]} {}`, `[]`, `null`, `{"resourceLogs":7}`, "\xff\xfe", ""} {
			f.refusesPost(t, bad, jsonType, "", []byte(text))
		}
	}, "malformed")
	f.attack(t, "what HTTP refuses by its headers", func(t *testing.T) {
		f.refusesPost(t, http.StatusUnsupportedMediaType, "text/plain", "", good)
		for _, more := range []string{"X-Long: " + strings.Repeat("x", 64<<10) + "\r\n", strings.Repeat("X-Many: x\r\n", 101)} {
			conn := f.raw(t, "4318")
			fmt.Fprintf(conn, "POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\n%sContent-Length: 0\r\n\r\n", protobufType, more)
			if line := firstLine(t, conn); !strings.HasPrefix(line, "HTTP/1.1 431 ") {
				t.Errorf("%d bytes of headers are answered %q, want 431", len(more), line)
			}
		}
		a, err := post(t.Context(), nil, "http://"+f.host+":4318/v1/nothing", protobufType, bytes.NewReader(good))
		f.isRefused(t, a, err, http.StatusNotFound)
		if a := get(t, "http://"+f.host+":4318/v1/logs"); a.status != http.StatusMethodNotAllowed {
			t.Errorf("GET: %d, want 405", a.status)
		}
	}, "content_type")
	f.attack(t, "what gRPC refuses by its headers", func(t *testing.T) {
		for _, path := range []string{"/no.such.Service/Export", "/opentelemetry.proto.collector.logs.v1.LogsService/Import"} {
			g, err := f.callMethod(t.Context(), path, "", bytes.NewReader(framed(0, good)))
			f.isRefusedCall(t, g, err, codes.Unimplemented)
		}
	})
	f.attack(t, "gRPC messages that do not fit their prefix", func(t *testing.T) {
		for _, body := range [][]byte{{}, {0, 0}, framed(0, good)[:20], append(framed(0, good), 0), append(framed(0, good), framed(0, good)...), framed(1, good)} {
			f.refusesCall(t, badCode, "", bytes.NewReader(body))
		}
		f.refusesCall(t, codes.ResourceExhausted, "", bytes.NewReader([]byte{0, 0xff, 0xff, 0xff, 0xff, 'x'}))
	}, "malformed", "too_large")
	f.attack(t, "a body that ends before its length", func(t *testing.T) {
		conn := f.raw(t, "4318")
		fmt.Fprintf(conn, "POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: 1000\r\n\r\nten bytes.", protobufType)
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
	})
	f.attack(t, "a length above the limit, before a byte of it is sent", func(t *testing.T) {
		for _, length := range []string{"40000000", "9223372036854775807"} {
			conn := f.raw(t, "4318")
			fmt.Fprintf(conn, "POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: %s\r\n\r\n", protobufType, length)
			if line := firstLine(t, conn); !strings.HasPrefix(line, "HTTP/1.1 413 ") {
				t.Errorf("Content-Length %s is answered %q, want 413", length, line)
			}
		}
	}, "too_large")
	f.attack(t, "more bytes than the limit, without a length", func(t *testing.T) {
		a, err := f.postLogs(t.Context(), protobufType, io.MultiReader(zeros(maxRequest+mib)))
		if err == nil { // the answer may be overtaken by the end of the connection
			f.isRefused(t, a, err, http.StatusRequestEntityTooLarge)
		}
	}, "too_large")
}

// flagOf marks a message as compressed.
func flagOf(encoding string) byte {
	if encoding == "" {
		return 0
	}
	return 1
}

func (f *fortress) refusesPost(t *testing.T, status int, contentType, encoding string, body []byte) {
	t.Helper()
	var headers []string
	if encoding != "" {
		headers = []string{"Content-Encoding", encoding}
	}
	a, err := f.postLogs(t.Context(), contentType, bytes.NewReader(body), headers...)
	f.isRefused(t, a, err, status)
}

// isRefused checks a final refusal: the status, and no hint to come back.
func (f *fortress) isRefused(t *testing.T, a answer, err error, status int) {
	t.Helper()
	if err != nil {
		t.Errorf("HTTP: %v", err)
	} else if a.status != status || a.header.Get("Retry-After") != "" {
		t.Errorf("HTTP: %d, Retry-After %q, %.200q; want %d without", a.status, a.header.Get("Retry-After"), a.body, status)
	}
}

func (f *fortress) refusesCall(t *testing.T, code codes.Code, encoding string, body io.Reader) {
	t.Helper()
	g, err := f.call(t.Context(), "logs", encoding, body)
	f.isRefusedCall(t, g, err, code)
}

func (f *fortress) isRefusedCall(t *testing.T, g grpcAnswer, err error, code codes.Code) {
	t.Helper()
	if err != nil {
		t.Errorf("gRPC: %v", err)
	} else if g.code != code || g.retry {
		t.Errorf("gRPC: %s, RetryInfo %t, %.200q; want %s without", g.code, g.retry, g.text, code)
	}
}

// attackWithBombs sends little that becomes much.
func (f *fortress) attackWithBombs(t *testing.T) {
	bombs := map[string][]byte{"gzip": gzipOf(t, zeros(1<<30)), "zstd": zstdOf(t, zeros(1<<30))}
	for encoding, bomb := range bombs {
		f.attack(t, fmt.Sprintf("1 GiB in %d KiB of %s", len(bomb)>>10, encoding), func(t *testing.T) {
			f.refusesPost(t, http.StatusRequestEntityTooLarge, protobufType, encoding, bomb)
			f.refusesPost(t, http.StatusRequestEntityTooLarge, jsonType, encoding, bomb)
			f.refusesCall(t, codes.ResourceExhausted, encoding, bytes.NewReader(framed(1, bomb)))
		}, "too_large")
		f.attack(t, "a hundred "+encoding+" bombs at once", func(t *testing.T) {
			if seen := f.crowd(t, 100, encoding, bomb); seen["HTTP: 200"]+seen["gRPC: OK"] > 0 {
				t.Error("a bomb was let in")
			}
		})
	}
	empty := gzipOf(t, bytes.NewReader(nil))
	f.attack(t, "100,000 gzip members of nothing", func(t *testing.T) {
		a, err := f.postLogs(t.Context(), protobufType, bytes.NewReader(bytes.Repeat(empty, 100_000)), "Content-Encoding", "gzip")
		if err != nil || a.status != http.StatusOK && a.status != http.StatusBadRequest {
			t.Errorf("%v, %d %s", err, a.status, a.body)
		}
	})
	// Within every limit on the wire and decoded, and as large as they allow.
	full := bigRecord(maxRequest - 1024)
	for encoding, body := range map[string][]byte{
		"gzip": gzipOf(t, bytes.NewReader(full)), "zstd": zstdOf(t, bytes.NewReader(full)),
	} {
		f.attack(t, fmt.Sprintf("64 requests of 32 MiB in %d KiB of %s each", len(body)>>10, encoding), func(t *testing.T) {
			f.crowd(t, 64, encoding, body)
			// Many such at once may keep each other out; one alone fits.
			eventually(t, "one such request alone is let in", func() bool {
				a, err := f.postLogs(t.Context(), protobufType, bytes.NewReader(body), "Content-Encoding", encoding)
				return err == nil && a.status == http.StatusOK
			})
		}, "admission")
	}
	// A reader of JSON makes objects of hundreds of bytes from two characters.
	for name, text := range map[string]string{
		"spans":      `{"resourceSpans":[{"scopeSpans":[{"spans":[` + list(`{}`, 6*mib) + `]}]}]}`,
		"resources":  `{"resourceSpans":[` + list(`{}`, 6*mib) + `]}`,
		"attributes": `{"resourceSpans":[{"resource":{"attributes":[` + list(`{}`, 6*mib) + `]}}]}`,
		"values":     `{"resourceSpans":[{"resource":{"attributes":[{"value":{"arrayValue":{"values":[` + list(`{}`, 6*mib) + `]}}}]}}]}`,
	} {
		f.attack(t, "6 MiB of empty JSON "+name, func(t *testing.T) {
			a, err := post(t.Context(), nil, "http://"+f.host+":4318/v1/traces", jsonType, strings.NewReader(text))
			if err != nil || a.status != http.StatusRequestEntityTooLarge {
				t.Errorf("%v, %d %.200q, want 413", err, a.status, a.body)
			}
		})
	}
}

// list repeats an element up to n bytes.
func list(element string, n int) string {
	return element + strings.Repeat(","+element, n/(len(element)+1)-1)
}

// crowd sends the same logs request n times at once over each protocol and returns how often what was answered: success,
// a refusal for good, or one for a while, with a hint. Nothing else may come.
func (f *fortress) crowd(t *testing.T, n int, encoding string, body []byte) map[string]int {
	t.Helper()
	var mu sync.Mutex
	seen := map[string]int{}
	note := func(what string, ok bool) {
		mu.Lock()
		defer mu.Unlock()
		if seen[what]++; !ok && seen[what] == 1 {
			t.Errorf("answered %s", what)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var headers []string
	if encoding != "" {
		headers = []string{"Content-Encoding", encoding}
	}
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			a, err := f.postLogs(ctx, protobufType, bytes.NewReader(body), headers...)
			switch {
			case err != nil && a.status == 0:
				// A refusal before the body is read may be overtaken by the end of the connection.
				note("HTTP: connection closed", ctx.Err() == nil)
			case a.status == http.StatusServiceUnavailable:
				note("HTTP: 503", a.header.Get("Retry-After") != "")
			default:
				note(fmt.Sprintf("HTTP: %d", a.status), a.status == 200 || a.status == 413)
			}
		})
		all.Go(func() {
			g, err := f.call(ctx, "logs", encoding, message(flagOf(encoding), body))
			switch {
			case err != nil:
				note("gRPC: "+err.Error(), false)
			case g.code == codes.Unavailable:
				note("gRPC: Unavailable", g.retry)
			default:
				note("gRPC: "+g.code.String(), g.code == codes.OK || g.code == codes.ResourceExhausted)
			}
		})
	}
	all.Wait()
	t.Log(seen)
	return seen
}

// message is framed without a copy of a large body.
func message(flag byte, body []byte) io.Reader {
	n := len(body)
	return io.MultiReader(bytes.NewReader([]byte{flag, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}), bytes.NewReader(body))
}

// attackWithCrowds sends much at once.
func (f *fortress) attackWithCrowds(t *testing.T) {
	body := bigRecord(maxRequest - 1024)
	f.attack(t, "64 requests of 32 MiB at once, over each protocol", func(t *testing.T) {
		if seen := f.crowd(t, 64, "", body); seen["HTTP: 200"]+seen["gRPC: OK"] == 0 {
			t.Error("nobody was let in")
		}
	}, "admission")
}
