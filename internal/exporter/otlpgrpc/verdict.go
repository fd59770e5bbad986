// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/wire"
)

// answerLimit bounds an answer, in bytes. It is one more than wire.MaxAnswer for a reason: the library reports an answer
// that is too large with the words and the code a backend uses for a request that is too large, and with the limit.
// This one is nobody else's.
const answerLimit = wire.MaxAnswer + 1

// fail makes a verdict of a failed call (compat, section 10).
func (e *Exporter) fail(ctx context.Context, w *watch, err error) exporter.Verdict {
	st := status.Convert(err)
	var v exporter.Verdict
	switch {
	case w.answered.Load():
		v = answered(st)
	case w.sent.Load():
		v = cut(st)
		if l := w.line.Load(); l != nil && st.Code() == codes.DeadlineExceeded {
			l.strike(w)
		}
	default:
		v = unsent(st.Code())
	}
	text := wire.Clip(wire.ExplainAlert(unquote(st.Message())))
	if e.link.asked.Load() && !w.answered.Load() {
		text += wire.AskedHint
	}
	timely := st.Code() == codes.DeadlineExceeded || st.Code() == codes.Canceled
	if cause := context.Cause(ctx); cause != nil && timely {
		v.Err = fmt.Errorf("export to %q: %s: %s: %w", e.cfg.Client.Endpoint, st.Code(), text, cause)
	} else {
		v.Err = fmt.Errorf("export to %q: %s: %s", e.cfg.Client.Endpoint, st.Code(), text)
	}
	return v
}

// unquote takes the wrapping off the text of a connection that failed.
func unquote(text string) string {
	quoted, ok := strings.CutPrefix(strings.TrimPrefix(text, "last connection error: "), "connection error: desc = ")
	if !ok {
		return text
	}
	plain, err := strconv.Unquote(quoted)
	if err != nil {
		return text
	}
	return plain
}

// answered is the verdict of a status the backend sent.
func answered(st *status.Status) exporter.Verdict {
	switch st.Code() {
	case codes.OK:
		return exporter.Verdict{Kind: exporter.Delivered}
	case codes.Unavailable:
		if d, ok := hint(st); ok && d > 0 {
			return exporter.Verdict{Kind: exporter.RetryAfter, After: d}
		}
		return exporter.Verdict{Kind: exporter.Retry}
	case codes.ResourceExhausted:
		d, ok := hint(st)
		switch {
		case ok:
			return exporter.Verdict{Kind: exporter.RetryAfter, After: d}
		case ownAnswerLimit(st.Message()):
			return exporter.Verdict{Kind: exporter.Misconfigured}
		case speaksOfSize(st.Message()):
			return exporter.Verdict{Kind: exporter.Rejected, TooLarge: true}
		}
		return exporter.Verdict{Kind: exporter.RetryAfter}
	case codes.Aborted, codes.OutOfRange, codes.DataLoss:
		return exporter.Verdict{Kind: exporter.Retry}
	case codes.DeadlineExceeded, codes.Canceled:
		return exporter.Verdict{Kind: exporter.Ambiguous}
	case codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented, codes.NotFound:
		return exporter.Verdict{Kind: exporter.Misconfigured}
	case codes.InvalidArgument:
		return exporter.Verdict{Kind: exporter.Rejected}
	}
	return exporter.Verdict{Kind: exporter.Retry, Unclear: true}
}

// Texts by which the library tells what a code alone does not.
const (
	httpStatusText = "unexpected HTTP status code received from server: "
	resetText      = "stream terminated by RST_STREAM with error code: "
)

// cut is the verdict of a call whose request may have been sent, and that did not end with a gRPC status of the
// backend: a deadline, a lost connection, a reset stream, or an answer that is not gRPC at all.
func cut(st *status.Status) exporter.Verdict {
	if rest, ok := strings.CutPrefix(st.Message(), httpStatusText); ok {
		number, _, _ := strings.Cut(rest, " ")
		if code, err := strconv.Atoi(number); err == nil {
			return wire.VerdictOfHTTP(code)
		}
	}
	if reason, ok := strings.CutPrefix(st.Message(), resetText); ok {
		switch reason {
		case "REFUSED_STREAM": // by RFC 9113, section 8.7: nothing was processed
			return exporter.Verdict{Kind: exporter.Retry}
		case "HTTP_1_1_REQUIRED", "INADEQUATE_SECURITY":
			return exporter.Verdict{Kind: exporter.Misconfigured}
		}
		return exporter.Verdict{Kind: exporter.Ambiguous}
	}
	switch st.Code() {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		return exporter.Verdict{Kind: exporter.Ambiguous}
	case codes.ResourceExhausted:
		if ownAnswerLimit(st.Message()) {
			return exporter.Verdict{Kind: exporter.Misconfigured}
		}
	case codes.Unimplemented:
		return exporter.Verdict{Kind: exporter.Misconfigured}
	}
	return exporter.Verdict{Kind: exporter.Retry, Unclear: true}
}

// unsent is the verdict of a call of which nothing left: no connection, no time, no credentials.
func unsent(c codes.Code) exporter.Verdict {
	switch c {
	case codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented, codes.Internal:
		return exporter.Verdict{Kind: exporter.Misconfigured}
	}
	return exporter.Verdict{Kind: exporter.Retry}
}

// hint is the delay of a RetryInfo detail, at least 0.
func hint(st *status.Status) (time.Duration, bool) {
	for _, d := range st.Proto().GetDetails() {
		if after, ok := wire.RetryHint(d.GetTypeUrl(), d.GetValue()); ok {
			return after, true
		}
	}
	return 0, false
}

func ownAnswerLimit(text string) bool { return strings.Contains(text, ownLimitText) }

var ownLimitText = strconv.Itoa(answerLimit)

// speaksOfSize reports whether a text says that a request is too large, in the words of the gRPC libraries.
func speaksOfSize(text string) bool {
	text = strings.ToLower(text)
	for _, words := range []string{
		"larger than max",                             // Go, C++ and those that wrap it
		"exceeds maximum size",                        // Java
		"exceeds the maximum configured message size", // .NET
	} {
		if strings.Contains(text, words) {
			return true
		}
	}
	return false
}
