// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package arch

import (
	"go/token"
	"strings"
	"testing"
)

// forge makes a tree of files given as name, text.
func forge(t *testing.T, files ...string) *tree {
	t.Helper()
	out := &tree{fset: token.NewFileSet()}
	for i := 0; i < len(files); i += 2 {
		if err := out.add(files[i], files[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// found fails unless the findings are exactly those that contain the given texts, in any order.
func found(t *testing.T, findings []string, want ...string) {
	t.Helper()
	if len(findings) != len(want) {
		t.Errorf("found %d, want %d: %q", len(findings), len(want), findings)
	}
	all := strings.Join(findings, "\n")
	for _, w := range want {
		if !strings.Contains(all, w) {
			t.Errorf("nothing found about %q in %q", w, all)
		}
	}
}

func TestAForbiddenImportIsFound(t *testing.T) {
	tr := forge(t,
		"internal/otlp/otlp.go", "package otlp\nimport (\"errors\"; \"go.uber.org/zap\")",
		"internal/otlp/otlp_test.go", "package otlp_test\nimport (\"go.uber.org/zap\"; \""+module+"/internal/otlp\")",
		"internal/receiver/otlpgrpc/x.go", "package otlpgrpc\nimport \""+module+"/internal/journal/segment\"",
		"internal/pipeline/x.go", "package pipeline\nimport \""+module+"/internal/exporter/file\"",
		"internal/app/x.go", "package app\nimport \""+module+"/internal/exporter/file\"",
		"internal/config/x.go", "package config\nimport \"go.yaml.in/yaml/v3\"",
		"internal/cli/x.go", "package cli\nimport \"go.yaml.in/yaml/v3\"",
	)
	found(t, brokenImports(tr, importRules), "internal/otlp/otlp.go imports go.uber.org/zap",
		"internal/receiver/otlpgrpc/x.go imports", "internal/pipeline/x.go imports", "internal/cli/x.go imports go.yaml.in")
}

func TestATestHelperInTheProductIsFound(t *testing.T) {
	tr := forge(t,
		"internal/queue/queuetest/q.go", "package queuetest\nimport \"testing\"",
		"internal/pipeline/x.go", "package pipeline\nimport \""+module+"/internal/queue/queuetest\"",
		"internal/pipeline/y.go", "package pipeline\nimport \"testing/synctest\"",
		"internal/pipeline/x_test.go", "package pipeline\nimport \""+module+"/internal/queue/queuetest\"",
	)
	found(t, helperImports(tr), "x.go imports", "y.go imports testing/synctest")
}

func TestARenamedRoomIsFound(t *testing.T) {
	tr := forge(t, "internal/vault/x.go", "package vault", "internal/soon/x.go", "package soon")
	rules := []importRule{
		{of: []string{"internal/vault"}, never: []string{"internal/cellar", "internal/soon", "internal/later",
			"example.org/a/b/...", "example.org/gone"}},
	}
	found(t, staleRules(tr, rules, []string{"internal/soon", "internal/later"}, "require (\n\texample.org/a v1.0.0\n)"),
		"internal/soon is built", `"internal/cellar"`, `"example.org/gone"`)
}

func TestAForbiddenCallIsFound(t *testing.T) {
	tr := forge(t,
		"internal/x/x.go", "package x\nimport \"time\"\nfunc f() { time.Sleep(1) }",
		"internal/breaker/b.go", "package breaker\nimport \"time\"\nvar now = time.Now\nfunc f() { go f() }",
		"internal/x/y.go", "package x\nimport \"os\"\nfunc g() { os.Exit(1) }",
	)
	found(t, brokenCalls(tr, callRules), "b.go:3:11: time.Now", "y.go:3:12: os.Exit")
	found(t, goroutines(tr, noGoroutines), "b.go:4:12")
}

func TestASleepingTestIsFound(t *testing.T) {
	tr := forge(t, "internal/x/x_test.go", `package x
import (clock "time"; "testing/synctest")
func TestReal() { clock.Sleep(1) }
func TestVirtual() { synctest.Test(nil, func() { clock.Sleep(1) }) }
func TestBoth() {
	synctest.Test(nil, func() { clock.Sleep(1); synctest.Wait() })
	clock.Sleep(1)
}
func after() { clock.Sleep(1); synctest.Wait() }
`, "internal/x/x.go", "package x\nimport \"time\"\nfunc f() { time.Sleep(1) }",
		"internal/x/realtest/r.go", "package realtest\nimport \"time\"\nfunc f() { time.Sleep(1) }",
		"internal/x/bubbletest/b.go", "package bubbletest\nimport (\"time\"; \"testing/synctest\")\n"+
			"func f() { synctest.Test(nil, nil) }\nfunc g() { time.Sleep(1) }")
	found(t, sleeps(tr), "x_test.go:3:19", "x_test.go:7:2", "r.go:3:12")
}

func TestAMissingHeaderOrDocIsFound(t *testing.T) {
	tr := forge(t,
		"internal/a/a.go", header+"// Package a is documented.\npackage a",
		"internal/a/b.go", header+"package a",
		"internal/b/b.go", header+"package b",
		"internal/b/c.go", header+"// Package b is documented in the wrong file.\npackage b",
		"internal/c/c.go", "// Package c has two docs.\npackage c",
		"internal/c/d.go", header+"// Package c has two docs.\npackage c",
		"internal/d/d.go", header+"package d",
		"internal/e/only.go", header+"// Package e has one file.\npackage e",
		"internal/util/util.go", header+"// Package util is a drawer.\npackage util",
	)
	found(t, headerless(tr), "internal/c/c.go")
	found(t, undocumented(tr), "internal/b:", "internal/c:", "internal/d:")
	found(t, drawers(tr), "internal/util")
}

func TestAnOldModuleOrAnUnrecordedOneIsFound(t *testing.T) {
	found(t, belowFloor("go.mod", "go 1.25.3\nrequire (\n\tgoogle.golang.org/grpc v1.79.2\n\tgolang.org/x/net v0.100.0\n)"),
		"grpc v1.79.2", `go "1.25.3"`)
	found(t, belowFloor("go.mod", "go 1.26\nrequire golang.org/x/net v0.61.0\n"), "x/net v0.61.0")
	tr := forge(t, "internal/a/a.go", "package a\nimport (\"example.org/m/sub/p\"; \"example.org/known/p\")")
	found(t, unrecorded(tr, "require (\n\texample.org/m v1.0.0\n\texample.org/m/sub v1.0.0\n\texample.org/known v1.0.0\n)",
		"| `example.org/known` |"), "example.org/m/sub")
}

func TestADeadLinkOrARenamedTestIsFound(t *testing.T) {
	text := "see [a](adr/0001.md#x), [b](../gone.md), [c](https://example.org), [d](#here); `TestKept`, `TestRenamed`"
	exists := func(p string) bool { return p == "docs/adr/0001.md" }
	found(t, deadLinks("docs/x.md", text, exists), "../gone.md")
	tr := forge(t, "internal/a/a_test.go", "package a\nfunc TestKept() {}", "internal/a/a.go", "package a\nfunc TestRenamed() {}")
	found(t, unknownTests("docs/x.md", text, testNames(tr)), "TestRenamed")
}
