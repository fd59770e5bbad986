// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A system is one of the two that are compared.
type system struct {
	name    string
	binary  string
	file    int // which of a case's configurations
	args    []string
	version string
}

// prepare builds what is missing, with the flags both are released with. The reference is built once and kept: it takes
// minutes, and its versions are pinned.
func prepare(ctx context.Context, reference, candidate string) ([]system, error) {
	if _, err := os.Stat(reference); err != nil {
		progress("building the reference collector: this takes a few minutes, once")
		if err := build(ctx, ".", "./reference", reference); err != nil {
			return nil, err
		}
	}
	if candidate == "" {
		candidate = filepath.Join("bin", "holdfast")
		progress("building holdfast")
		if err := build(ctx, "..", "./cmd/holdfast", candidate); err != nil {
			return nil, err
		}
	}
	systems := []system{
		{name: "reference", binary: reference, file: 0},
		{name: "holdfast", binary: candidate, file: 1, args: []string{"--implicit-health", "off"}},
	}
	for i := range systems {
		s := &systems[i]
		out, err := exec.CommandContext(ctx, s.binary, "--version").Output()
		if err != nil {
			return nil, fmt.Errorf("%s --version: %w", s.binary, err)
		}
		_, s.version, _ = strings.Cut(strings.TrimSpace(string(out)), " version ")
		if bytes.HasPrefix(out, []byte("reference")) { // the two may be the same binary, to test the driver
			s.args = nil
		} else if commit, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output(); err == nil {
			s.version += " at " + strings.TrimSpace(string(commit))
		}
	}
	return systems, nil
}

func build(ctx context.Context, dir, pkg, out string) error {
	out, err := filepath.Abs(out)
	if err != nil {
		return err
	}
	c := exec.CommandContext(ctx, "go", "build", "-trimpath", "-tags", "grpcnotrace", "-ldflags", "-s -w", "-o", out, pkg)
	c.Dir, c.Stderr = dir, os.Stderr
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if err := c.Run(); err != nil {
		return fmt.Errorf("go build %s: %w", pkg, err)
	}
	return nil
}
