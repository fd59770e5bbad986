// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package scenario_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/app/components"
	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/drill/scenario"
	"github.com/holdfast-telemetry/holdfast/internal/drill/topology"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
)

const gateway = `
extensions: {file_storage: {directory: /var/lib/nobody}}
receivers: {otlp: {protocols: {grpc: {}}}}
exporters:
  otlp/primary: {endpoint: a:1, tls: {insecure: true}, sending_queue: {STORAGE}}
  otlp/secondary: {endpoint: b:1}
  file/last: {path: /var/lib/nobody/last.jsonl}
connectors: {failover: {priority_levels: [[otlp/primary], [otlp/secondary], [file/last]]}}
service:
  extensions: [file_storage]
  pipelines: {traces: {receivers: [otlp], exporters: [failover]}}
`

func topologyOf(t *testing.T, storage string) *topology.Topology {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(strings.Replace(gateway, "STORAGE", storage, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(t.Context(), config.Options{URIs: []string{file}, Registry: components.Registry(), Portable: true})
	if err != nil {
		t.Fatal(err)
	}
	p, _ := plan.Build(cfg, components.ExporterQueue)
	top, err := topology.Read(cfg, p)
	if err != nil {
		t.Fatal(err)
	}
	return top
}

func TestScenariosComeFromTheConfigurationsOwnTopology(t *testing.T) {
	all := scenario.Derive(topologyOf(t, "storage: file_storage"))
	names := scenario.Names(all)
	if names[0] != "control" {
		t.Errorf("without a control run first nothing is proven: %s", names)
	}
	for _, want := range []string{"refused:otlp/primary", "slow:otlp/secondary", "all-down:failover", "recovery:failover", "kill", "term",
		"kill-full", "term-full", "disk-cap", "disk-full", "slow-disk", "memory", "reload-broken", "reload-undelivering"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is missing in %s", want, names)
		}
	}
	for _, s := range all {
		plain := s.Name == "expired:otlp/primary"
		if (s.Why != "") != plain || (len(s.Steps) == 0) != plain {
			t.Errorf("%s: %d steps, %q", s.Name, len(s.Steps), s.Why)
		}
	}
	for _, s := range scenario.Derive(topologyOf(t, "queue_size: 5000")) {
		if disk := s.Name == "disk-cap" || s.Name == "disk-full" || s.Name == "slow-disk"; disk && s.Why == "" {
			t.Errorf("%s is played without a disk", s.Name)
		}
		if s.Name == "kill-full" && !slices.Contains(s.Sets, "exporters::otlp/primary::sending_queue::queue_size=60") {
			t.Errorf("a queue in memory is not made small: %s", s.Sets)
		}
	}
}

func TestTheGuidesTestsAskForTheThreeThingsToWatch(t *testing.T) {
	for _, s := range scenario.Named(topologyOf(t, "storage: file_storage")) {
		text := s.Text()
		for _, want := range []string{"expect delivered otlp/secondary", "expect home", "expect silent otlp/secondary", "expect no gap"} {
			if strings.HasPrefix(s.Name, "seed-a-drop") || s.Name == "seed-b-block" || want == "expect no gap" {
				if !strings.Contains(text, want) {
					t.Errorf("%s does not say %q:\n%s", s.Name, want, text)
				}
			}
		}
	}
}

func TestEveryDerivedScenarioCanBeWrittenAsAFileAndReadAgain(t *testing.T) {
	top := topologyOf(t, "storage: file_storage")
	for _, s := range append(scenario.Derive(top), scenario.Named(top)...) {
		if s.Why != "" {
			continue
		}
		text := s.Text()
		back, err := scenario.Parse("own.drill", text, top)
		if err != nil {
			t.Errorf("%s:\n%v\n%s", s.Name, err, text)
			continue
		}
		if again := back.Text(); again != text || back.Disk.MiB != s.Disk.MiB || back.Double != s.Double || back.Load.Rejects != s.Load.Rejects {
			t.Errorf("%s is read as\n%s\nwas\n%s", s.Name, again, text)
		}
	}
}

func TestAFileSaysWhenAndWho(t *testing.T) {
	top := topologyOf(t, "storage: file_storage")
	s, err := scenario.Parse("/somewhere/outage.drill", `# the primary goes away
title Both go away, one after the other
load rate=1200 bytes=500
at 2s primary refuse          # short for otlp/primary
expect delivered secondary 100 within 3s
at 6s all hang refuse,for=1s
expect active failover file/last within 20s
at 9s restore
expect home
expect twice 0
expect lost 0
`, top)
	if err != nil {
		t.Fatal(err)
	}
	if s.Name != "outage" || s.Source != "outage.drill" || s.Title != "Both go away, one after the other" || s.Load.Rate != 1200 ||
		s.Load.ItemBytes != 500 || s.MaxTwice == nil || *s.MaxTwice != 0 || len(s.Steps) != 8 {
		t.Errorf("%+v", s)
	}
	if one := s.Steps[0]; one.At != 2*time.Second || one.Do != scenario.Fault || !slices.Equal(one.On, []string{"otlp/primary"}) || one.Line != 4 {
		t.Errorf("%+v", one)
	}
	if one := s.Steps[1]; one.Do != scenario.Delivered || one.Count != 100 || one.Within != 3*time.Second || one.On[0] != "otlp/secondary" {
		t.Errorf("%+v", one)
	}
	if one := s.Steps[2]; len(one.On) != 2 || !slices.Equal(one.Faults, []string{"hang", "refuse,for=1s"}) {
		t.Errorf("%+v", one)
	}
}

func TestTheSampleIsReadAndIsWhatTheDocumentShows(t *testing.T) {
	top := topologyOf(t, "storage: file_storage")
	samples, err := filepath.Glob("../../../deploy/drills/*.drill")
	if err != nil || len(samples) == 0 {
		t.Fatalf("no samples: %v", err)
	}
	page, err := os.ReadFile("../../../docs/drill.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range samples {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := scenario.Parse(name, string(text), top); err != nil {
			t.Error(err)
		}
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") && !strings.Contains(string(page), line) {
				t.Errorf("%s: docs/drill.md does not show %q", name, line)
			}
		}
	}
}

