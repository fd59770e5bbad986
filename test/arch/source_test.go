// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package arch

import (
	"fmt"
	"path"
	"sort"
	"strings"
	"testing"
)

const header = "// Copyright The Holdfast Authors\n// SPDX-License-Identifier: Apache-2.0\n\n"

func TestEveryGoFileStartsWithTheLicenceHeader(t *testing.T) { report(t, headerless(load(t))) }

func TestEveryPackageSaysWhatItIsForInTheFileNamedAfterIt(t *testing.T) {
	report(t, undocumented(load(t)))
}

func TestMainIsShort(t *testing.T) {
	for _, f := range load(t).files {
		if f.path == "cmd/holdfast/main.go" {
			if n := strings.Count(f.text, "\n"); n > 60 {
				t.Errorf("%s has %d lines, more than 60: it holds signals, the exit code and a call of cli", f.path, n)
			}
			return
		}
	}
	t.Error("cmd/holdfast/main.go is gone")
}

func headerless(t *tree) []string {
	var out []string
	for _, f := range t.files {
		if !strings.HasPrefix(f.text, header) {
			out = append(out, f.path+": the first two lines must be the licence header, followed by a blank line")
		}
	}
	return out
}

// undocumented checks that exactly one file of a package carries its doc comment, and that it is the one a reader
// opens first: named after the package, main.go, or the only one. Packages of tests alone have no such file.
func undocumented(t *tree) []string {
	packages := map[string][]*source{} // by directory; a directory of tests only counts with its tests
	tests := map[string][]*source{}
	for _, f := range t.files {
		if f.test {
			tests[f.dir] = append(tests[f.dir], f)
		} else {
			packages[f.dir] = append(packages[f.dir], f)
		}
	}
	for dir, files := range tests {
		if packages[dir] == nil {
			packages[dir] = files
		}
	}
	var out []string
	for dir, files := range packages {
		var docs []string
		for _, f := range files {
			if f.file.Doc != nil {
				docs = append(docs, path.Base(f.path))
				if text := f.file.Doc.Text(); !strings.HasPrefix(text, "Package "+f.file.Name.Name+" ") &&
					!strings.HasPrefix(text, "Command ") {
					out = append(out, fmt.Sprintf("%s: the doc comment starts neither \"Package %s\" nor \"Command\"",
						f.path, f.file.Name.Name))
				}
			}
		}
		sort.Strings(docs)
		switch name := files[0].file.Name.Name; {
		case len(docs) == 0:
			out = append(out, fmt.Sprintf("%s: package %s has no doc comment", dir, name))
		case len(docs) > 1:
			out = append(out, fmt.Sprintf("%s: package %s has %d doc comments (%s), one is read", dir, name, len(docs),
				strings.Join(docs, ", ")))
		case len(files) > 1 && !files[0].test && !firstFile(docs[0], dir, name):
			out = append(out, fmt.Sprintf("%s: the doc comment of package %s stands in %s, not in the file named after it",
				dir, name, docs[0]))
		}
	}
	return out
}

func firstFile(file, dir, pkg string) bool {
	base := strings.TrimSuffix(strings.TrimSuffix(file, ".go"), "_test")
	return base == pkg || base == path.Base(dir) || pkg == "main" && base == "main"
}
