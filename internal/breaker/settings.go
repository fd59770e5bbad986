// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package breaker

import "time"

// Settings are a breaker's numbers, in force and valid: package failover makes them from a configuration. They are
// comparable, so that routes with equal settings can share a breaker.
type Settings struct {
	Consecutive   int           // strikes without a delivery that trip; 1…100
	Startup       int           // the same while it has never delivered; 1…100
	Ratio         float64       // failed share of the window that trips; 0 = off
	Window        time.Duration // how far back shares look
	MinAttempts   int           // in the window, for a share to mean anything
	FailoverDelay time.Duration // a trip comes at the earliest so long after the first strike
	SlowAfter     time.Duration // a delivery that took so long is slow; 0 = none is
	SlowRatio     float64       // slow share of the window that trips

	Live         bool // there is no probe: every proof is a live batch
	External     bool // probes knock at another door than the data: good once before they are believed
	ProbeTimeout time.Duration
	SendTimeout  time.Duration // of one live attempt; 0 = none
	Successes    int           // confirmations before a return, the canary included; ≥ 1
	Every        time.Duration // between checks while it carries; 0 = none
	Trips        bool          // checks alone may trip

	RetryInterval time.Duration // between recovery probes
	RareInterval  time.Duration // the same once MaxRetries failed
	MaxRetries    int           // 0 = never rare
	AllDownEvery  time.Duration // between recovery probes while a route has no level left

	HoldDown    time.Duration // after a trip; doubles while the breaker flaps
	HoldDownMax time.Duration
	FlapWindow  time.Duration // a trip sooner after the return than this is flapping

	Ramp      time.Duration // after a return the share of batches grows for so long; 0 = all at once
	RampStart float64       // the share at first; 0…1
	Manual    bool          // no live batch is asked for before an operator's release

	FailoverAfter time.Duration // a retry-after longer than this trips
	MaxWait       time.Duration // longest retry-after that is heeded
	Backoff       Backoff       // delay of a retry-after that names none

	Alone     bool // no other ordinary level could take the data: throttling does not trip
	Emergency bool // a member of the emergency level: healthy or down, by its writes
}

// Backoff is a delay that grows: Initial × Multiplierⁿ, at most Max.
type Backoff struct {
	Initial    time.Duration
	Multiplier float64
	Max        time.Duration
}

func (s *Settings) checks() bool { return s.Every > 0 && !s.Live && !s.Emergency }

// interval lies before the next recovery probe after so many failed in a row.
func (s *Settings) interval(failed int) time.Duration {
	if s.MaxRetries > 0 && failed >= s.MaxRetries {
		return s.RareInterval
	}
	return s.RetryInterval
}
