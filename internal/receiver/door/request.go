// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package door

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/admission"
	"github.com/holdfast-telemetry/holdfast/internal/compression"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
)

const (
	// firstGrant is asked for when the length of a body is not known (faults, part C).
	firstGrant = 64 << 10
	// eagerBody is the largest body whose room is taken at once when its length is known. Room for larger ones grows
	// with what arrives, so that naming a length does not cost memory.
	eagerBody = 1 << 20
	// seriousPart: once so much less than the rest has arrived, a body is believed to come whole, and the room for
	// the rest is taken at once.
	seriousPart = 7
)

// Request is one request from its headers to its answer. It belongs to one goroutine.
type Request struct {
	lane  *Lane
	start time.Time
	grant *admission.Grant
	spent int64 // bytes of memory in use, never above the grant's
	body  *buffer
	items uint32 // 0 until scanned
}

// Begin opens a request; End closes it.
func (l *Lane) Begin() Request { return Request{lane: l, start: time.Now()} }

// Admit asks for memory before the body is read. length is the body's, -1 = not known. It also refuses a body that
// is known to be too large. The error is a *receiver.Refusal.
func (r *Request) Admit(length int64) error {
	if length > int64(r.lane.maxBytes) {
		return TooLarge(r.lane.maxBytes)
	}
	n := int64(firstGrant)
	if length >= 0 {
		n = int64(bufferSize(int(length)))
	}
	grant, err := r.lane.sink.Admit(n)
	if err != nil {
		return refusal(err)
	}
	r.grant = grant
	return nil
}

// spend takes n bytes from the grant, which grows where it is used up.
func (r *Request) spend(n int) error {
	if over := r.spent + int64(n) - r.grant.Bytes(); over > 0 {
		if err := r.grant.Grow(over); err != nil {
			return refusal(err)
		}
	}
	r.spent += int64(n)
	return nil
}

// Room returns where the next bytes of the body go: between 1 and want bytes, fewer where the room of a large body
// grows with what arrives. want must be positive and is the rest of the body as far as it is known. Filled tells how
// much was written.
func (r *Request) Room(want int) ([]byte, error) {
	if r.body == nil {
		if err := r.enlarge(min(want, eagerBody)); err != nil {
			return nil, err
		}
	}
	b := r.body.b
	if len(b) == cap(b) {
		more := min(want, len(b))
		if want <= seriousPart*len(b) {
			more = want
		}
		if err := r.enlarge(len(b) + more); err != nil {
			return nil, err
		}
		b = r.body.b
	}
	return b[len(b):min(cap(b), len(b)+want)], nil
}

// Filled says that n more bytes of the body are where Room pointed.
func (r *Request) Filled(n int) { r.body.b = r.body.b[:len(r.body.b)+n] }

// Size is the number of bytes filled.
func (r *Request) Size() int {
	if r.body == nil {
		return 0
	}
	return len(r.body.b)
}

// enlarge moves the body to a buffer of at least n bytes.
func (r *Request) enlarge(n int) error {
	old := r.body
	next, err := r.lend(old, n)
	if err != nil {
		return err
	}
	r.body = next
	return nil
}

// lend pays for a buffer of at least n bytes, moves what old holds into it, and frees old.
func (r *Request) lend(old *buffer, n int) (*buffer, error) {
	if err := r.spend(bufferSize(n)); err != nil {
		return nil, err
	}
	next := newBuffer(n)
	if old != nil {
		next.b = append(next.b, old.b...)
		r.drop(old)
	}
	return next, nil
}

// drop frees a buffer that lend returned.
func (r *Request) drop(b *buffer) {
	r.spent -= int64(cap(b.b))
	b.put()
}

// Translator turns requests in another form into wire bytes. Its errors are *receiver.Refusal.
type Translator struct {
	// Measure counts the objects of a text, which decide how much memory its translation takes, and refuses what
	// should not be translated at all. It takes no memory itself.
	Measure func(text []byte) (objects int, err error)
	// Translate returns the wire bytes in memory of its own.
	Translate func(text []byte) (wire []byte, err error)
}

// Accept decodes the body, translates it unless translate is nil, scans it, and hands it to the sink with md. The
// body is no longer the request's. The error is a *receiver.Refusal, ctx's error or a *Failure.
func (r *Request) Accept(ctx context.Context, codec compression.Codec, translate *Translator, md otlp.Metadata) (receiver.Result, error) {
	if r.body == nil {
		if codec == compression.None && translate == nil {
			return receiver.Result{}, nil // no bytes are the empty request
		}
		if err := r.enlarge(0); err != nil {
			return receiver.Result{}, err
		}
	}
	p := &otlp.Payload{Signal: r.lane.Signal, Metadata: md}
	if err := r.open(ctx, p, codec, translate); err != nil || p.Items == 0 {
		return receiver.Result{}, err
	}
	r.items = p.Items
	body := r.body
	p.Free, p.Keep, r.body = body.free, body.keep, nil
	res, err := r.lane.sink.Accept(ctx, p)
	if err != nil {
		if p.Free != nil {
			p.Release()
		}
		return receiver.Result{}, r.sinkError(ctx, err)
	}
	return res, nil
}

// sinkError passes on refusals and the end of ctx; anything else is an error of ours.
func (r *Request) sinkError(ctx context.Context, err error) error {
	var ref *receiver.Refusal
	if errors.As(err, &ref) {
		return ref
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return &Failure{err}
}

// End counts the request as err says, nil being success, and gives back what it holds. The sink must not have
// anything of it any more that was not accepted.
func (r *Request) End(err error) {
	l := r.lane
	var failure *Failure
	var ref *receiver.Refusal
	switch {
	case err == nil:
		l.succeededRequests.Inc()
		l.accepted.Add(int64(r.items))
	case errors.As(err, &failure):
		l.failedRequests.Inc()
		l.failed.Add(int64(max(r.items, 1)))
	default:
		l.refusedRequests.Inc()
		l.refused.Add(int64(max(r.items, 1)))
		if errors.As(err, &ref) {
			l.door.Refused(ref.Reason)
		}
	}
	l.seconds.Observe(time.Since(r.start).Seconds())
	if r.body != nil {
		r.body.put()
		r.body = nil
	}
	r.grant.Release()
}

// Failure is an error of our own.
type Failure struct{ Cause error }

func (f *Failure) Error() string { return fmt.Sprintf("internal error: %v", f.Cause) }

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Cause }
