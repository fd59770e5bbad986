// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package status_test

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/status"
)

// signals makes routes of the other signals like the first.
func signals(s *status.Status, more ...string) {
	for _, signal := range more {
		r := s.Failover[0]
		r.Signal, r.Levels = signal, nil
		for _, l := range s.Failover[0].Levels {
			l.Members = append([]status.Member(nil), l.Members...)
			r.Levels = append(r.Levels, l)
		}
		s.Failover = append(s.Failover, r)
	}
}

// since says that levels have been down since so long ago.
func since(s *status.Status, ago time.Duration, levels ...int) {
	for i := range s.Failover {
		for _, l := range levels {
			if m := &s.Failover[i].Levels[l].Members[0]; m.State != "healthy" {
				m.DownSince = s.Time.Add(-ago)
			}
		}
	}
}

// backlog makes the queue hold what is not young any more.
func backlog(s *status.Status, items int64, emptyIn, fullIn float64) {
	d := &s.Destinations[0]
	d.Queue.Items, d.Queue.OldestSeconds = items, 130
	if emptyIn > 0 {
		d.EmptyIn = &emptyIn
	}
	if fullIn > 0 {
		d.FullIn = &fullIn
	}
}

func TestTheHeadlineSaysWhatSomebodyWhoWasWokenAsks(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*status.Status)
		want   string
	}{
		{"nothing to complain about", func(s *status.Status) { s.Pipelines[0].InPerSecond = 6000 },
			"All is well. 6,000 items/s come in and go out. Nothing lost."},
		{"nobody sends", func(*status.Status) {}, "All is well. No data is coming in. Nothing lost."},
		{"the first level is down", func(s *status.Status) {
			down(&s.Failover[0], 0)
			s.Failover[0].ActiveLevel = 1
			since(s, 130*time.Second, 0)
		}, "Primary down for 2m10s (connection refused). Everything goes to secondary. Nothing lost."},
		{"the first level is down and something waits", func(s *status.Status) {
			down(&s.Failover[0], 0)
			s.Failover[0].ActiveLevel = 1
			since(s, 130*time.Second, 0)
			backlog(s, 12340, 41, 0)
		}, "Primary down for 2m10s (connection refused). Everything goes to secondary. Nothing lost. " +
			"12,340 items wait, the oldest for 2m10s, empty in about 40s."},
		{"three signals tell one story, with the longest time", func(s *status.Status) {
			down(&s.Failover[0], 0)
			s.Failover[0].ActiveLevel = 1
			signals(s, "metrics", "logs")
			since(s, 90*time.Second, 0)
			s.Failover[1].Levels[0].Members[0].DownSince = s.Time.Add(-91 * time.Second)
		}, "Primary down for 1m31s (connection refused). Everything goes to secondary. Nothing lost."},
		{"one signal of two is named", func(s *status.Status) {
			signals(s, "logs")
			down(&s.Failover[1], 0)
			s.Failover[1].ActiveLevel = 1
		}, "Logs: primary down (connection refused). All of it goes to secondary. Nothing lost."},
		{"both down, the file takes it", func(s *status.Status) {
			down(&s.Failover[0], 0, 1)
			s.Failover[0].AllDown, s.Failover[0].ActiveLevel = true, 2
			s.Failover[0].Emergency = status.Emergency{Items: 33000}
			since(s, 40*time.Second, 0, 1)
		}, "Primary and secondary down for 40s (connection refused). Everything goes to the emergency file. Nothing lost. " +
			"33,000 items are safe in the emergency file until a backend is back."},
		{"everything down", func(s *status.Status) {
			down(&s.Failover[0], 0, 1)
			r := &s.Failover[0]
			r.Levels, r.HasEmergency, r.AllDown, r.ActiveLevel = r.Levels[:2], false, true, -1
			since(s, 3*time.Minute, 0, 1)
			backlog(s, 500000, 0, 7200)
		}, "Primary and secondary down for 3m (connection refused). Nothing is delivered; data waits in the queue. " +
			"Nothing lost. 500,000 items wait, the oldest for 2m10s, full in about 2h."},
		{"what waits in memory is not called safe", func(s *status.Status) {
			backlog(s, 1, 0, 0)
			s.Destinations[0].Queue.Durable = false
		}, "Nothing lost. 1 item waits, the oldest for 2m10s; in memory only: a crash would lose them."},
		{"a return", func(s *status.Status) {
			m := &s.Failover[0].Levels[0].Members[0]
			m.State, m.Share = "ramping", 0.4
		}, "Primary is back and takes 40 % of what is new, the rest goes to secondary. Nothing lost."},
		{"an operator's hold", func(s *status.Status) {
			s.Failover[0].Levels[0].State = "held"
			s.Failover[0].Levels[0].Members[0].State = "held"
			s.Failover[0].ActiveLevel = 1
			since(s, time.Minute, 0)
		}, "Primary held by an operator for 1m. Everything goes to secondary. Nothing lost."},
		{"a level that begins to fail", func(s *status.Status) {
			m := &s.Failover[0].Levels[0].Members[0]
			m.State, m.Evidence.Error = "suspect", "context deadline exceeded"
			s.Failover[0].Levels[0].State = "suspect"
			s.Failover[0].ActiveLevel = 1
		}, "Primary fails (no answer in time) and is looked at; meanwhile data goes to secondary. Nothing lost."},
		{"a spare that is down", func(s *status.Status) {
			down(&s.Failover[0], 1)
			since(s, time.Hour, 1)
		}, "Secondary down for 1h (connection refused); primary carries everything. Nothing lost."},
		{"a level that asks for silence", func(s *status.Status) {
			s.Failover[0].Levels[0].Members[0].ThrottledSeconds = 90
		}, "Primary asks for silence for another 1m30s. Nothing lost."},
		{"shut doors", func(s *status.Status) {
			s.Pipelines[0] = status.Pipeline{ID: "traces", RefusingSeconds: 12}
		}, "New data is refused for 12s: senders are told to keep it and come back. Nothing lost."},
		{"a broken queue", func(s *status.Status) { s.Destinations[0].Queue.State = "broken" },
			"The queue of failover of traces is broken. Nothing lost."},
		{"what was dropped is not hidden", func(s *status.Status) {
			s.Destinations[0].Books = status.Books{Accepted: 10, Delivered: 7, Dropped: 2, Rejected: 1}
		}, "All is well. No data is coming in. 2 items were dropped since the start, 1 item rejected by a backend."},
		{"books that do not balance", func(s *status.Status) { s.Destinations[0].Books.Accepted++ },
			"1 item is not accounted for."},
		{"a disk that fills", func(s *status.Status) { s.Storage[0].Bytes = 81 << 20 },
			"Storage file_storage is 81 % full. Nothing lost."},
		{"a rejected configuration", func(s *status.Status) {
			s.Config.Drift = true
			s.Config.Attempts = []status.Attempt{{State: "rejected", Text: "/etc/holdfast/config.yaml:7: error: exporters::otlp: unknown key \"endpont\""}}
			s.Degraded = []string{"the configuration that runs is not the one that is offered"}
		}, "A new configuration was rejected, the one before it runs on. exporters::otlp: unknown key \"endpont\". Nothing lost."},
		{"starting", func(s *status.Status) { s.Phase = "starting" }, "Starting: nothing is taken in yet. Nothing lost."},
		{"where nothing is delivered comes first", func(s *status.Status) {
			signals(s, "logs")
			s.Failover[1].Connector = "otlp/audit"
			down(&s.Failover[0], 0)
			down(&s.Failover[1], 0)
			r := &s.Failover[1]
			r.Levels, r.HasEmergency, r.AllDown, r.ActiveLevel = r.Levels[:1], false, true, -1
			s.Failover[0].ActiveLevel = 1
		}, "otlp/audit, logs: primary down (connection refused). Nothing is delivered; senders are told to keep it and come back. " +
			"Failover, traces: primary down (connection refused). All of it goes to secondary. Nothing lost."},
		{"two connectors are told apart", func(s *status.Status) {
			signals(s, "logs")
			s.Failover[1].Connector = "failover/b"
			down(&s.Failover[0], 0)
			down(&s.Failover[1], 0)
			s.Failover[0].ActiveLevel, s.Failover[1].ActiveLevel = 1, 1
		}, "Failover, traces: primary down (connection refused). All of it goes to secondary. " +
			"failover/b, logs: primary down (connection refused). All of it goes to secondary. Nothing lost."},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := well()
			tc.change(&s)
			status.Judge(&s)
			if s.Headline != tc.want {
				t.Errorf("it says\n%s\nwant\n%s", s.Headline, tc.want)
			}
			if text := status.Text(&s); !strings.Contains(strings.Join(strings.Fields(text), " "), strings.Join(strings.Fields(tc.want), " ")) {
				t.Errorf("the text says something else:\n%s", text)
			}
		})
	}
}

