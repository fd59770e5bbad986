// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package failover

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
)

// Forever is a patience without end.
const Forever = time.Duration(math.MaxInt64)

// maxLevels and maxMembers keep a batch's marks in one word each.
const (
	maxLevels  = 64
	maxMembers = 64
)

// RouteSettings are what the Router of one destination works with. They are resolved from the configuration (failover,
// sections 4.3 and 4.4) and not changed while it runs.
type RouteSettings struct {
	Levels []LevelSettings // best first; a plain exporter is one level
	// Slots bounds the batches that hold a slot at any level together; 0 = the levels' own bounds only.
	Slots int
	// Stay keeps a failed batch at its level until patience ends or the level is down, Move never does. Neither: it
	// depends on whether the level delivered others since the attempt began.
	Stay, Move bool
	// HighWater is the share of the queue's capacity from which the emergency level is used; 0 = whenever all is down.
	HighWater float64
	// MaxThrottle bounds the delay a level may ask for.
	MaxThrottle time.Duration
	// DrainStart bounds the batches in flight at a level that has just returned, LiveShare is what fresh data has of a
	// level beside a backlog; see Window. Strict has one batch at a time in hand, in the queue's order.
	DrainStart int
	LiveShare  float64
	Strict     bool
	// DropRejected books what every level rejected as delivered with all items refused, instead of setting it aside.
	DropRejected bool
	// Jitter spreads backoffs: a number in [-1, 1); nil = always 0.
	Jitter func() float64
}

// LevelSettings describe one level of a route.
type LevelSettings struct {
	Members []string // exporter IDs, at most 64; all must deliver
	Slots   int      // batches at the level at once, those in backoff included
	Backoff Backoff
	// Patience is how long one batch may keep trying the level while it is up; 0 = one attempt, Forever = no end.
	Patience  time.Duration
	Timeout   time.Duration // of one attempt, the members' longest; 0 = none of its own
	MaxItems  uint32        // largest request in items; 0 = no bound
	Emergency bool          // takes only what no ordinary level takes
}

// Backoff grows the wait between attempts of one batch at one level.
type Backoff struct {
	Initial, Max time.Duration
	Multiplier   float64
	Spread       float64 // of a wait, up and down; within [0, 1]
}

// BackoffOf reads a retry_on_failure block: the backoff of a level and its patience.
func BackoffOf(r *exporter.RetryConfig) (Backoff, time.Duration) {
	b := Backoff{
		Initial: r.InitialInterval, Max: max(r.MaxInterval, r.InitialInterval), Multiplier: max(r.Multiplier, 1),
		Spread: r.RandomizationFactor,
	}
	switch {
	case !r.Enabled:
		return b, 0
	case r.MaxElapsedTime == 0:
		return b, Forever
	}
	return b, r.MaxElapsedTime
}

// Settings returns what a connector's block says of routing; levels, slots and jitter are the caller's to fill in. For a
// plain exporter the defaults' are taken: Default().
func (c *Config) Settings() RouteSettings {
	s := RouteSettings{MaxThrottle: c.Throttle.MaxWait, DropRejected: c.Rejected.Action == "drop",
		DrainStart: c.Drain.Start, LiveShare: c.Drain.LiveShare, Strict: c.Drain.Order == "strict"}
	s.Stay, s.Move = c.Stays()
	if c.Emergency.When == "queue_high" {
		s.HighWater = c.Emergency.HighWater
	}
	return s
}

// Validate reports what a Router cannot work with.
func (s *RouteSettings) Validate() error {
	if len(s.Levels) == 0 || len(s.Levels) > maxLevels {
		return fmt.Errorf("a route has between 1 and %d levels, not %d", maxLevels, len(s.Levels))
	}
	var errs []error
	for i := range s.Levels {
		l := &s.Levels[i]
		if len(l.Members) == 0 || len(l.Members) > maxMembers {
			errs = append(errs, fmt.Errorf("level %d has between 1 and %d exporters, not %d", i, maxMembers, len(l.Members)))
		}
		if l.Slots < 1 {
			errs = append(errs, fmt.Errorf("level %d has no slots", i))
		}
		if l.Emergency && (i == 0 || i < len(s.Levels)-1) {
			errs = append(errs, fmt.Errorf("level %d cannot be the emergency level: it must be the last of several", i))
		}
	}
	return errors.Join(errs...)
}

// next is the wait after one of before, 0 = none yet.
func (b *Backoff) next(before time.Duration) time.Duration {
	if before <= 0 {
		return min(b.Initial, b.Max)
	}
	if grown := float64(before) * b.Multiplier; grown < float64(b.Max) {
		return time.Duration(grown)
	}
	return b.Max
}

// spread moves wait up or down by at most the backoff's share; jitter is within [-1, 1).
func (b *Backoff) spread(wait time.Duration, jitter func() float64) time.Duration {
	if jitter == nil || b.Spread == 0 {
		return wait
	}
	return max(time.Duration(float64(wait)*(1+b.Spread*jitter())), 0)
}
