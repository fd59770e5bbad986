// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	seriesName = regexp.MustCompile(`holdfast_[a-z_]+[a-z]`)
	lineWords  = regexp.MustCompile("`((?:Queue|Exporting|Memory)[^`]+)`")
)

// Whoever follows the runbook at night finds the series and the lines it names.
func TestTheRunbookNamesSeriesAndLinesThatExist(t *testing.T) {
	r := start(t, house(filepath.Join(t.TempDir(), "queue")))
	defer r.stop(t)
	there := map[string]bool{}
	for _, s := range r.tel.Metrics.Snapshot() {
		there[s.Name] = true
	}
	sources := ""
	for _, dir := range []string{".", "../pipeline", "../processor/memorylimiter"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(f, "_test.go") {
				sources += string(text)
			}
		}
	}
	pages, err := filepath.Glob("../../docs/runbook/*.md")
	if err != nil || len(pages) < 10 {
		t.Fatalf("pages %v, %v", pages, err)
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range seriesName.FindAllString(string(text), -1) {
			if !there[name] && !strings.Contains(sources, `"`+name+`"`) { // histograms are in no snapshot
				t.Errorf("%s names the series %s, which is not shown", page, name)
			}
		}
		for _, m := range lineWords.FindAllStringSubmatch(string(text), -1) {
			if !strings.Contains(sources, `"`+m[1]) {
				t.Errorf("%s names the line %q, which nobody writes", page, m[1])
			}
		}
		if b := string(text); filepath.Base(page) != "README.md" {
			for _, part := range []string{"**Meaning.**", "**Where to look.**", "**What to do.**", "**How to know it worked.**"} {
				if !strings.Contains(b, part) {
					t.Errorf("%s has no %s", page, part)
				}
			}
		}
	}
}