func TestAMistakeInAFileIsNamedWithItsLineAndTheNearestWord(t *testing.T) {
	top := topologyOf(t, "storage: file_storage")
	for text, want := range map[string]string{
		"at 2s primry refuse":           `f.drill:1: "primry" is no step and no exporter`,
		"otlp/primry refuse":            `did you mean "otlp/primary"?`,
		"\n\nprimary refus":             `f.drill:3: fault "refus": kind "refus" is not known; did you mean "refuse"?`,
		"primary":                       "what does primary do?",
		"expect delivred secondary":     `"delivred" is no expectation; did you mean "delivered"?`,
		"expect home within soon":       `"soon" is no time`,
		"expect lost 3":                 "nothing that was acknowledged may be lost",
		"expect active failovr primary": `did you mean "failover"?`,
		"expect active failover third":  `"third" is no exporter of failover`,
		"at 2s":                         "at needs a time and a step",
		"load speed=3":                  `"speed" is no setting of load`,
		"set a":                         "set needs KEY=VALUE",
		"reload brokn":                  `did you mean "broken"?`,
		"slow disk":                     "slow disk 250ms",
		"wait 3s please":                `"please" is too much`,
		"# nothing":                     "there is no step in it",
		"expect backlog many":           `"many" is no number`,
		"expect no gaps":                "this is written: expect no gap",
		"restore third":                 `"third" is no exporter that sends to a backend`,
		"wait 3s\n" + strings.Repeat("wait 1s\n", 600): "601 steps are too many",
	} {
		if _, err := scenario.Parse("f.drill", text, top); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %q is not said: %v", text, want, err)
		}
	}
	_, err := scenario.Parse("f.drill", "primry refuse\nwait\n", top)
	if err == nil || !strings.Contains(err.Error(), "f.drill:1:") || !strings.Contains(err.Error(), "f.drill:2:") {
		t.Errorf("not every line is named: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	var top *topology.Topology
	f.Add("at 2s primary refuse\nexpect home within 3s\n")
	f.Add("expect active failover nowhere\nslow disk 1s\nload rate=1\nset a=b\nreload undelivering\n")
	f.Fuzz(func(t *testing.T, text string) {
		if top == nil {
			top = topologyOf(t, "storage: file_storage")
		}
		s, err := scenario.Parse("f.drill", text, top)
		if err != nil {
			return
		}
		if again, err := scenario.Parse("f.drill", s.Text(), top); err != nil || again.Text() != s.Text() {
			t.Errorf("%q is written as\n%s\nwhich is not read as it: %v\n%s", text, s.Text(), err, again.Text())
		}
	})
}
