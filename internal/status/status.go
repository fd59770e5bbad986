// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package status says how a process is: one verdict with its causes, and under it what the verdict stands on.
//
// It stands beside the path of data and declares the snapshot it wants; the application hands it one. It promises that
// whoever asks is answered in time even if a snapshot never comes (Desk), that the verdict and the sentence under it are
// worked out from nothing but what is shown, and that text, page, terminal and JSON say the same. It refuses to know
// pipelines, queues and exporters, and holds nothing that they could wait for.
package status

import "time"

// Verdict is how it is, in a word; of two, the greater is the worse.
type Verdict uint8

// The verdicts.
const (
	OK        Verdict = iota
	Degraded          // data flows, and not as it should: a level down beside one that delivers, a queue that fills
	Failing           // a destination delivers nothing (check_collector_pipeline's values)
	Unhealthy         // data is held or refused, or the books do not balance
)

var verdictWords = [...]string{"ok", "degraded", "failing", "unhealthy"}

// String is the verdict's word.
func (v Verdict) String() string {
	if int(v) < len(verdictWords) {
		return verdictWords[v]
	}
	return "unknown"
}

// ParseVerdict reads a word; what is not known is as bad as it gets.
func ParseVerdict(word string) Verdict {
	for v, w := range verdictWords {
		if w == word {
			return Verdict(v)
		}
	}
	return Unhealthy
}

// Status is how a process is. The application fills in what it copied; Judge the verdict, the sums and the shares;
// Pace the rates.
type Status struct {
	Verdict string `json:"verdict"`
	// Headline is what somebody who was woken needs to know, in plain words.
	Headline  string   `json:"headline"`
	Sentences []string `json:"sentences"` // of the headline
	Causes    []string `json:"causes"`    // worst first
	Phase     string   `json:"phase"`     // starting, running, stopping
	Version   string   `json:"version"`
	PID       int      `json:"pid"`
	// Time is when the snapshot was taken; OverdueSeconds for how long the next has been waited for.
	Time           time.Time     `json:"time"`
	UpSince        time.Time     `json:"up_since,omitzero"`
	OverdueSeconds float64       `json:"overdue_seconds,omitempty"`
	Config         Config        `json:"config"`
	Books          Books         `json:"books"`
	Pipelines      []Pipeline    `json:"pipelines"`
	Destinations   []Destination `json:"destinations"`
	Failover       []Route       `json:"failover"`
	Storage        []Storage     `json:"storage"`
	Admission      Admission     `json:"admission"`
	// Events are what happened, newest first: as many as were asked for.
	Events []Event `json:"events,omitempty"`
	// Degraded are further causes not to be content, which the application found.
	Degraded []string `json:"-"`
}

// Config is the configuration that runs.
type Config struct {
	Running Generation `json:"running"`
	// Good is what a restart would fall back to, Offered what the sources said last.
	Good    Generation `json:"good"`
	Offered Generation `json:"offered"`
	// State is what a reload is about: idle, loading, preparing, trial, …; empty = nothing reloads here.
	State        string  `json:"state,omitempty"`
	Drift        bool    `json:"drift"` // Running is not what is offered
	TrialSeconds float64 `json:"trial_seconds,omitempty"`
	// ConfirmUntil is when the trial is undone unless somebody confirms it; zero = nobody has to.
	ConfirmUntil time.Time `json:"confirm_until,omitzero"`
	Store        string    `json:"store,omitempty"`
	Attempts     []Attempt `json:"attempts,omitempty"` // the last ten, newest first
}

// Attempt is one configuration that was offered.
type Attempt struct {
	Generation uint64    `json:"generation"`
	Time       time.Time `json:"time"`
	SHA256     string    `json:"sha256,omitempty"`
	Source     string    `json:"source,omitempty"`
	State      string    `json:"state"`
	Reason     string    `json:"reason,omitempty"`
	Text       string    `json:"text,omitempty"`
}

// Generation is one configuration.
type Generation struct {
	SHA256     string   `json:"sha256"`
	Sources    []string `json:"sources,omitempty"`
	Generation uint64   `json:"generation,omitempty"`
	Evidence   string   `json:"evidence,omitempty"`
}

// Books are the promise's equation in items: accepted = delivered + queued + parked + rejected + dropped.
type Books struct {
	Accepted   uint64 `json:"accepted"`
	Delivered  uint64 `json:"delivered"`
	Queued     uint64 `json:"queued"`
	Parked     uint64 `json:"parked"`
	Rejected   uint64 `json:"rejected"`
	Dropped    uint64 `json:"dropped"`
	Difference int64  `json:"difference"` // must be 0
}

func (b *Books) add(o *Books) {
	b.Accepted += o.Accepted
	b.Delivered += o.Delivered
	b.Queued += o.Queued
	b.Parked += o.Parked
	b.Rejected += o.Rejected
	b.Dropped += o.Dropped
	b.Difference += o.Difference
}

// Balance works out the difference.
func (b *Books) Balance() {
	b.Difference = int64(b.Accepted - b.Delivered - b.Queued - b.Parked - b.Rejected - b.Dropped)
}

// Pipeline says whether the front of a pipeline takes data.
type Pipeline struct {
	ID              string   `json:"id"`
	Signal          string   `json:"signal,omitempty"`
	Receivers       []string `json:"receivers,omitempty"` // as written
	InPerSecond     float64  `json:"in_per_second"`       // items
	Accepting       bool     `json:"accepting"`
	RefusingSeconds float64  `json:"refusing_seconds,omitempty"`
}

// Destination is a queue, and whoever takes from it.
type Destination struct {
	Pipeline string `json:"pipeline"`
	Name     string `json:"name"`  // as written
	State    string `json:"state"` // ok, degraded, failing, parked
	Queue    *Queue `json:"queue"` // null = it has none, the client waits
	Books    Books  `json:"books"`
	// Items per second over the last ten seconds, and when the queue will be full or empty at the pace of the last minute.
	InPerSecond  float64  `json:"in_per_second"`
	OutPerSecond float64  `json:"out_per_second"`
	FullIn       *float64 `json:"full_in_seconds,omitempty"`
	EmptyIn      *float64 `json:"empty_in_seconds,omitempty"`
	Failed       int64    `json:"failed_attempts"` // since the last delivery
	LastError    string   `json:"last_error,omitempty"`
	// Fails says that it counts as failing; the application knows the threshold.
	Fails bool `json:"-"`
	// Parked says that it left the configuration and that nobody serves its backlog.
	Parked bool `json:"-"`
}

// Queue is a backlog.
type Queue struct {
	Items         int64   `json:"items"`
	Records       int64   `json:"records"`
	Bytes         int64   `json:"bytes"`
	Size          int64   `json:"size"`     // in its sizer
	Capacity      int64   `json:"capacity"` // 0 = by the directory
	Share         float64 `json:"share"`
	OldestSeconds float64 `json:"oldest_seconds"`
	Durable       bool    `json:"durable"`
	State         string  `json:"state"` // ok, full, broken, detached, closed
}

// Storage is a directory of queues.
type Storage struct {
	Name       string   `json:"name"`
	Directory  string   `json:"directory"`
	Bytes      int64    `json:"bytes"`
	LimitBytes int64    `json:"limit_bytes"`
	FreeBytes  int64    `json:"free_bytes"`
	FullIn     *float64 `json:"full_in_seconds,omitempty"`
}

// Admission is the memory of requests that are being read.
type Admission struct {
	Bytes      int64 `json:"bytes"`
	LimitBytes int64 `json:"limit_bytes"`
}
