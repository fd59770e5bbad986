// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package arch

import (
	"fmt"
	"go/ast"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestDocumentsLinkToWhatExists(t *testing.T) {
	for name, text := range documents(t) {
		report(t, deadLinks(name, text, func(p string) bool {
			_, err := os.Stat(filepath.Join(root, p))
			return err == nil
		}))
	}
}

func TestDocumentsNameTestsThatExist(t *testing.T) {
	tests := testNames(load(t))
	for name, text := range documents(t) {
		report(t, unknownTests(name, text, tests))
	}
}

func TestDocumentsNamePackagesThatExist(t *testing.T) {
	for name, text := range documents(t) {
		for _, m := range packageName.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
				t.Errorf("%s names %s, which is not there", name, m[1])
			}
		}
	}
}

func TestEveryDecisionRecordIsListed(t *testing.T) {
	docs := documents(t)
	for name := range docs {
		if dir, file := path.Split(name); dir == "docs/adr/" && file != "README.md" &&
			!strings.Contains(docs["docs/adr/README.md"], "("+file+")") {
			t.Errorf("%s is not listed in docs/adr/README.md", name)
		}
	}
}

var (
	link        = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	testName    = regexp.MustCompile(`\b(?:Test|Fuzz|Benchmark)[A-Z][A-Za-z0-9_]*`)
	packageName = regexp.MustCompile("`((?:internal|cmd|test|bench)/[a-z0-9/_.-]+[a-z0-9])`")
)

// documents are the markdown files of the repository, by path.
func documents(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && p != root && skipDir(d.Name()) {
			return fs.SkipDir
		}
		if strings.HasSuffix(p, ".md") {
			text, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			name, _ := filepath.Rel(root, p)
			out[filepath.ToSlash(name)] = string(text)
		}
		return nil
	})
	if err != nil || out["README.md"] == "" {
		t.Fatalf("no README.md found: %v", err)
	}
	return out
}

func deadLinks(name, text string, exists func(string) bool) []string {
	var out []string
	for _, m := range link.FindAllStringSubmatch(text, -1) {
		target, _, _ := strings.Cut(m[1], "#")
		if target == "" || strings.Contains(target, "://") {
			continue
		}
		if !exists(path.Join(path.Dir(name), target)) {
			out = append(out, fmt.Sprintf("%s links to %s, which is not there", name, m[1]))
		}
	}
	return out
}

// testNames are the tests, fuzz targets and benchmarks there are, in all modules.
func testNames(t *tree) map[string]bool {
	out := map[string]bool{}
	for _, f := range t.files {
		if !f.test {
			continue
		}
		for _, d := range f.file.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && testName.MatchString(fn.Name.Name) {
				out[fn.Name.Name] = true
			}
		}
	}
	return out
}

func unknownTests(name, text string, tests map[string]bool) []string {
	var out []string
	for _, n := range testName.FindAllString(text, -1) {
		if !tests[n] {
			out = append(out, fmt.Sprintf("%s names %s, which is no test here: renamed?", name, n))
		}
	}
	return out
}
