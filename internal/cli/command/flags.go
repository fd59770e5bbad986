// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.opentelemetry.io/collector/featuregate"

	"github.com/holdfast-telemetry/holdfast/internal/config"
)

// ApplyFeatureGates takes the Collector's form: names, each with an optional + or -.
func ApplyFeatureGates(gates []string) error {
	for _, g := range gates {
		id, on := strings.TrimPrefix(g, "+"), true
		if off, ok := strings.CutPrefix(g, "-"); ok {
			id, on = off, false
		}
		if id == "" {
			return fmt.Errorf("--feature-gates: %q names no gate (see holdfast featuregate)", g)
		}
		if err := featuregate.GlobalRegistry().Set(id, on); err != nil {
			return fmt.Errorf("--feature-gates: %w", err)
		}
	}
	return nil
}

// RegisterConfigFlags adds the flags of every command that reads a configuration.
func RegisterConfigFlags(cmd *cobra.Command, uris, sets, gates *[]string) {
	s := cmd.Flags()
	s.StringArrayVar(uris, "config", nil, "configuration: a path or file:, env:, yaml:, http:, https: URI; repeatable, merged in order")
	s.StringArrayVar(sets, "set", nil, "set one key after all files: --set exporters.otlp.endpoint=host:4317; repeatable")
	s.StringSliceVar(gates, "feature-gates", nil, "comma-separated feature gates, each with an optional + or -")
}

// FlagError names the flag nearest to one that does not exist.
func FlagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return fmt.Errorf("%w (see %s --help)", err, cmd.CommandPath())
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	if near := config.Nearest(unknown.GetSpecifiedName(), names); near != "" {
		return fmt.Errorf("%w (did you mean --%s?)", err, near)
	}
	return fmt.Errorf("%w (see %s --help)", err, cmd.CommandPath())
}

// NoArgs refuses words that are no command, and names the nearest.
func NoArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, c := range cmd.Commands() {
		names = append(names, c.Name())
	}
	hint := "see holdfast --help"
	if near := config.Nearest(args[0], names); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	return fmt.Errorf("unknown command %q (%s)", args[0], hint)
}

// Context is the context of a command, also of one that is executed without.
func Context(cmd *cobra.Command) context.Context {
	if ctx := cmd.Context(); ctx != nil {
		return ctx
	}
	return context.Background()
}
