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
	lineWords  = regexp.MustCompile("`((?:Queue|Exporting|Memory|Failover)[^`]+)`")
)

// Whoever follows the runbook at night finds the series and the lines it names.
func TestTheRunbookNamesSeriesAndLinesThatExist(t *testing.T) {
	there := shownSeries(t)
	is := func(name string) bool {
		_, one := there[name]
		_, histogram := there[name+"_bucket"]
		return one || histogram || comingSeries[name] != ""
	}
	words := sourceText(t, ".", "queuelog", "series", "../pipeline", "../pipeline/switchroom", "../failover", "../processor/memorylimiter")
	pages, err := filepath.Glob("../../docs/runbook/*.md")
	if err != nil || len(pages) < 20 {
		t.Fatalf("pages %v, %v", pages, err)
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range seriesName.FindAllString(string(text), -1) {
			if !is(name) {
				t.Errorf("%s names the series %s, which is not shown", page, name)
			}
		}
		for _, m := range lineWords.FindAllStringSubmatch(string(text), -1) {
			if !strings.Contains(words, `"`+m[1]) {
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