func TestLevelsHaveAWordAndATone(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*status.Level, *status.Member, *status.Route)
		want   string
	}{
		{"active", func(*status.Level, *status.Member, *status.Route) {}, "good serving"},
		{"not needed", func(_ *status.Level, _ *status.Member, r *status.Route) { r.ActiveLevel = 1 }, "rest standby"},
		{"down", func(l *status.Level, m *status.Member, r *status.Route) {
			down(r, 0)
			m.DownSince = time.Date(2026, 11, 20, 9, 57, 50, 4e8, time.UTC)
			r.ActiveLevel = 1
		}, "bad down for 2m10s: connection refused"},
		{"ramping", func(_ *status.Level, m *status.Member, _ *status.Route) { m.State, m.Share = "ramping", .4 }, "busy ramping, 40 %"},
		{"held", func(l *status.Level, m *status.Member, _ *status.Route) { m.State, l.State = "held", "held" }, "warn held by an operator"},
		{"silent", func(_ *status.Level, m *status.Member, _ *status.Route) { m.Silent = true }, "warn does not answer"},
		{"throttled", func(_ *status.Level, m *status.Member, _ *status.Route) { m.ThrottledSeconds = 60 },
			"warn asks for silence, another 1m"},
		{"suspect", func(_ *status.Level, m *status.Member, _ *status.Route) {
			m.State, m.Evidence.Error = "suspect", strings.Repeat("ä", 100)
		}, "warn suspect: " + strings.Repeat("ä", 59) + "…"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := well()
			r := &s.Failover[0]
			tc.change(&r.Levels[0], &r.Levels[0].Members[0], r)
			status.Judge(&s)
			if got := r.Levels[0].Tone + " " + r.Levels[0].Word; got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
			if r.Levels[0].Name != "primary" || r.Levels[2].Name != "emergency file" {
				t.Errorf("they are called %q and %q", r.Levels[0].Name, r.Levels[2].Name)
			}
		})
	}
}

func TestExportersThatAreAlikeBehindTheSlashKeepTheirWholeNames(t *testing.T) {
	s := well()
	s.Failover[0].Levels[1].Members[0].Exporter = "otlp_http/primary"
	status.Judge(&s)
	if got := s.Failover[0].Levels[0].Name + " " + s.Failover[0].Levels[1].Name; got != "otlp/primary otlp_http/primary" {
		t.Errorf("they are called %s", got)
	}
}
