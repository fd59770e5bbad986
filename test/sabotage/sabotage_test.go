// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package sabotage tests the tester: the product is built wrong on purpose, and a drill must say so by name of promise.
//
// A table NAME.txt names a file, a text that must occur in it exactly once, and what is put in its place; the wrong variant
// is built beside the sources (go build -overlay), so production code holds no switches.
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

// wrong is one way to spoil the product, and what must be said of it.
type wrong struct {
	name, file, scenario, promise string
	instead, put                  string
}

func load(t *testing.T) (all []wrong) {
	t.Helper()
	files, err := filepath.Glob("*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no tables: %v", err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		head, rest, found := strings.Cut(string(text), "---- instead of\n")
		w := wrong{name: strings.TrimSuffix(f, ".txt")}
		var ok bool
		if w.instead, w.put, ok = strings.Cut(rest, "---- put\n"); !found || !ok {
			t.Fatalf("%s: no text to replace", f)
		}
		for line := range strings.Lines(head) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			switch key {
			case "file":
				w.file = value
			case "scenario":
				w.scenario = value
			case "promise":
				w.promise = value
			}
		}
		all = append(all, w)
	}
	return all
}

// spoilt is the source with the sabotage in it.
func (w *wrong) spoilt(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, w.file))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), w.instead); n != 1 {
		t.Fatalf("%s: the text to replace is %d times in %s, it must be there once", w.name, n, w.file)
	}
	return strings.Replace(string(text), w.instead, w.put, 1)
}

func TestEverySabotageStillHasItsPlace(t *testing.T) {
	for _, w := range load(t) {
		w.spoilt(t)
		if w.scenario == "" || w.promise == "" {
			t.Errorf("%s names no scenario, or no promise", w.name)
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
		t.Run(w.name, func(t *testing.T) {
			r := drill(t, build(t, &w), w.scenario)
			for _, s := range r.Scenarios {
				if s.Name == "control" {
					if s.Outcome != report.Passed {
						t.Errorf("the control run: %s %v", s.Outcome, s.Reasons())
					}
					continue
				}
				found := false
				for _, b := range s.Broken {
					found = found || b.Promise == w.promise
				}
				t.Logf("%s: %s\n%s", s.Name, s.Outcome, strings.Join(s.Reasons(), "\n"))
				if s.Outcome != report.Failed || !found {
					t.Errorf("%s: %s, and not for %q", s.Name, s.Outcome, w.promise)
				}
			}
		})
	}
}

// build makes the broken variant.
func build(t *testing.T, w *wrong) string {
	t.Helper()
	dir := t.TempDir()
	file, err := filepath.Abs(filepath.Join(root, w.file))
	if err != nil {
		t.Fatal(err)
	}
	spoilt, binary := filepath.Join(dir, "spoilt.go"), filepath.Join(dir, "holdfast")
	if err := os.WriteFile(spoilt, []byte(w.spoilt(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {file: spoilt}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-tags", "grpcnotrace", "-overlay", filepath.Join(dir, "overlay.json"), "-o", binary, "./cmd/holdfast")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return binary
}

// drill plays a scenario and its control run on guide B's configuration.
func drill(t *testing.T, binary, scenario string) *report.Report {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command(binary, "drill", "--config", seeds+"001-01-configuring-dual-exporters.yaml",
		"--config", seeds+"001-02-using-the-failover-connector.yaml", "--scenario", "control", "--scenario", scenario, "--report", dir)
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
