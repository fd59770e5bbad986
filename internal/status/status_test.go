// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package status_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/status"
)

// well is a process with nothing to complain about: one durable destination, one connector of two levels and a file.
func well() status.Status {
	member := func(id string) []status.Member {
		return []status.Member{{Exporter: id, State: "healthy", Reason: "none", Generation: 1}}
	}
	return status.Status{
		Phase: "running", Version: "0.1.0", PID: 7, Time: time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC),
		UpSince:   time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC),
		Config:    status.Config{Running: status.Generation{SHA256: strings.Repeat("ab", 32), Sources: []string{"config.yaml"}}},
		Pipelines: []status.Pipeline{{ID: "traces", Accepting: true}},
		Destinations: []status.Destination{{
			Pipeline: "traces", Name: "failover", Books: status.Books{Accepted: 100, Delivered: 90, Queued: 10},
			Queue: &status.Queue{Items: 10, Records: 1, Size: 1, Capacity: 100, Durable: true, State: "ok"},
		}},
		Failover: []status.Route{{
			Connector: "failover", Signal: "traces", HasEmergency: true, Levels: []status.Level{
				{Level: 0, State: "healthy", Members: member("otlp/primary")},
				{Level: 1, State: "healthy", Members: member("otlp/secondary")},
				{Level: 2, State: "healthy", Emergency: true, Members: member("file/emergency")},
			},
		}},
		Storage: []status.Storage{{Name: "file_storage", Directory: "/q", Bytes: 1 << 20, LimitBytes: 100 << 20, FreeBytes: 1 << 30}},
	}
}

// down takes a level's members down.
func down(r *status.Route, levels ...int) {
	for _, i := range levels {
		r.Levels[i].State = "down"
		m := &r.Levels[i].Members[0]
		m.State, m.Reason, m.Evidence = "down", "consecutive", status.Evidence{Strikes: 3, Failed: 41, Error: "connection refused"}
		next := 11.0
		m.NextProbeSeconds, m.ReturnsWhen = &next, "2 good probes 10s apart, then a live batch"
	}
}

