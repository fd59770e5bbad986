// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/holdfast-telemetry/holdfast/internal/compression"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/door"
)

// wireStream is what the transport's stream of grpc-go can do besides what grpc.ServerTransportStream names: hand
// out a message as it arrives, and end the stream from another goroutine. grpc's own RecvMsg reads and decodes a
// whole message before anybody is asked. A test fails when a new version of grpc-go no longer has these methods.
type wireStream interface {
	// ReadMessageHeader fills header or fails; io.EOF is the end of the client's messages.
	ReadMessageHeader(header []byte) error
	// Read returns the next n bytes of the message.
	Read(n int) (mem.BufferSlice, error)
	// RecvCompress is the request's grpc-encoding.
	RecvCompress() string
	// WriteStatus ends the stream; the first call counts. It may run beside the others.
	WriteStatus(st *status.Status) error
}

// piece is how much of a message is asked of the transport at once: a stream's window, so that what is held twice
// for a moment is never more than what the window allows anyway.
const piece = streamWindow

// describe names the one method of a signal's service. It is described as streaming because its handler reads the
// message itself; on the wire that is the same.
func describe(signal otlp.Signal, a *act) *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: services[signal],
		HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{
			StreamName:    "Export",
			ServerStreams: true, // without it interceptors would be passed by
			Handler: func(lane any, ss grpc.ServerStream) error {
				return a.export(lane.(*door.Lane), ss)
			},
		}},
	}
}

// export serves one request. What was taken counts as taken, whether or not the client is still there for the answer.
func (a *act) export(lane *door.Lane, ss grpc.ServerStream) (err error) {
	req := lane.Begin()
	var sent error
	defer func() {
		if r := recover(); r != nil {
			a.s.door.Panicked(r)
			err = &door.Failure{Cause: errors.New("panic")}
		}
		req.End(err)
		if err != nil {
			err = statusOf(err).Err()
		} else {
			err = sent
		}
	}()
	res, err := a.take(ss.Context(), &req, lane)
	if err != nil {
		return err
	}
	sent = a.s.answer(ss, res)
	return nil
}

// take takes a request in, the cheapest checks first.
func (a *act) take(ctx context.Context, req *door.Request, lane *door.Lane) (receiver.Result, error) {
	s := a.s
	none := receiver.Result{}
	if s.stopping.Load() {
		return none, door.Stopping()
	}
	if ctx.Value(crowded{}) != nil {
		return none, door.TooManyHeaders(maxHeaderEntries)
	}
	stream, ok := grpc.ServerTransportStreamFromContext(ctx).(wireStream)
	if !ok {
		return none, &door.Failure{Cause: errors.New("the transport does not hand out messages in pieces")}
	}
	ctx, err := s.authenticate(ctx)
	if err != nil {
		return none, err
	}
	if err := req.Admit(-1); err != nil {
		return none, err
	}
	codec, err := a.read(req, stream, lane.MaxBytes())
	if err != nil {
		return none, err
	}
	return req.Accept(ctx, codec, nil, s.metadata(ctx, lane))
}

// read reads the stream's one message into req and returns how it is compressed.
func (a *act) read(req *door.Request, stream wireStream, maxBytes int) (codec compression.Codec, err error) {
	r := readerPool.Get().(*reader)
	r.stream, r.since = stream, time.Now()
	a.reading.add(r)
	defer func() {
		a.reading.remove(r)
		if r.cut != nil { // the answer is given, whatever was read
			err = r.cut
		}
		*r = reader{}
		readerPool.Put(r)
	}()
	return r.message(req, maxBytes)
}

// reader is one message being read.
type reader struct {
	stream     wireStream
	since      time.Time
	head       [5]byte
	cut        error // why the stream was ended from outside, read after remove
	prev, next *reader
}

var readerPool = sync.Pool{New: func() any { return new(reader) }}

func (r *reader) message(req *door.Request, maxBytes int) (compression.Codec, error) {
	if err := r.stream.ReadMessageHeader(r.head[:]); err != nil {
		return 0, readError(err, "the request has no message")
	}
	codec, err := r.codec()
	if err != nil {
		return 0, err
	}
	rest := int64(binary.BigEndian.Uint32(r.head[1:]))
	if rest > int64(maxBytes) {
		return 0, door.TooLarge(maxBytes)
	}
	for rest > 0 {
		room, err := req.Room(int(rest))
		if err != nil {
			return 0, err
		}
		data, err := r.stream.Read(min(len(room), piece))
		if err != nil {
			return 0, readError(err, "the message is truncated")
		}
		n := data.CopyTo(room)
		data.Free()
		req.Filled(n)
		rest -= int64(n)
	}
	if err := r.stream.ReadMessageHeader(r.head[:]); err == nil {
		return 0, door.Malformed("more than one message in a request")
	} else if err != io.EOF {
		return 0, readError(err, "bytes after the message")
	}
	return codec, nil
}

// codec reads the message's flag and the request's grpc-encoding (gRPC over HTTP/2, "Length-Prefixed-Message").
func (r *reader) codec() (compression.Codec, error) {
	name := r.stream.RecvCompress()
	switch r.head[0] {
	case 0:
		return compression.None, nil
	case 1:
		if name == "" || name == "identity" {
			return 0, door.Malformed("the message is marked as compressed and grpc-encoding names no compression")
		}
		codec, ok := compression.Parse(name)
		if !ok {
			return 0, door.Unsupported(receiver.ReasonEncoding, "grpc-encoding is none of gzip, zstd, snappy")
		}
		return codec, nil
	}
	return 0, door.Malformed("the message's compressed flag is neither 0 nor 1")
}

// readError is what an error of the transport means. Statuses come from deadlines and cancellation.
func readError(err error, truncated string) error {
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
		return door.Malformed(truncated)
	}
	switch status.Code(err) {
	case codes.DeadlineExceeded:
		return context.DeadlineExceeded
	case codes.Canceled:
		return context.Canceled
	}
	return err
}

// readers lists the messages being read, oldest first. The zero value is empty.
type readers struct {
	mu struct {
		sync.Mutex
		first, last *reader
	}
}

func (rs *readers) add(r *reader) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r.prev = rs.mu.last
	if r.prev != nil {
		r.prev.next = r
	} else {
		rs.mu.first = r
	}
	rs.mu.last = r
}

func (rs *readers) remove(r *reader) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.removeLocked(r)
}

// removeLocked does nothing for a reader that is not in the list.
func (rs *readers) removeLocked(r *reader) {
	if r.prev != nil {
		r.prev.next = r.next
	} else if rs.mu.first == r {
		rs.mu.first = r.next
	}
	if r.next != nil {
		r.next.prev = r.prev
	} else if rs.mu.last == r {
		rs.mu.last = r.prev
	}
	r.prev, r.next = nil, nil
}

// cut ends the streams that began to be read before the given time, with the status of err. Writing a status takes
// the transport's locks and does not wait for the network.
func (rs *readers) cut(before time.Time, err error) {
	st := statusOf(err)
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for r := rs.mu.first; r != nil && r.since.Before(before); r = rs.mu.first {
		rs.removeLocked(r)
		r.cut = err
		r.stream.WriteStatus(st)
	}
}
