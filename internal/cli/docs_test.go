// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

var (
	codeBlock = regexp.MustCompile("(?m)^( {4}.*|```(?s:.*?)```)$")
	codeSpan  = regexp.MustCompile("`[^`]+`")
	// invocation is the program with what follows, up to the end of that command.
	invocation = regexp.MustCompile(`(?m)(?:^\s*(?:\$ )?|&& |-- |[/(])holdfast ([^\n|;&()#<>]+)`)
	mention    = regexp.MustCompile(`(?:^|[\s/(])holdfast ([^\n|;&()#<>]+)`) // in prose
	word       = regexp.MustCompile(`^[a-z][a-z-]*$`)
	flagWord   = regexp.MustCompile(`^--?[a-z][a-z-]*`)
)

// A command line in a document, an alert, a manifest or a help text is one that the program has: verb and flags.
func TestEveryCommandInTheDocumentsExists(t *testing.T) {
	root := newRoot("holdfast")
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	seen := map[string]bool{}
	for name, text := range writings(t) {
		for _, line := range commandLines(name, text) {
			checkCommand(t, root, name, line, seen)
		}
	}
	for _, c := range root.Commands() {
		for _, text := range []string{c.Example, c.Long} {
			for _, line := range commandLines("help.sh", text) {
				checkCommand(t, root, "help of "+c.Name(), line, seen)
			}
		}
	}
	for _, verb := range []string{"validate", "queue replay", "queue drop", "replay", "failover show", "config history", "config confirm", "config rollback", "status", "reload"} {
		if !seen[verb] {
			t.Errorf("no document has %q: are the lines still found?", verb)
		}
	}
}

// writings are the texts that tell people what to type.
func writings(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, dir := range []string{"../../README.md", "../../docs", "../../deploy", "../../changes"} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := os.ReadFile(path)
			out[strings.TrimPrefix(path, "../../")] = string(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// commandLines finds what follows the program's name where it is a command: in a document only in code, elsewhere
// wherever a verb follows.
func commandLines(name, text string) (lines []string) {
	find := func(at *regexp.Regexp, code string) {
		for _, m := range at.FindAllStringSubmatch(code, -1) {
			lines = append(lines, m[1])
		}
	}
	text = strings.ReplaceAll(text, "\\\n", " ")
	if filepath.Ext(name) != ".md" {
		find(mention, strings.NewReplacer("\"", "", "`", "").Replace(text))
		return lines
	}
	for _, block := range codeBlock.FindAllString(text, -1) {
		find(invocation, block)
	}
	for _, span := range codeSpan.FindAllString(codeBlock.ReplaceAllString(text, ""), -1) {
		find(invocation, strings.ReplaceAll(strings.Trim(span, "`"), "\n", " "))
	}
	return lines
}

func checkCommand(t *testing.T, root *cobra.Command, place, line string, seen map[string]bool) {
	t.Helper()
	at, path := root, []string{}
	fields := strings.Fields(line)
	for len(fields) > 0 && word.MatchString(fields[0]) {
		next := child(at, fields[0])
		if next == nil {
			break
		}
		at, path, fields = next, append(path, fields[0]), fields[1:]
	}
	prose := !strings.HasSuffix(place, ".md")
	switch {
	case at == root && len(fields) > 0 && word.MatchString(fields[0]):
		if !prose {
			t.Errorf("%s: there is no command %q in %q", place, fields[0], line)
		}
		return
	case at.HasSubCommands() && at != root && len(fields) > 0 && word.MatchString(fields[0]):
		t.Errorf("%s: %s has no %q, in %q", place, at.CommandPath(), fields[0], line)
		return
	}
	seen[strings.Join(path, " ")] = true
	at.InitDefaultHelpFlag()
	at.InitDefaultVersionFlag()
	for _, f := range fields {
		flag := strings.TrimLeft(flagWord.FindString(f), "-")
		if flag == "" || f == "--" {
			if f == "--" {
				return
			}
			continue
		}
		if at.Flag(flag) == nil && at.Flags().Lookup(flag) == nil && (len(flag) > 1 || at.Flags().ShorthandLookup(flag) == nil) {
			t.Errorf("%s: %s has no flag %s, in %q", place, at.CommandPath(), f, line)
		}
	}
}

func child(c *cobra.Command, name string) *cobra.Command {
	for _, s := range c.Commands() {
		if s.Name() == name || s.HasAlias(name) {
			return s
		}
	}
	return nil
}