func TestTheVerdictAndItsFirstCause(t *testing.T) {
	for _, tc := range []struct {
		name    string
		change  func(*status.Status)
		verdict status.Verdict
		cause   string // of the worst; empty = there is none
	}{
		{"nothing to complain about is ok", func(*status.Status) {}, status.OK, ""},
		{"a level down beside one that delivers is degraded", func(s *status.Status) {
			down(&s.Failover[0], 0)
			s.Failover[0].ActiveLevel = 1
		}, status.Degraded, "failover (traces): level 0 (otlp/primary) is down, consecutive: connection refused"},
		{"all down with the file taking data is degraded", func(s *status.Status) {
			down(&s.Failover[0], 0, 1)
			s.Failover[0].AllDown, s.Failover[0].ActiveLevel = true, 2
		}, status.Degraded, "failover (traces): all levels are down, data goes to the emergency file"},
		{"all down with a file that takes nothing is unhealthy", func(s *status.Status) {
			down(&s.Failover[0], 0, 1, 2)
			s.Failover[0].AllDown, s.Failover[0].ActiveLevel = true, -1
		}, status.Unhealthy, "the emergency file takes nothing"},
		{"all down without an emergency level is unhealthy", func(s *status.Status) {
			r := &s.Failover[0]
			r.Levels, r.HasEmergency = r.Levels[:2], false
			down(r, 0, 1)
			r.AllDown, r.ActiveLevel, r.Queue = true, -1, status.RouteQueue{Items: 8112, OldestSeconds: 4}
		}, status.Unhealthy, "failover (traces): all levels are down, data is held: 8112 items, the oldest for 4s"},
		{"a level that asks for silence is degraded", func(s *status.Status) {
			s.Failover[0].Levels[0].Members[0].ThrottledSeconds = 90
		}, status.Degraded, "asks for silence for another 1m30s"},
		{"a destination that delivers nothing fails", func(s *status.Status) {
			d := &s.Destinations[0]
			d.Fails, d.Failed, d.LastError = true, 41, "refused"
		}, status.Failing, "failover of traces: 41 failed attempts since the last delivery: refused"},
		{"some failed attempts are degraded", func(s *status.Status) {
			s.Destinations[0].Failed = 2
		}, status.Degraded, "2 failed attempts"},
		{"a queue that fills is degraded", func(s *status.Status) {
			in := 3600.0
			s.Destinations[0].Queue.Size, s.Destinations[0].FullIn = 80, &in
		}, status.Degraded, "the queue of failover of traces is 80 % full, 1h until it is"},
		{"a broken queue is unhealthy", func(s *status.Status) {
			s.Destinations[0].Queue.State = "broken"
		}, status.Unhealthy, "is broken"},
		{"a directory that fills is degraded", func(s *status.Status) {
			s.Storage[0].Bytes = 81 << 20
		}, status.Degraded, "storage file_storage is 81 % full"},
		{"a door that refuses for a moment is degraded", func(s *status.Status) {
			s.Pipelines[0] = status.Pipeline{ID: "traces", RefusingSeconds: 2}
		}, status.Degraded, "pipeline traces refuses data, for 2s"},
		{"doors that all refuse are unhealthy", func(s *status.Status) {
			s.Pipelines[0] = status.Pipeline{ID: "traces", RefusingSeconds: 12}
		}, status.Unhealthy, "pipeline traces refuses data, for 12s"},
		{"one door of two that refuses is degraded", func(s *status.Status) {
			s.Pipelines = append(s.Pipelines, status.Pipeline{ID: "logs", RefusingSeconds: 12})
		}, status.Degraded, "pipeline logs refuses data"},
		{"books that do not balance are unhealthy", func(s *status.Status) {
			s.Destinations[0].Books.Accepted++
		}, status.Unhealthy, "the books do not balance: 1 items"},
		{"a backlog that nobody serves is degraded", func(s *status.Status) {
			s.Destinations[0].Parked = true
		}, status.Degraded, "10 items wait for failover of traces, which left the configuration"},
		{"starting is degraded", func(s *status.Status) { s.Phase = "starting" }, status.Degraded, "the process is starting"},
		{"what the application found counts", func(s *status.Status) {
			s.Degraded = []string{"configuration drift"}
		}, status.Degraded, "configuration drift"},
		{"the worst goes first", func(s *status.Status) {
			s.Destinations[0].Failed = 1
			s.Destinations[0].Books.Accepted++
		}, status.Unhealthy, "the books"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := well()
			tc.change(&s)
			status.Judge(&s)
			if s.Verdict != tc.verdict.String() {
				t.Errorf("verdict %s, want %s; causes %q", s.Verdict, tc.verdict, s.Causes)
			}
			first := strings.Join(s.Causes[:min(len(s.Causes), 1)], "")
			if (first == "") != (tc.cause == "") || !strings.Contains(first, tc.cause) {
				t.Errorf("first cause %q, want %q", first, tc.cause)
			}
			if text := status.Text(&s); !strings.HasPrefix(text, strings.ToUpper(s.Verdict)) || !strings.Contains(text, tc.cause) {
				t.Errorf("the text says something else:\n%s", text)
			}
		})
	}
}

// The keys of failover, section 15, are an interface: dashboards and scripts read them.
func TestTheFailoverBlockHasTheKeysOfItsSpecification(t *testing.T) {
	s := well()
	down(&s.Failover[0], 0)
	text, err := json.Marshal(s.Failover[0])
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	level := got["levels"].([]any)[0].(map[string]any)
	member := level["members"].([]any)[0].(map[string]any)
	for _, want := range []struct {
		of   map[string]any
		keys string
	}{
		{got, "connector signal active_level all_down queue in_hand emergency levels"},
		{got["queue"].(map[string]any), "items share oldest_seconds"},
		{got["in_hand"].(map[string]any), "in_flight waiting moving held"},
		{got["emergency"].(map[string]any), "items bytes"},
		{level, "level state members"},
		{member, "exporter state since generation reason evidence hold_down_seconds flaps failed_probes next_probe_seconds " +
			"confirmations returns_when"},
		{member["evidence"].(map[string]any), "strikes failed delivered error"},
	} {
		for _, key := range strings.Fields(want.keys) {
			if _, ok := want.of[key]; !ok {
				t.Errorf("%q is missing in %v", key, want.of)
			}
		}
	}
}

