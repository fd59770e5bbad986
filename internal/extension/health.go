// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package extension

import (
	"fmt"
	"time"
)

// Bounds of the three questions (compat, section 8).
const (
	// LoopTimeout is how long a loop may go without a tick before the process counts as stuck.
	LoopTimeout = 30 * time.Second
	// RefuseTimeout is how long every pipeline must refuse before the process is not ready.
	RefuseTimeout = 10 * time.Second
	// AcceptTime is how long a pipeline must accept again before the process is ready again.
	AcceptTime = 2 * time.Second
)

// Phase is where the process is in its life. The zero value is Starting.
type Phase int32

// The phases.
const (
	Starting Phase = iota
	Running
	Stopping
)

// String is the phase's word in answers.
func (p Phase) String() string {
	switch p {
	case Running:
		return "running"
	case Stopping:
		return "stopping"
	}
	return "starting"
}

// Health is a copy of what there is to know about the process. It belongs to whoever asked for it.
type Health struct {
	Phase        Phase
	UpSince      time.Time // zero until the pipelines run
	Pipelines    []PipelineHealth
	Destinations []DestinationHealth
	Loops        []LoopHealth
	Extensions   []string // IDs as written
	// Degraded are standing reasons not to be content that belong to no destination, such as a configuration that
	// was offered and does not run. They never change a status code.
	Degraded []string
}

// PipelineHealth says whether the front of one pipeline takes data.
type PipelineHealth struct {
	ID string
	// Accepting is false while the pipeline refuses (disk, full queue, memory). It must become true when there is
	// room again, not only with the next request: a process that is not ready is sent none.
	Accepting     bool
	RefusingSince time.Time // zero while accepting
	// AcceptingSince may be left zero: then the time of the first look that finds it accepting counts.
	AcceptingSince time.Time
}

// DestinationHealth says how deliveries to one destination fare, over all its levels.
type DestinationHealth struct {
	Pipeline, Name string // IDs as written
	// Failed counts the attempts, probes included, that ended in retry, ambiguous or misconfigured since the last
	// delivery at whatever level.
	Failed       int64
	Delivered    int64 // items since start
	LastFailure  time.Time
	LastDelivery time.Time
	LastError    string // foreign text
	Oldest       time.Duration
	Degraded     string // why, if it delivers but not as it should: a level down, throttled; empty = as it should
}

// LoopHealth is one goroutine that must keep turning. A loop that waits for a disk or a backend ticks all the same.
type LoopHealth struct {
	Name     string
	LastTick time.Time
}

// Failing decides when a destination counts as failing. It is check_collector_pipeline's pair of values, which hold
// whether the check is enabled or not.
type Failing struct {
	Threshold int64         // attempts
	Interval  time.Duration // how young the latest of them must be
}

// DefaultFailing are the Collector's values.
func DefaultFailing() Failing { return Failing{Threshold: 5, Interval: 5 * time.Minute} }

// Fails reports whether d fails at now.
func (f Failing) Fails(d *DestinationHealth, now time.Time) bool {
	return d.Failed > 0 && d.Failed >= f.Threshold && now.Sub(d.LastFailure) < f.Interval
}

// Available reports whether the process has started and does not stop: the Collector's own meaning of healthy.
func (h *Health) Available() bool { return h.Phase == Running }

// Stuck lists the loops that have not ticked for LoopTimeout, with how long; none means alive. Starting and stopping
// processes are never stuck by it: their loops do not turn yet, or no longer.
func (h *Health) Stuck(now time.Time) []string {
	if h.Phase != Running {
		return nil
	}
	var out []string
	for _, l := range h.Loops {
		if silent := now.Sub(l.LastTick); !l.LastTick.IsZero() && silent > LoopTimeout {
			out = append(out, fmt.Sprintf("%s: no sign of life for %s", l.Name, silent.Round(time.Second)))
		}
	}
	return out
}

// Refusals lists the pipelines if every one of them has refused for RefuseTimeout; nil if one has not, or there is
// none.
func (h *Health) Refusals(now time.Time) []string {
	var out []string
	for _, p := range h.Pipelines {
		refused := now.Sub(p.RefusingSince)
		if p.Accepting || refused < RefuseTimeout {
			return nil
		}
		out = append(out, fmt.Sprintf("%s: refusing for %s", p.ID, refused.Round(time.Second)))
	}
	return out
}
