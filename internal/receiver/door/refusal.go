// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package door

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/admission"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
)

// jitter spreads the return of clients over a span of time, so that they do not come back at once.
func jitter(from, to time.Duration) time.Duration { return from + rand.N(to-from) }

// Stopping is the refusal of a door that closes (compat, section 10).
func Stopping() *receiver.Refusal {
	return &receiver.Refusal{
		Code: receiver.Unavailable, Reason: receiver.ReasonStopping, After: jitter(time.Second, 5*time.Second),
		Text: "shutting down",
	}
}

// SlowBody ends a request whose body took too long. It is counted as its refusal; the protocols answer it in their
// own ways.
type SlowBody struct{ Refusal *receiver.Refusal }

// Slow returns the error of a body that did not arrive within d.
func Slow(d time.Duration) *SlowBody {
	return &SlowBody{&receiver.Refusal{
		Code: receiver.Unavailable, Reason: receiver.ReasonTimeout, After: jitter(time.Second, 3*time.Second),
		Text: fmt.Sprintf("the body did not arrive within %s", d),
	}}
}

func (e *SlowBody) Error() string { return e.Refusal.Error() }

// Unwrap returns the refusal.
func (e *SlowBody) Unwrap() error { return e.Refusal }

// Malformed is the final refusal of bytes that are no request. text names offset and cause, never payload.
func Malformed(text string) *receiver.Refusal {
	return &receiver.Refusal{Code: receiver.Malformed, Reason: receiver.ReasonMalformed, Text: text}
}

// TooLarge is the final refusal of a request above max bytes.
func TooLarge(max int) *receiver.Refusal {
	return &receiver.Refusal{
		Code: receiver.TooLarge, Reason: receiver.ReasonTooLarge,
		Text: fmt.Sprintf("the request is larger than max, %d bytes", max),
	}
}

// TooManyHeaders is the final refusal of a request with more than max header entries.
func TooManyHeaders(max int) *receiver.Refusal {
	return &receiver.Refusal{
		Code: receiver.TooLarge, Reason: receiver.ReasonTooLarge,
		Text: fmt.Sprintf("the request has more than %d header entries", max),
	}
}

// Unsupported is the final refusal of an encoding or a content type; reason says which.
func Unsupported(reason, text string) *receiver.Refusal {
	return &receiver.Refusal{Code: receiver.Unsupported, Reason: reason, Text: text}
}

// PanicAfter is the hint that goes with the answer to a request that panicked.
func PanicAfter() time.Duration { return jitter(time.Second, 5*time.Second) }

// scanRefusal is what a scan's error means to the client.
func scanRefusal(err error) *receiver.Refusal {
	switch {
	case errors.Is(err, otlp.ErrTooManyItems):
		return &receiver.Refusal{Code: receiver.TooLarge, Reason: receiver.ReasonItems, Text: err.Error()}
	case errors.Is(err, otlp.ErrTooDeep):
		return &receiver.Refusal{Code: receiver.Malformed, Reason: receiver.ReasonDepth, Text: err.Error()}
	}
	return Malformed(err.Error())
}

// refusal is the refusal in err, or the one of an exhausted budget.
func refusal(err error) *receiver.Refusal {
	var ref *receiver.Refusal
	if errors.As(err, &ref) {
		return ref
	}
	return &receiver.Refusal{
		Code: receiver.Unavailable, Reason: receiver.ReasonAdmission, After: jitter(time.Second, 3*time.Second),
		Text: err.Error(),
	}
}

// refusalOr is refusal for what may also be the end of a context.
func refusalOr(err error) error {
	if errors.Is(err, admission.ErrNoDecoder) {
		return refusal(err)
	}
	return err
}

// AuthUnavailable is the refusal of an authenticator that cannot tell at the moment.
func AuthUnavailable() *receiver.Refusal {
	return &receiver.Refusal{
		Code: receiver.Unavailable, Reason: receiver.ReasonAuth, After: jitter(time.Second, 5*time.Second),
		Text: "the authenticator is not available",
	}
}
