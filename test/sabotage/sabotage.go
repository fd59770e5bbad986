// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package sabotage builds the product wrong on purpose: for the tests of the tester, by which a drill must say so by name of
// promise (sabotage_test.go), and for what no right build shows (test/outage).
//
// A table NAME.txt names a file, a text that must occur in it exactly once, and what is put in its place; the wrong variant
// is built beside the sources (go build -overlay), so production code holds no switches.
package sabotage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Wrong is one way to spoil the product, and what a drill must say of it.
type Wrong struct {
	Name, File, Scenario, Promise string
	Config                        string // that is drilled, from root; empty = guide B's

	root, instead, put string
}

// Read reads the table of that name in the repository at root.
func Read(root, name string) (*Wrong, error) {
	text, err := os.ReadFile(filepath.Join(root, "test/sabotage", name+".txt"))
	if err != nil {
		return nil, err
	}
	head, rest, found := strings.Cut(string(text), "---- instead of\n")
	w := &Wrong{Name: name, root: root}
	var ok bool
	if w.instead, w.put, ok = strings.Cut(rest, "---- put\n"); !found || !ok {
		return nil, fmt.Errorf("sabotage %s: no text to replace", name)
	}
	for line := range strings.Lines(head) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch key {
		case "file":
			w.File = value
		case "config":
			w.Config = value
		case "scenario":
			w.Scenario = value
		case "promise":
			w.Promise = value
		}
	}
	return w, nil
}

// Spoilt is the source with the sabotage in it.
func (w *Wrong) Spoilt() (string, error) {
	text, err := os.ReadFile(filepath.Join(w.root, w.File))
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(text), w.instead); n != 1 {
		return "", fmt.Errorf("sabotage %s: the text to replace is %d times in %s, it must be there once", w.Name, n, w.File)
	}
	return strings.Replace(string(text), w.instead, w.put, 1), nil
}

// Build makes the broken variant, a file in dir. It takes the go command.
func (w *Wrong) Build(ctx context.Context, dir string) (binary string, err error) {
	file, err := filepath.Abs(filepath.Join(w.root, w.File))
	if err != nil {
		return "", err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", err
	}
	text, err := w.Spoilt()
	if err != nil {
		return "", err
	}
	spoilt, overlay := filepath.Join(dir, w.Name+".go"), filepath.Join(dir, w.Name+".json")
	list, err := json.Marshal(map[string]map[string]string{"Replace": {file: spoilt}})
	if err != nil {
		return "", err
	}
	if err := errors.Join(os.WriteFile(spoilt, []byte(text), 0o600), os.WriteFile(overlay, list, 0o600)); err != nil {
		return "", err
	}
	binary = filepath.Join(dir, w.Name)
	cmd := exec.CommandContext(ctx, "go", "build", "-tags", "grpcnotrace", "-overlay", overlay, "-o", binary, "./cmd/holdfast")
	cmd.Dir = w.root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("sabotage %s: build: %w\n%s", w.Name, err, out)
	}
	return binary, nil
}
