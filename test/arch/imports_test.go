// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package arch

import (
	"fmt"
	"go/ast"
	"os"
	"path"
	"strconv"
	"strings"
	"testing"
)

func TestEveryImportIsAllowedByTheRules(t *testing.T) { report(t, brokenImports(load(t), importRules)) }

func TestNoRuleNamesARoomThatIsGone(t *testing.T) {
	tr := load(t)
	goMod, err := os.ReadFile(root + "/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	report(t, staleRules(tr, importRules, planned, string(goMod)))
}

func TestNoProductFileImportsTestHelpers(t *testing.T) { report(t, helperImports(load(t))) }

func TestNoCallIsForbiddenByTheRules(t *testing.T) { report(t, brokenCalls(load(t), callRules)) }

func TestNoTestSleepsOutsideVirtualTime(t *testing.T) { report(t, sleeps(load(t))) }

func TestDecisionsStartNoGoroutines(t *testing.T) { report(t, goroutines(load(t), noGoroutines)) }

func TestNoRoomIsADrawerForEverything(t *testing.T) { report(t, drawers(load(t))) }

// key is how rules name an import: the directory of ours, else the import path.
func key(importPath string) string {
	if r := room(importPath); r != "" {
		return r
	}
	return importPath
}

// standard reports whether a path is of the standard library: its first element has no dot.
func standard(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	return !strings.Contains(first, ".")
}

func inScope(of, except []string, dir string) bool {
	return (matchesAny(of, dir) || matchesAny(of, "...") || contains(of, "...")) && !matchesAny(except, dir)
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

func brokenImports(t *tree, rules []importRule) []string {
	var out []string
	for _, r := range rules {
		for _, f := range t.files {
			if f.leaf || (f.test || f.helper) && !r.tests || !inScope(r.of, r.except, f.dir) {
				continue
			}
			for _, imp := range f.imports {
				if why := refused(r, f.dir, imp); why != "" {
					out = append(out, fmt.Sprintf("%s imports %s: %s (%s)", f.path, imp, why, r.reason))
				}
			}
		}
	}
	return out
}

func refused(r importRule, dir, imp string) string {
	k := key(imp)
	if k == dir { // a test outside its package
		return ""
	}
	if matchesAny(r.never, k) {
		return "forbidden"
	}
	if r.only == nil || contains(r.only, "std") && standard(imp) || matchesAny(r.only, k) {
		return ""
	}
	return "only " + strings.Join(r.only, ", ") + " may be imported"
}

func helperImports(t *tree) []string {
	helpers := map[string]bool{}
	for _, f := range t.files {
		if f.helper && !f.test {
			helpers[f.dir] = true
		}
	}
	var out []string
	for _, f := range t.product() {
		for _, imp := range f.imports {
			if helpers[room(imp)] || imp == "testing" || strings.HasPrefix(imp, "testing/") {
				out = append(out, fmt.Sprintf("%s imports %s, which is for tests", f.path, imp))
			}
		}
	}
	return out
}

// staleRules finds patterns that match nothing any more, and planned rooms that have been built.
func staleRules(t *tree, rules []importRule, planned []string, goMod string) []string {
	var out []string
	rooms := t.rooms()
	exists := func(pattern string) bool {
		for dir := range rooms {
			if matches(pattern, dir) {
				return true
			}
		}
		return false
	}
	for _, p := range planned {
		if exists(p) {
			out = append(out, fmt.Sprintf("%s is built: take it off the list of planned rooms", p))
		}
	}
	seen := map[string]bool{}
	for _, r := range rules {
		for _, list := range [][]string{r.of, r.except, r.only, r.never} {
			for _, p := range list {
				if seen[p] || p == "..." || p == "std" {
					continue
				}
				seen[p] = true
				base := strings.TrimSuffix(strings.TrimSuffix(p, "/..."), "/*")
				switch {
				case strings.HasPrefix(p, "internal/") || strings.HasPrefix(p, "cmd/"):
					if !contains(planned, base) && !exists(p) {
						out = append(out, fmt.Sprintf("rule names %q, which matches no package: renamed away? (%s)", p, r.reason))
					}
				case !standard(p) && !contains(notRequired, base) && !required(goMod, base):
					out = append(out, fmt.Sprintf("rule names %q, which go.mod does not require: renamed away? (%s)", p, r.reason))
				}
			}
		}
	}
	return out
}

// required reports whether go.mod requires the module of an import path, or a module below it.
func required(goMod, importPath string) bool {
	importPath = strings.TrimSuffix(importPath, "/")
	for p := importPath; p != "." && p != "/"; p = path.Dir(p) {
		if strings.Contains(goMod, "\t"+p+" v") {
			return true
		}
	}
	return strings.Contains(goMod, "\t"+importPath+"/")
}

// selectors calls fn for every pkg.Name of an imported package below n.
func selectors(f *source, n ast.Node, fn func(importPath, name string, pos ast.Node)) {
	names := map[string]string{}
	for _, i := range f.file.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			continue
		}
		local := path.Base(p)
		if i.Name != nil {
			local = i.Name.Name
		}
		names[local] = p
	}
	ast.Inspect(n, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if id, ok := s.X.(*ast.Ident); ok && names[id.Name] != "" {
				fn(names[id.Name], s.Sel.Name, s)
			}
		}
		return true
	})
}

