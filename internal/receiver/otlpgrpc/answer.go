// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc

import (
	"context"
	"errors"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/holdfast-telemetry/holdfast/internal/receiver"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/door"
)

// statusOf is the answer to a request that ended with err (compat, section 10).
func statusOf(err error) *status.Status {
	var ref *receiver.Refusal
	var failure *door.Failure
	var slow *door.SlowBody
	switch {
	case errors.As(err, &slow):
		return status.New(codes.DeadlineExceeded, slow.Refusal.Text)
	case errors.As(err, &ref):
		return refusalStatus(ref)
	case errors.As(err, &failure):
		return unavailable("internal error", door.PanicAfter())
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return status.FromContextError(err)
	}
	if st, ok := status.FromError(err); ok {
		return st
	}
	return unavailable(err.Error(), door.PanicAfter())
}

func refusalStatus(ref *receiver.Refusal) *status.Status {
	switch ref.Code {
	case receiver.Malformed, receiver.Denied:
		return status.New(codes.InvalidArgument, ref.Text)
	case receiver.TooLarge:
		return status.New(codes.ResourceExhausted, ref.Text)
	case receiver.Unsupported:
		return status.New(codes.Unimplemented, ref.Text)
	}
	return unavailable(ref.Text, ref.After)
}

// unavailable is a retryable status with a hint when to come back.
func unavailable(text string, after time.Duration) *status.Status {
	st := status.New(codes.Unavailable, text)
	if with, err := st.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(after)}); err == nil {
		return with
	}
	return st
}

// answer sends the success of a request.
func (s *Server) answer(ss grpc.ServerStream, res receiver.Result) error {
	if res.Rejected == 0 && res.Message == "" {
		return ss.SendMsg(empty)
	}
	return ss.SendMsg(wireMessage(door.PartialSuccess(res)))
}

// wireMessage is a message that is encoded already.
type wireMessage []byte

// empty is the answer without anything to say.
var empty any = wireMessage(nil)

// codec encodes wire messages as they are, and everything else, which is the health service, as protobuf.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(proto.Name)} }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(wireMessage)
	if !ok {
		return c.CodecV2.Marshal(v)
	}
	if len(m) == 0 {
		return nil, nil
	}
	return mem.BufferSlice{mem.SliceBuffer(m)}, nil
}