func TestRatesAndTheTimeUntilFullAndEmpty(t *testing.T) {
	p := status.NewPace()
	now := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	d := status.Destination{Pipeline: "traces", Name: "a", Queue: &status.Queue{Capacity: 1000}}
	size := int64(0)
	look := func(n int, in, out uint64, grow int64) {
		for range n {
			now = now.Add(time.Second)
			d.Books.Accepted += in
			d.Books.Delivered += out
			size += grow
			p.Look(now, []status.Count{{
				Pipeline: "traces", Name: "a", In: d.Books.Accepted, Out: d.Books.Delivered, Size: size, Capacity: 1000,
			}}, []status.Flow{{Connector: "failover", Signal: "traces", Level: 1, Items: d.Books.Delivered}})
		}
	}
	shown := func() status.Destination {
		s := status.Status{Destinations: []status.Destination{d}, Pipelines: []status.Pipeline{{ID: "traces"}},
			Failover: []status.Route{{Connector: "failover", Signal: "traces", Levels: make([]status.Level, 2)}}}
		p.Fill(&s)
		if in := s.Pipelines[0].InPerSecond; in != s.Destinations[0].InPerSecond {
			t.Errorf("the pipeline takes %v a second, its destination %v", in, s.Destinations[0].InPerSecond)
		}
		if l := s.Failover[0].Levels; l[1].OutPerSecond != s.Destinations[0].OutPerSecond || l[0].OutPerSecond != 0 {
			t.Errorf("the levels take %v and %v a second, all of them %v", l[0].OutPerSecond, l[1].OutPerSecond,
				s.Destinations[0].OutPerSecond)
		}
		return s.Destinations[0]
	}
	if got := shown(); got.InPerSecond != 0 || got.FullIn != nil || got.EmptyIn != nil {
		t.Errorf("unseen: %+v", got)
	}
	look(100, 50, 45, 5)
	if got := shown(); got.InPerSecond != 50 || got.OutPerSecond != 45 || got.FullIn == nil || *got.FullIn != 100 || got.EmptyIn != nil {
		t.Errorf("filling: %+v, full in %v", got, got.FullIn)
	}
	look(60, 0, 5, -5)
	if got := shown(); got.InPerSecond != 0 || got.OutPerSecond != 5 || got.EmptyIn == nil || *got.EmptyIn != 40 || got.FullIn != nil {
		t.Errorf("draining: %+v, empty in %v", got, got.EmptyIn)
	}
	p.Look(now.Add(time.Second), nil, nil)
	if got := shown(); got.OutPerSecond != 0 {
		t.Errorf("a destination that left is remembered: %+v", got)
	}
}

func TestASnapshotThatNeverComesHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		var taken atomic.Int32
		d := status.NewDesk(well(), func() status.Status {
			taken.Add(1)
			<-stuck
			s := well()
			s.PID = 8
			return s
		})
		began := time.Now()
		for range 3 {
			go d.Status(t.Context())
		}
		s := d.Status(t.Context())
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("answered after %s", took)
		}
		if s.Verdict != "degraded" || s.OverdueSeconds < 2 || s.PID != 7 || !strings.Contains(s.Causes[0], "old") {
			t.Errorf("got %s, overdue %v, causes %q", s.Verdict, s.OverdueSeconds, s.Causes)
		}
		if n := taken.Load(); n != 1 {
			t.Errorf("%d snapshots were begun for four who asked", n)
		}
		close(stuck)
		if err := d.Wait(context.Background()); err != nil {
			t.Fatal(err)
		}
		if s := d.Status(t.Context()); s.PID != 8 || s.OverdueSeconds != 0 || s.Verdict != "ok" {
			t.Errorf("afterwards: %s, process %d, overdue %v", s.Verdict, s.PID, s.OverdueSeconds)
		}
	})
}

func TestTheTextFitsAScreen(t *testing.T) {
	s := well()
	down(&s.Failover[0], 0)
	s.Failover[0].ActiveLevel = 1
	status.Judge(&s)
	text := status.Text(&s)
	if n := strings.Count(text, "\n"); n > 24 {
		t.Errorf("%d lines:\n%s", n, text)
	}
	for _, want := range []string{
		"DEGRADED  holdfast 0.1.0, process 7, running for 1h", "sha256 abababababab", "accepted 100 = delivered 90 + queued 10",
		"data goes to level 1", "otlp/primary", "consecutive: 3 strikes, 41 failed, 0 delivered: connection refused",
		"next probe in 11s", "returns with 2 good probes 10s apart, then a live batch", "1.0 MiB of 100.0 MiB",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
}
