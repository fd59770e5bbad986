// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlphttp

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/door"
)

// Codes of google.rpc.Status (google/rpc/code.proto).
const (
	codeInvalidArgument   = 3
	codePermissionDenied  = 7
	codeResourceExhausted = 8
	codeUnimplemented     = 12
	codeUnavailable       = 14
	codeUnauthenticated   = 16
)

var (
	errPanic   = errors.New("panic")
	errHeaders = errors.New("too many header entries")
	errCutOff  = errors.New("the connection ended within the body")
)

// authError is the refusal of credentials; known = they are good, for something else.
type authError struct{ known bool }

func (e *authError) Error() string { return "authentication failed" }

var (
	protobufHeader = []string{protobufType}
	jsonHeader     = []string{jsonType}
	zeroLength     = []string{"0"}
	twoLength      = []string{"2"}
	emptyJSON      = []byte("{}")
)

// succeed answers a request that was taken.
func succeed(w http.ResponseWriter, signal otlp.Signal, f form, res receiver.Result) {
	h := w.Header()
	var body []byte
	switch {
	case res.Rejected == 0 && res.Message == "" && f == protobuf:
		h["Content-Type"], h["Content-Length"] = protobufHeader, zeroLength
	case res.Rejected == 0 && res.Message == "":
		h["Content-Type"], h["Content-Length"] = jsonHeader, twoLength
		body = emptyJSON
	case f == protobuf:
		h["Content-Type"] = protobufHeader
		body = door.PartialSuccess(res)
	default:
		h["Content-Type"] = jsonHeader
		body = door.PartialSuccessJSON(signal, res)
	}
	w.WriteHeader(http.StatusOK)
	if len(body) > 0 {
		w.Write(body)
	}
}

// refuse answers a request that ended with err (compat, section 10).
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	f := formOf(r)
	var ref *receiver.Refusal
	var auth *authError
	var failure *door.Failure
	var slow *door.SlowBody
	switch {
	case errors.As(err, &slow), errors.Is(err, errCutOff),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		panic(http.ErrAbortHandler) // closes the connection without an answer
	case errors.As(err, &ref):
		refuseWith(w, f, ref)
	case errors.As(err, &auth) && auth.known:
		writeError(w, f, http.StatusForbidden, codePermissionDenied, "not allowed", 0)
	case errors.As(err, &auth):
		writeError(w, f, http.StatusUnauthorized, codeUnauthenticated, "credentials missing or not accepted", 0)
	case errors.Is(err, errHeaders):
		writeError(w, f, http.StatusRequestHeaderFieldsTooLarge, codeResourceExhausted,
			door.TooManyHeaders(maxHeaderEntries).Text, 0)
	case errors.As(err, &failure):
		writeError(w, f, http.StatusServiceUnavailable, codeUnavailable, "internal error", door.PanicAfter())
	default:
		writeError(w, f, http.StatusServiceUnavailable, codeUnavailable, door.Clean(err.Error()), door.PanicAfter())
	}
}

func refuseWith(w http.ResponseWriter, f form, ref *receiver.Refusal) {
	switch ref.Code {
	case receiver.Malformed, receiver.Denied:
		writeError(w, f, http.StatusBadRequest, codeInvalidArgument, ref.Text, 0)
	case receiver.TooLarge:
		writeError(w, f, http.StatusRequestEntityTooLarge, codeResourceExhausted, ref.Text, 0)
	case receiver.Unsupported:
		writeError(w, f, http.StatusUnsupportedMediaType, codeUnimplemented, ref.Text, 0)
	default:
		if ref.Reason == receiver.ReasonStopping {
			w.Header().Set("Connection", "close")
		}
		writeError(w, f, http.StatusServiceUnavailable, codeUnavailable, ref.Text, ref.After)
	}
}

// writeError answers with a google.rpc.Status in the given form. after > 0 adds the hint when to come back, as
// RetryInfo and as Retry-After in whole seconds, rounded up.
func writeError(w http.ResponseWriter, f form, code int, rpcCode int32, text string, after time.Duration) {
	st := &rpcstatus.Status{Code: rpcCode, Message: text}
	h := w.Header()
	if after > 0 {
		if info, err := anypb.New(&errdetails.RetryInfo{RetryDelay: durationpb.New(after)}); err == nil {
			st.Details = append(st.Details, info)
		}
		h.Set("Retry-After", strconv.FormatInt(int64((after+time.Second-1)/time.Second), 10))
	}
	var body []byte
	if f == protobuf {
		h["Content-Type"] = protobufHeader
		body, _ = proto.Marshal(st)
	} else {
		h["Content-Type"] = jsonHeader
		body, _ = protojson.Marshal(st)
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(code)
	w.Write(body)
}
