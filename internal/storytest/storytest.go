// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package storytest plays stories: text files in which commands to a machine stand above what it is expected to say.
//
//	# A sentence that introduces the block.
//	command and its words
//	----
//	what came of it
//
// Blocks are separated by an empty line and played in order. With -update the files are rewritten with what was said; a
// difference is committed only if it can be explained. The package stands beside the path, is linked by tests only, and
// knows no machine: what the commands mean is the caller's.
package storytest

import (
	"flag"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite what the stories expect")

// Play plays every file that matches the pattern as a test of its own. begin is called for each file and returns what plays
// one block of it, without what is expected, and says what came of it.
func Play(t *testing.T, pattern string, begin func(t *testing.T) (block func(commands string) string)) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file) //nolint:gosec // the test's
			if err != nil {
				t.Fatal(err)
			}
			block := begin(t)
			var out []string
			for part := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n\n") {
				commands, expected, _ := strings.Cut(part, "\n----")
				got := block(commands)
				if expected = strings.TrimSpace(expected); !*update && got != expected {
					t.Errorf("%s\ngot:\n%s\nwant:\n%s", commands, got, expected)
				}
				out = append(out, strings.TrimSpace(commands+"\n----\n"+got))
			}
			if *update {
				if err := os.WriteFile(file, []byte(strings.Join(out, "\n\n")+"\n"), 0o644); err != nil { //nolint:gosec // a text
					t.Fatal(err)
				}
			}
		})
	}
}

// Commands are the words of each command of a block, without sentences and empty lines.
func Commands(block string) iter.Seq[[]string] {
	return func(yield func([]string) bool) {
		for line := range strings.SplitSeq(block, "\n") {
			if words := strings.Fields(line); len(words) > 0 && !strings.HasPrefix(words[0], "#") && !yield(words) {
				return
			}
		}
	}
}
