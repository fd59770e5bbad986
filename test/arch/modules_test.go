// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package arch

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// floors are the oldest versions without a known hole on our path (faults, part D, rule 15).
var floors = map[string]string{
	"google.golang.org/grpc": "v1.79.3",
	"golang.org/x/net":       "v0.62.0",
}

const goFloor = "1.26"

// templates says which foreign packages of the product import a template package, and why that is no harm.
var templates = map[string]string{
	"github.com/spf13/cobra": "linked only by commands that set a template of their own; ours set none " +
		"(TestTheCommandLineSetsNoTemplates)",
}

// unshipped are modules that end up in nobody's installation: the benchmark measures what its users run, clients are
// pinned to what is published.
var unshipped = []string{"bench/go.mod", "tools/go.mod", "test/*"}

func TestNoModuleFallsBelowItsFloor(t *testing.T) {
	for _, file := range goMods(t) {
		if name, _ := filepath.Rel(root, file); matchesAny(unshipped, filepath.ToSlash(name)) {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		report(t, belowFloor(file, string(text)))
	}
}

func TestTheProductNeedsNoReplaceAndNoExclude(t *testing.T) {
	text, err := os.ReadFile(root + "/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if w := strings.TrimSpace(line); strings.HasPrefix(w, "replace") || strings.HasPrefix(w, "exclude") {
			t.Errorf("go.mod: %s: what needs one belongs in a module of its own", w)
		}
	}
}

func TestNoTemplateIsLinkedButWhereItDoesNoHarm(t *testing.T) {
	packages := productClosure(t)
	used := map[string]bool{}
	for _, p := range packages {
		for _, imp := range p.Imports {
			if imp != "text/template" && imp != "html/template" || p.Standard {
				continue
			}
			if templates[p.ImportPath] == "" {
				t.Errorf("%s imports %s, which keeps every exported method in the binary; is it needed?", p.ImportPath, imp)
			}
			used[p.ImportPath] = true
		}
	}
	for p := range templates {
		if !used[p] {
			t.Errorf("%s imports no template any more: take it off the list", p)
		}
	}
}

func TestTheCommandLineSetsNoTemplates(t *testing.T) {
	for _, f := range load(t).product() {
		for _, name := range []string{".SetUsageTemplate(", ".SetHelpTemplate(", ".SetVersionTemplate("} {
			if strings.Contains(f.text, name) {
				t.Errorf("%s calls %s…): this links text/template; use the functions beside it", f.path, name)
			}
		}
	}
}

func TestEveryDirectDependencyHasADecisionRecord(t *testing.T) {
	goMod, err := os.ReadFile(root + "/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	records, err := filepath.Glob(root + "/docs/adr/*.md")
	if err != nil || len(records) == 0 {
		t.Fatalf("no decision records: %v", err)
	}
	var all strings.Builder
	for _, r := range records {
		text, err := os.ReadFile(r)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	report(t, unrecorded(load(t), string(goMod), all.String()))
}

func TestTheTableOfDependenciesListsNoneThatIsGone(t *testing.T) {
	goMod, err := os.ReadFile(root + "/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	records, err := os.ReadFile(root + "/docs/adr/0002-dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	direct := directModules(load(t), string(goMod))
	for _, m := range dependencyRow.FindAllStringSubmatch(string(records), -1) {
		if direct[m[1]] == "" {
			t.Errorf("docs/adr/0002-dependencies.md lists %s, which nothing imports directly", m[1])
		}
	}
}

// dependencyRow is a row of the table in 0002.
var dependencyRow = regexp.MustCompile("(?m)^\\| `([^`]+)` \\|")

// collector stands in records for all of the Collector's modules, which are one decision.
const collector = "go.opentelemetry.io/collector"

// directModules are the modules the root module's files import, by the name records give them, each with a file.
func directModules(t *tree, goMod string) map[string]string {
	var modules []string
	for line := range strings.Lines(goMod) {
		if w := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require ")); len(w) >= 2 &&
			strings.Contains(w[0], ".") && strings.HasPrefix(w[1], "v") {
			modules = append(modules, w[0])
		}
	}
	direct := map[string]string{}
	for _, f := range t.files {
		if f.leaf {
			continue
		}
		for _, imp := range f.imports {
			best := ""
			for _, m := range modules {
				if matches(m+"/...", imp) && len(m) > len(best) {
					best = m
				}
			}
			if matches(collector+"/...", best) {
				best = collector
			}
			if best != "" {
				direct[best] = f.path
			}
		}
	}
	return direct
}

// unrecorded finds modules that are imported directly and that no record names.
func unrecorded(t *tree, goMod, records string) []string {
	var out []string
	for m, by := range directModules(t, goMod) {
		if !strings.Contains(records, "`"+m+"`") {
			out = append(out, fmt.Sprintf("%s imports module %s, which no record in docs/adr names", by, m))
		}
	}
	return out
}

func goMods(t *testing.T) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && p != root && skipDir(d.Name()) {
			return fs.SkipDir
		}
		if d.Name() == "go.mod" {
			out = append(out, p)
		}
		return nil
	})
	if err != nil || len(out) == 0 {
		t.Fatalf("no go.mod found: %v", err)
	}
	return out
}

func belowFloor(file, text string) []string {
	var out []string
	goLine := ""
	for line := range strings.Lines(text) {
		w := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(w) < 2 {
			continue
		}
		if w[0] == "go" {
			goLine = w[1]
		}
		if floor := floors[w[0]]; floor != "" && older(w[1], floor) {
			out = append(out, fmt.Sprintf("%s requires %s %s, below the floor %s", file, w[0], w[1], floor))
		}
	}
	if goLine == "" || older(goLine, goFloor) {
		out = append(out, fmt.Sprintf("%s says go %q, below the floor %s", file, goLine, goFloor))
	}
	return out
}

// older compares dotted numbers; what follows a dash counts as nothing.
func older(a, b string) bool {
	x, y := numbers(a), numbers(b)
	for i := range x {
		if x[i] != y[i] {
			return x[i] < y[i]
		}
	}
	return false
}

func numbers(v string) (n [3]int) {
	v, _, _ = strings.Cut(strings.TrimPrefix(v, "v"), "-")
	for i, w := range strings.SplitN(v, ".", 3) {
		n[i], _ = strconv.Atoi(w)
	}
	return n
}

type listed struct {
	ImportPath string
	Imports    []string
	Standard   bool
}

// productClosure is every package in the binary, built as the Makefile builds it.
func productClosure(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-tags", "grpcnotrace", "-json=ImportPath,Imports,Standard", "./cmd/holdfast")
	cmd.Dir = root
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p listed
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
	return packages
}