func brokenCalls(t *tree, rules []callRule) []string {
	var out []string
	for _, f := range t.files {
		for _, r := range rules {
			if f.test || f.helper || f.leaf || !inScope(r.of, r.except, f.dir) {
				continue
			}
			selectors(f, f.file, func(importPath, name string, pos ast.Node) {
				if contains(r.calls[importPath], name) {
					out = append(out, fmt.Sprintf("%s: %s.%s: %s", t.fset.Position(pos.Pos()), importPath, name, r.reason))
				}
			})
		}
	}
	return out
}

// sleeps finds time.Sleep in tests where it takes real time. A sleep is virtual inside a call of synctest.Test, and in
// a function that calls synctest.Wait, which panics outside a bubble. A package of test helpers that opens bubbles runs
// its steps in them.
func sleeps(t *tree) []string {
	var out []string
	bubbling := map[string]bool{}
	for _, f := range t.files {
		selectors(f, f.file, func(importPath, name string, _ ast.Node) {
			if f.helper && !f.test && importPath == "testing/synctest" && name == "Test" {
				bubbling[f.dir] = true
			}
		})
	}
	for _, f := range t.files {
		if !f.test && !f.helper || !f.test && bubbling[f.dir] {
			continue
		}
		for _, d := range f.file.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			waits := false
			var bubbles []ast.Node
			ast.Inspect(fn, func(n ast.Node) bool {
				if c, ok := n.(*ast.CallExpr); ok {
					selectors(f, c.Fun, func(importPath, name string, _ ast.Node) {
						if importPath == "testing/synctest" && name == "Test" {
							bubbles = append(bubbles, c)
						}
						waits = waits || importPath == "testing/synctest" && name == "Wait"
					})
				}
				return true
			})
			selectors(f, fn, func(importPath, name string, at ast.Node) {
				if importPath != "time" || name != "Sleep" || waits && len(bubbles) == 0 {
					return
				}
				for _, b := range bubbles {
					if b.Pos() <= at.Pos() && at.End() <= b.End() {
						return
					}
				}
				out = append(out, fmt.Sprintf("%s: sleeps; wait for the event, or use virtual time", t.fset.Position(at.Pos())))
			})
		}
	}
	return out
}

func goroutines(t *tree, dirs []string) []string {
	var out []string
	for _, f := range t.product() {
		if !matchesAny(dirs, f.dir) {
			continue
		}
		ast.Inspect(f.file, func(n ast.Node) bool {
			if g, ok := n.(*ast.GoStmt); ok {
				out = append(out, fmt.Sprintf("%s: starts a goroutine; its caller's drives it", t.fset.Position(g.Pos())))
			}
			return true
		})
	}
	return out
}

func drawers(t *tree) []string {
	var out []string
	seen := map[string]bool{}
	for _, f := range t.files {
		for _, name := range []string{path.Base(f.dir), strings.TrimSuffix(f.file.Name.Name, "_test")} {
			if contains(badNames, name) && !seen[f.dir] {
				seen[f.dir] = true
				out = append(out, fmt.Sprintf("%s is named %s: put the function where it is used", f.dir, name))
			}
		}
	}
	return out
}
