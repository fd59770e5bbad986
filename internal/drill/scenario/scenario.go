// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package scenario says what is done to a configuration in a drill, and what must come of it, as steps.
//
// It stands between internal/drill/topology, from which Derive makes the scenarios of a configuration, and
// internal/drill/stage, which plays them. A scenario of somebody's own is a text file of the same steps (Parse), and every
// derived one can be written as such a file (Text). It is pure: it opens nothing, starts nothing and reads no clock.
package scenario

import (
	"slices"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/drill/topology"
)

// Scenario is one outage.
type Scenario struct {
	Name, Title string
	Why         string // not empty: it does not apply, and why
	Source      string // the file it was read from; empty: it was derived
	Load        Load
	Sets        []string // key=value, on top of the configuration
	Vars        []string // NAME=value, for the process
	Disk        Disk
	// Double gives every backend of a first level a second one, to which a reload can lead it.
	Double bool
	Steps  []Step
	MaxMiB int64 // of memory that the process may take; 0 = it is only reported
	// MaxTwice bounds duplicates instead of what the process counts itself; nil = it does not.
	MaxTwice *uint64
}

// Load is what is sent; a field that is 0 is the drill's own choice.
type Load struct {
	Rate      float64 // items per second, over all signals
	ItemBytes int     // of padding, mean
	Poison    int     // one item in so many is marked
	Rejects   bool    // a backend rejects what is marked for good
}

// Disk is what the queues of the scenario are on.
type Disk struct {
	MiB  int64 // a file system of this size for them alone; 0 = the private directory
	Slow bool  // its syncs can be slowed down
	// Optional says that the scenario can do without.
	Optional bool
}

// Verb is what a step does.
type Verb string

// What can be done. Each is at once, or takes as long as it says.
const (
	Fault   Verb = "fault"   // backends of On do as Faults say
	Restore Verb = "restore" // everything at the backends of On is well again; none = at all, and the disk
	Expose  Verb = "expose"  // the levels above On go away, until On is asked
	Kill    Verb = "kill"    // kill -9, and a new start
	Term    Verb = "term"    // SIGTERM, and a new start
	Fill    Verb = "fill disk"
	Slow    Verb = "slow disk" // every sync takes For longer
	Flood   Verb = "flood"     // many large requests at once
	Reload  Verb = "reload"    // On[0]: broken, undelivering, good
	Wait    Verb = "wait"      // for For
)

// What can be expected, Within a time.
const (
	Met        Verb = "met"       // the faults at On did something
	Active     Verb = "active"    // the connector On[0] sends to the level of On[1], or nowhere
	Away       Verb = "away"      // no connector sends to On any more, and its level is down
	Down       Verb = "down"      // no backend of the connector On takes anything
	Backlog    Verb = "backlog"   // Count items wait
	Accepted   Verb = "accepted"  // Count more items were acknowledged
	Refused    Verb = "refused"   // the door refuses, and clients know that they may come back
	Delivered  Verb = "delivered" // On has Count items more than when the step began
	Home       Verb = "home"      // all data goes to the first levels, and nothing is parked
	CaughtUp   Verb = "caught up" // no more waits than a second's telemetry
	Silent     Verb = "silent"    // On gets nothing for For
	RolledBack Verb = "rolled back"
	Lost       Verb = "lost"  // at the end, no more than Count; it is always checked for 0
	Twice      Verb = "twice" // at the end, no more than Count
	NoGap      Verb = "no gap"
)

// Step is one line of a scenario.
type Step struct {
	At     time.Duration // not before this time after everything flowed; 0 = when the step before is done
	Do     Verb
	On     []string // exporters or a connector, as the configuration writes them
	Faults []string
	Count  uint64
	For    time.Duration
	Within time.Duration
	Line   int // of Source
}

// Expectation reports whether the step is one, not an act.
func (s *Step) Expectation() bool {
	return slices.Contains([]Verb{Met, Active, Away, Down, Backlog, Accepted, Refused, Delivered, Home, CaughtUp, Silent, RolledBack,
		Lost, Twice, NoGap}, s.Do)
}

// Capacity begins a fault that a well-mannered sender never meets.
const Capacity = "capacity:"

// Nowhere is the level of a connector that holds its data.
const Nowhere = "nowhere"

// The times that something may take in a drill: for a fault to be noticed, for data to go elsewhere (a silent fault has a
// timeout in it), to come back, and for a backlog to be there.
const (
	seeTime    = 20 * time.Second
	switchTime = 40 * time.Second
	returnTime = 40 * time.Second
	// lookOn is how long a fault lasts after everything that must come of it has come.
	lookOn = 1500 * time.Millisecond
	// usual is the load of a scenario that does not say: little, since several are played at once beside whatever runs here.
	usual = 900
	// some is what must be accepted or delivered for anybody to believe it, in items.
	some = 25
)

// Rate is how many items a second are sent.
func (s *Scenario) Rate() float64 {
	if s.Load.Rate > 0 {
		return s.Load.Rate
	}
	return usual
}

// Names are the names of scenarios.
func Names(all []Scenario) (out []string) {
	for i := range all {
		out = append(out, all[i].Name)
	}
	return out
}

// backendsOf are the backends behind a connector, first level first.
func backendsOf(t *topology.Topology, connector string) (out []string) {
	for _, p := range t.Pipelines {
		for _, d := range p.Destinations {
			for _, l := range d.Levels {
				for _, id := range l {
					if _, ok := t.Backend(id); ok && d.Label == connector && !slices.Contains(out, id) {
						out = append(out, id)
					}
				}
			}
		}
	}
	return out
}

// firstLevel are the backends of the first levels of all destinations.
func firstLevel(t *topology.Topology) (out []string) {
	for _, p := range t.Pipelines {
		for _, d := range p.Destinations {
			for _, id := range d.Levels[0] {
				if _, ok := t.Backend(id); ok && !slices.Contains(out, id) {
					out = append(out, id)
				}
			}
		}
	}
	return out
}

func all(t *topology.Topology) (out []string) {
	for _, b := range t.Backends {
		out = append(out, b.ID)
	}
	return out
}
