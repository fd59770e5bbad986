// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package sabotage

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/drill/report"
)

const (
	root  = "../.."
	seeds = root + "/test/compat/seeds/"
)

func load(t *testing.T) (all []*Wrong) {
	t.Helper()
	files, err := filepath.Glob("*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no tables: %v", err)
	}
	for _, f := range files {
		w, err := Read(root, strings.TrimSuffix(f, ".txt"))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, w)
	}
	return all
}

func TestEverySabotageStillHasItsPlace(t *testing.T) {
	for _, w := range load(t) {
		if _, err := w.Spoilt(); err != nil {
			t.Error(err)
		}
		if w.Scenario == "" || w.Promise == "" {
			t.Errorf("%s names no scenario, or no promise", w.Name)
		}
	}
}

// A drill that passes what is broken would be worse than none. HOLDFAST_LONG=1 builds every broken variant and drills it:
// each must fail, in its scenario, by the name of the promise it breaks; and the control run must not notice.
func TestTheDrillFindsEverySabotage(t *testing.T) {
	if os.Getenv("HOLDFAST_LONG") == "" {
		t.Skip("HOLDFAST_LONG=1 builds the broken variants and drills them: two minutes")
	}
	for _, w := range load(t) {
		t.Run(w.Name, func(t *testing.T) {
			binary, err := w.Build(t.Context(), t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			r := drill(t, binary, w)
			for _, s := range r.Scenarios {
				if s.Name == "control" {
					if s.Outcome != report.Passed {
						t.Errorf("the control run: %s %v", s.Outcome, s.Reasons())
					}
					continue
				}
				found := false
				for _, b := range s.Broken {
					found = found || b.Promise == w.Promise
				}
				t.Logf("%s: %s\n%s", s.Name, s.Outcome, strings.Join(s.Reasons(), "\n"))
				if s.Outcome != report.Failed || !found {
					t.Errorf("%s: %s, and not for %q", s.Name, s.Outcome, w.Promise)
				}
			}
		})
	}
}

// drill plays a scenario and its control run.
func drill(t *testing.T, binary string, w *Wrong) *report.Report {
	t.Helper()
	dir := t.TempDir()
	configs := []string{seeds + "001-01-configuring-dual-exporters.yaml", seeds + "001-02-using-the-failover-connector.yaml"}
	if w.Config != "" {
		configs = []string{filepath.Join(root, w.Config)}
	}
	args := []string{"drill", "--scenario", "control", "--scenario", w.Scenario, "--report", dir}
	for _, c := range configs {
		args = append(args, "--config", c)
	}
	cmd := exec.Command(binary, args...)
	out, err := cmd.CombinedOutput()
	text, readErr := os.ReadFile(filepath.Join(dir, "report.json"))
	if readErr != nil {
		t.Fatalf("no report: %v, %v\n%s", err, readErr, out)
	}
	var r report.Report
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	if code := cmd.ProcessState.ExitCode(); code != r.ExitCode() {
		t.Errorf("exit code %d, the report says %d", code, r.ExitCode())
	}
	return &r
}
