// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package screen_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/holdfast-telemetry/holdfast/internal/status"
	"github.com/holdfast-telemetry/holdfast/internal/status/screen"
)

var update = flag.Bool("update", false, "write the frames anew")

// Times are shown as on the wall of whoever looks.
func TestMain(m *testing.M) {
	flag.Parse()
	time.Local = time.UTC
	os.Exit(m.Run())
}

var now = time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)

// gateway is a process with three signals to a primary, a secondary and a file; the levels given are down.
func gateway(active int, down ...int) *status.Status {
	s := &status.Status{
		Phase: "running", Version: "0.1.0", PID: 4711, Time: now, UpSince: now.Add(-time.Hour),
		Config: status.Config{Running: status.Generation{SHA256: strings.Repeat("ab", 32), Sources: []string{"/etc/holdfast/config.yaml"}}},
	}
	for i, signal := range []string{"traces", "metrics", "logs"} {
		s.Pipelines = append(s.Pipelines, status.Pipeline{ID: signal, Signal: signal, Receivers: []string{"otlp"}, Accepting: true,
			InPerSecond: 2000})
		s.Destinations = append(s.Destinations, status.Destination{
			Pipeline: signal, Name: "failover", InPerSecond: 2000, OutPerSecond: 1990 + float64(i),
			Queue: &status.Queue{Items: 400, Size: 40, Capacity: 50000, OldestSeconds: .2, Durable: true, State: "ok"},
			Books: status.Books{Accepted: 60000, Delivered: 59600, Queued: 400},
		})
		r := status.Route{Connector: "failover", Signal: signal, ActiveLevel: active, HasEmergency: true}
		for level, id := range []string{"otlp/primary", "otlp/secondary", "file/emergency"} {
			l := status.Level{Level: level, State: "healthy", Emergency: level == 2, Members: []status.Member{{Exporter: id, State: "healthy"}}}
			if level == active {
				l.OutPerSecond = 1990
			}
			r.Levels = append(r.Levels, l)
		}
		for _, level := range down {
			r.Levels[level].State = "down"
			m := &r.Levels[level].Members[0]
			m.State, m.Reason, m.Evidence.Error = "down", "consecutive", "dial tcp 10.0.0.1:4317: connect: connection refused"
			m.DownSince = now.Add(-130*time.Second + time.Duration(i)*time.Second)
		}
		r.AllDown = active != 0 && len(down) == 2
		s.Failover = append(s.Failover, r)
	}
	s.Events = []status.Event{
		{ID: 3, Time: now.Add(-128 * time.Second), Level: "info", Text: "failover: data goes to otlp/secondary now, before to otlp/primary",
			Signals: []string{"logs", "metrics", "traces"}},
		{ID: 2, Time: now.Add(-130 * time.Second), Level: "warn", Text: "otlp/primary is down, data goes to the next level: connection refused",
			Signals: []string{"logs", "metrics", "traces"}, Times: 3},
		{ID: 1, Time: now.Add(-time.Hour), Level: "info", Text: "Everything is ready, data is taken in"},
	}
	return s
}

func frame(s *status.Status, o screen.Options) string {
	if s != nil {
		status.Judge(s)
	}
	o.Now = now
	return strings.Join(screen.Frame(s, o), "\n") + "\n"
}

var frames = map[string]func() (*status.Status, screen.Options){
	"well-100x30": func() (*status.Status, screen.Options) {
		return gateway(0), screen.Options{Width: 100, Height: 30, Hint: " q quits"}
	},
	"primary-down-80x24": func() (*status.Status, screen.Options) {
		return gateway(1, 0), screen.Options{Width: 80, Height: 24, Hint: " q quits"}
	},
	"primary-down-colour-80x24": func() (*status.Status, screen.Options) {
		return gateway(1, 0), screen.Options{Width: 80, Height: 24, Hint: " q quits", Colour: true}
	},
	"all-down-once-120": func() (*status.Status, screen.Options) {
		s := gateway(2, 0, 1)
		for i := range s.Failover {
			s.Failover[i].Emergency = status.Emergency{Items: 11000, Bytes: 3 << 20}
		}
		return s, screen.Options{Width: 120}
	},
	"backlog-ascii-80x24": func() (*status.Status, screen.Options) {
		s := gateway(1, 0)
		in := 41.0
		s.Destinations[0].Queue.Items, s.Destinations[0].Queue.OldestSeconds, s.Destinations[0].EmptyIn = 12340, 130, &in
		return s, screen.Options{Width: 80, Height: 24, ASCII: true, Hint: " q quits"}
	},
	"small-40x10": func() (*status.Status, screen.Options) {
		return gateway(1, 0), screen.Options{Width: 40, Height: 10, Hint: " q quits"}
	},
	"not-answering-80x24": func() (*status.Status, screen.Options) {
		return gateway(0), screen.Options{Width: 80, Height: 24, Silent: now.Add(-12 * time.Second), Hint: " q quits"}
	},
	"never-answered-80x5": func() (*status.Status, screen.Options) {
		return nil, screen.Options{Width: 80, Height: 5, Silent: now.Add(-time.Minute), Hint: " q quits"}
	},
}

func TestFramesAreAsTheyWereLookedAt(t *testing.T) {
	for name, of := range frames {
		s, o := of()
		got := frame(s, o)
		path := filepath.Join("testdata", name+".txt")
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
		}
	}
}

var sequence = regexp.MustCompile("\x1b\\[[0-9;]*m")

func TestNoFrameLeavesItsScreen(t *testing.T) {
	for name, of := range frames {
		for _, width := range []int{40, 57, 80, 133} {
			for height := 1; height < 40; height++ {
				s, o := of()
				o.Width, o.Height = width, height
				lines := strings.Split(strings.TrimSuffix(frame(s, o), "\n"), "\n")
				if len(lines) > height {
					t.Errorf("%s on %dx%d has %d lines", name, width, height, len(lines))
				}
				for _, l := range lines {
					if n := utf8.RuneCountInString(sequence.ReplaceAllString(l, "")); n > width {
						t.Errorf("%s on %dx%d: %d wide: %q", name, width, height, n, l)
					}
				}
			}
		}
	}
}

func TestColourSaysNothingThatWordsDoNot(t *testing.T) {
	for name, of := range frames {
		s, o := of()
		o.Colour = false
		pale := frame(s, o)
		o.Colour = true
		if got := sequence.ReplaceAllString(frame(s, o), ""); strings.Join(strings.Fields(got), " ") != strings.Join(strings.Fields(pale), " ") {
			t.Errorf("%s says something else in colour:\n%s\n%s", name, got, pale)
		}
		if strings.Contains(pale, "\x1b") {
			t.Errorf("%s: there are sequences where no colour was asked for", name)
		}
	}
}

func TestWithoutCharactersBeyondASCIINoneAreShown(t *testing.T) {
	for name, of := range frames {
		s, o := of()
		o.ASCII = true
		for _, r := range frame(s, o) {
			if r > 126 {
				t.Errorf("%s: %q", name, r)
				break
			}
		}
	}
}

func TestAStatusOfAnything(t *testing.T) {
	for i, s := range []*status.Status{{}, {Phase: "starting"}, {Pipelines: []status.Pipeline{{ID: "a"}}, Destinations: []status.Destination{{Pipeline: "a", Name: "x"}}},
		{Failover: []status.Route{{Connector: "x", ActiveLevel: 7, Levels: []status.Level{{}}}}}} {
		if got := frame(s, screen.Options{Width: 80, Height: 24}); len(got) < 10 {
			t.Error(fmt.Sprint(i, ": ", got))
		}
	}
}
