// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package status

import "time"

// Route is a connector, or a plain exporter, and a signal (failover, section 15).
type Route struct {
	Connector   string     `json:"connector"`
	Signal      string     `json:"signal"`
	ActiveLevel int        `json:"active_level"` // -1 = data is held
	AllDown     bool       `json:"all_down"`
	Queue       RouteQueue `json:"queue"`
	InHand      InHand     `json:"in_hand"`
	Emergency   Emergency  `json:"emergency"`
	Levels      []Level    `json:"levels"`
	// HasEmergency says that a last level takes what no other does.
	HasEmergency bool `json:"has_emergency"`
	// OverdueSeconds is how old the route's picture is, where the switch did not answer in time.
	OverdueSeconds float64 `json:"overdue_seconds,omitempty"`
}

// RouteQueue is what waits above the levels.
type RouteQueue struct {
	Items         int64   `json:"items"`
	Share         float64 `json:"share"`
	OldestSeconds float64 `json:"oldest_seconds"`
}

// InHand are items taken from the queue and not resolved, by what they do.
type InHand struct {
	InFlight uint64 `json:"in_flight"`
	Waiting  uint64 `json:"waiting"`
	Moving   uint64 `json:"moving"`
	Held     uint64 `json:"held"`
}

// Emergency is what the emergency file owes.
type Emergency struct {
	Items int64 `json:"items"`
	Bytes int64 `json:"bytes"`
}

// Level is one level of a route.
type Level struct {
	Level     int    `json:"level"`
	State     string `json:"state"`
	Emergency bool   `json:"emergency,omitempty"`
	// Name is what people call it, Tone how it is (good, busy, rest, warn, bad), Word the same in plain words.
	Name         string   `json:"name,omitempty"`
	Tone         string   `json:"tone,omitempty"`
	Word         string   `json:"word,omitempty"`
	OutPerSecond float64  `json:"out_per_second"` // items that it took
	Members      []Member `json:"members"`
}

// Member is one exporter of a level, with what its state stands on and what has to come for it to change.
type Member struct {
	Exporter         string    `json:"exporter"`
	State            string    `json:"state"`
	Since            time.Time `json:"since"`               // of the state
	DownSince        time.Time `json:"down_since,omitzero"` // since when it does not carry; zero = it does
	Generation       uint64    `json:"generation"`
	Reason           string    `json:"reason"` // of the last trip; none = it never tripped
	Silent           bool      `json:"silent,omitempty"`
	ThrottledSeconds float64   `json:"throttled_seconds,omitempty"`
	Evidence         Evidence  `json:"evidence"`
	HoldDownSeconds  float64   `json:"hold_down_seconds"`
	Flaps            int       `json:"flaps"`
	FailedProbes     int       `json:"failed_probes"`
	NextProbeSeconds *float64  `json:"next_probe_seconds,omitempty"` // none while it carries, or an answer is awaited
	Confirmations    int       `json:"confirmations"`
	ReturnsWhen      string    `json:"returns_when,omitempty"`
	Share            float64   `json:"share"` // of new batches; 1 but while it ramps
}

// Evidence is what a decision stood on.
type Evidence struct {
	Strikes   int    `json:"strikes"`
	Failed    int    `json:"failed"`
	Delivered int    `json:"delivered"`
	Error     string `json:"error"`
}

// ProbeAnswer is what came of asking one exporter.
type ProbeAnswer struct {
	Level    int    `json:"level"`
	Exporter string `json:"exporter"`
	Good     bool   `json:"good"`
	Kind     string `json:"kind"`            // of the probe
	Result   string `json:"result"`          // a verdict's word; none = it was not asked
	Error    string `json:"error,omitempty"` // why not good, or why it was not asked
	State    string `json:"state"`           // afterwards
	// ReturnsWhen is empty while it carries.
	ReturnsWhen string `json:"returns_when,omitempty"`
}

// down reports whether the level takes no ordinary data.
func (l *Level) down() bool { return l.State == "down" || l.State == "probing" || l.State == "held" }
