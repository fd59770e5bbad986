// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package breaker

import "time"

// Class is what came of an attempt, as far as a breaker cares.
type Class uint8

// The classes: the six verdicts of an exporter, and local, which is none.
const (
	Delivered     Class = 1 + iota
	Retry               // refused, reset, unavailable
	RetryAfter          // asked for silence
	Ambiguous           // may have been taken
	Misconfigured       // credentials, endpoint or protocol are wrong
	Rejected            // the data is, the endpoint is not
	Local               // no verdict: a limiter inside the level, a stop, our own timer was late
)

var classWords = [...]string{"none", "delivered", "retry", "retry_after", "ambiguous", "misconfigured", "rejected", "local"}

// String is the class's word in metrics and logs.
func (c Class) String() string {
	if int(c) < len(classWords) {
		return classWords[c]
	}
	return "none"
}

// Outcome is what came of one attempt or probe.
type Outcome struct {
	Class      Class
	Unclear    bool          // Retry: may be the payload's fault; counts once per batch
	Counted    bool          // a failure, and the configured conditions hold; Rejected only if they say so
	After      time.Duration // RetryAfter: the delay asked for; 0 = none was named
	More       uint32        // Delivered: so many others were, lately, of which nothing else is told
	Took       time.Duration // from send to answer; 0 = not known
	Generation uint64        // the breaker's when the attempt began
	Batch      uint64        // names the batch; 0 for probes
	Text       string        // cause; at most 1 KiB
}

// good reports whether a probe with this outcome is one: the endpoint answered as one that takes data does.
func (o *Outcome) good() bool { return o.Class == Delivered || o.Class == Rejected }

// failed reports whether the outcome speaks against the endpoint.
func (o *Outcome) failed() bool {
	return o.Class == Retry || o.Class == Ambiguous || o.Class == Misconfigured
}
