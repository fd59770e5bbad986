// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package arch holds the rules of the house as data, each with its reason, and fails when one is broken.
//
// It reads sources, go.mod files and documents, and runs nothing of the product. Every check is a function from a
// tree to findings, so that each is also shown to find what it is for (sabotage_test.go).
package arch

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"testing"
)

const (
	module = "github.com/holdfast-telemetry/holdfast"
	root   = "../.."
)

// source is one Go file of the repository.
type source struct {
	path    string // relative to the repository, slashes
	dir     string
	test    bool // *_test.go
	helper  bool // in a package for tests of other packages, NAMEtest
	leaf    bool // belongs to a module of its own, beside the product
	text    string
	file    *ast.File
	imports []string
}

// tree is every Go file of the repository.
type tree struct {
	fset  *token.FileSet
	files []*source
}

// room is the package directory of an import path of ours, or "" for somebody else's.
func room(importPath string) string {
	if importPath == module {
		return "."
	}
	dir, ok := strings.CutPrefix(importPath, module+"/")
	if !ok {
		return ""
	}
	return dir
}

func (t *tree) add(name, text string) error {
	f, err := parser.ParseFile(t.fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	s := &source{path: name, dir: path.Dir(name), text: text, file: f}
	s.test, s.helper = strings.HasSuffix(name, "_test.go"), strings.HasSuffix(s.dir, "test")
	for _, i := range f.Imports {
		s.imports = append(s.imports, strings.Trim(i.Path.Value, `"`))
	}
	t.files = append(t.files, s)
	return nil
}

// product are the files of the root module that end up in the binary.
func (t *tree) product() []*source {
	var out []*source
	for _, f := range t.files {
		if !f.leaf && !f.test && !f.helper {
			out = append(out, f)
		}
	}
	return out
}

// rooms are the package directories of the root module that hold more than tests.
func (t *tree) rooms() map[string]bool {
	out := map[string]bool{}
	for _, f := range t.product() {
		out[f.dir] = true
	}
	return out
}

// skipDir says which directories hold no source of ours.
func skipDir(name string) bool {
	return name != "." && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata")
}

// load reads the repository, once for all tests; nobody changes what it returns.
func load(t *testing.T) *tree {
	t.Helper()
	out, err := loaded()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var loaded = sync.OnceValues(func() (*tree, error) {
	out := &tree{fset: token.NewFileSet()}
	var leaves []string
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, p)
		name = filepath.ToSlash(name)
		switch {
		case d.IsDir() && skipDir(path.Base(name)):
			return fs.SkipDir
		case d.Name() == "go.mod" && name != "go.mod":
			leaves = append(leaves, path.Dir(name)+"/")
		case strings.HasSuffix(name, ".go") && d.Type().IsRegular():
			text, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			return out.add(name, string(text))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, f := range out.files {
		for _, l := range leaves {
			f.leaf = f.leaf || strings.HasPrefix(f.path, l)
		}
	}
	if len(out.files) < 10 {
		return nil, fmt.Errorf("only %d Go files found below %s: not the repository?", len(out.files), root)
	}
	return out, nil
})

// report fails the test once per finding.
func report(t *testing.T, findings []string) {
	t.Helper()
	sort.Strings(findings)
	for _, f := range findings {
		t.Error(f)
	}
}

// matches reports whether name is covered by a pattern: a path, or a path and everything below it ("a/...").
// "a/*" covers what is below a, but not a.
func matches(pattern, name string) bool {
	if base, ok := strings.CutSuffix(pattern, "/..."); ok {
		return name == base || strings.HasPrefix(name, base+"/")
	}
	if base, ok := strings.CutSuffix(pattern, "/*"); ok {
		return strings.HasPrefix(name, base+"/")
	}
	return pattern == name
}

func matchesAny(patterns []string, name string) bool {
	for _, p := range patterns {
		if matches(p, name) {
			return true
		}
	}
	return false
}
