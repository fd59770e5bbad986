// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlphttp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/wire"
)

// answered is the verdict of an answer (compat, section 10).
func (e *Exporter) answered(ctx context.Context, r *exporter.Request, res *http.Response) exporter.Verdict {
	// The answer's own text matters less than its status: where it cannot be read the status alone decides.
	body, rerr := io.ReadAll(io.LimitReader(res.Body, wire.MaxAnswer+1))
	where := "post to " + e.place(r.Signal)
	if res.StatusCode >= 200 && res.StatusCode < 300 {
		switch {
		case len(body) > wire.MaxAnswer:
			return exporter.Verdict{Kind: exporter.Misconfigured,
				Err: fmt.Errorf("%s: %s with more than 4 MiB, which is no OTLP answer", where, res.Status)}
		case rerr != nil:
			if cause := context.Cause(ctx); cause != nil {
				rerr = cause
			}
			return exporter.Verdict{Kind: exporter.Ambiguous, Err: fmt.Errorf("%s: %s, then: %w", where, res.Status, rerr)}
		}
		a, err := parseAnswer(res.Header.Get("Content-Type"), body)
		if err != nil {
			return exporter.Verdict{Kind: exporter.Misconfigured,
				Err: fmt.Errorf("%s: %s with no OTLP answer: %w", where, wire.Clip(res.Status), err)}
		}
		return exporter.Verdict{Kind: exporter.Delivered, Rejected: min(a.Rejected, r.Items), Message: a.Message}
	}
	v := wire.VerdictOfHTTP(res.StatusCode)
	switch res.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		if d := retryAfter(res.Header.Get("Retry-After"), time.Now()); d > 0 {
			v.Kind, v.After = exporter.RetryAfter, d
		}
	}
	text := reason(res.Header.Get("Content-Type"), body)
	if to := res.Header.Get("Location"); to != "" && res.StatusCode/100 == 3 {
		text = "redirects to " + place(to) + " are not followed"
	}
	v.Err = fmt.Errorf("%s: %s: %s", where, wire.Clip(res.Status), text)
	return v
}

// place is a URL for people: without user, password and query.
func place(written string) string {
	u, err := url.Parse(written)
	if err != nil {
		return "somewhere"
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return wire.Clip(u.String())
}

// retryAfter reads the header of that name: whole seconds, or a date. It is 0 if there is none, or if it is over.
func retryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if value == "" {
		return 0
	}
	if strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err != nil || seconds > math.MaxInt64/int64(time.Second) {
			return math.MaxInt64
		}
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return max(at.Sub(now), 0)
}

// errNoAnswer says that a body is not what OTLP answers with.
var errNoAnswer = errors.New("something else answers here")

// parseAnswer reads the body of a success. Servers are careless about content types, so what decides is whether the
// bytes can be an answer; text, which any bytes could be, has to be a JSON object.
func parseAnswer(contentType string, body []byte) (wire.Answer, error) {
	text := bytes.TrimSpace(body)
	switch {
	case len(body) == 0:
		return wire.Answer{}, nil
	case isProto(contentType): // whatever its bytes look like
	case len(text) == 0:
		return wire.Answer{}, nil
	case text[0] == '{':
		return parseJSON(text)
	}
	media, _, _ := mime.ParseMediaType(contentType)
	if strings.HasPrefix(media, "text/") || strings.HasSuffix(media, "json") || strings.HasSuffix(media, "html") ||
		strings.HasSuffix(media, "xml") {
		return wire.Answer{}, fmt.Errorf("%w: %s", errNoAnswer, wire.Clip(media))
	}
	a, err := wire.ParseAnswer(body)
	if err != nil {
		return wire.Answer{}, fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	return a, nil
}

func isProto(contentType string) bool {
	media, _, _ := mime.ParseMediaType(contentType)
	return media == typeProto || media == "application/protobuf"
}

// parseJSON reads the JSON of an export response. Unknown fields are skipped, and 64-bit numbers may be strings, as
// proto3 JSON has it.
func parseJSON(body []byte) (wire.Answer, error) {
	var outer map[string]json.RawMessage
	if err := json.Unmarshal(body, &outer); err != nil {
		return wire.Answer{}, errNoAnswer
	}
	partial := outer["partialSuccess"]
	if partial == nil {
		partial = outer["partial_success"]
	}
	var a wire.Answer
	if partial == nil {
		return a, nil
	}
	var inner map[string]json.RawMessage
	if err := json.Unmarshal(partial, &inner); err != nil {
		return a, errNoAnswer
	}
	for key, value := range inner {
		switch {
		case key == "errorMessage" || key == "error_message":
			var text string
			if err := json.Unmarshal(value, &text); err != nil {
				return a, errNoAnswer
			}
			a.Message = wire.Clip(text)
		case strings.HasPrefix(key, "rejected"):
			n, err := strconv.ParseInt(strings.Trim(string(value), `"`), 10, 64)
			if err != nil {
				return a, errNoAnswer
			}
			a.Rejected = uint32(min(max(n, 0), math.MaxUint32))
		}
	}
	return a, nil
}

// reason is what the body of a refusal says, as far as it is for people.
func reason(contentType string, body []byte) string {
	switch {
	case len(body) == 0:
		return "no reason given"
	case len(body) > wire.MaxAnswer:
		return "more than 4 MiB of reasons"
	case isProto(contentType):
		if s, err := wire.ParseStatus(body); err == nil {
			return s.Message
		}
	case bytes.HasPrefix(bytes.TrimSpace(body), []byte{'{'}):
		var s struct {
			Message string `json:"message"`
		}
		if err := json.Unmarshal(body, &s); err == nil && s.Message != "" {
			return wire.Clip(s.Message)
		}
	}
	return wire.Clip(string(bytes.TrimSpace(body[:min(len(body), 2<<10)])))
}
