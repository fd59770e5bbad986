// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.opentelemetry.io/collector/featuregate"

	"github.com/holdfast-telemetry/holdfast/internal/config"
)

// Version is set by the release build (-ldflags -X).
var Version = "0.1.0-dev"

// CollectorVersion is the release of the Collector's modules that the binary is made with.
const CollectorVersion = "v0.164.0/v1.70.0"

func shortVersion() string { return Version }

type versionDocument struct {
	Version   string `json:"version"`
	Commit    string `json:"commit"`
	Date      string `json:"date"`
	Go        string `json:"go"`
	Platform  string `json:"platform"`
	Collector string `json:"collector"`
}

func readVersion() versionDocument {
	v := versionDocument{
		Version: Version, Commit: "unknown", Date: "unknown", Go: runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH, Collector: CollectorVersion,
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && len(s.Value) >= 7:
			v.Commit = s.Value[:7]
		case s.Key == "vcs.time" && len(s.Value) >= 10:
			v.Date = s.Value[:10]
		}
	}
	return v
}

func newVersionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "version", Short: "Print the version and what it was built with", Args: cobra.NoArgs,
		Example: "  holdfast version --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := readVersion()
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(v)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "holdfast %s (%s, %s, %s %s, collector %s)\n",
				v.Version, v.Commit, v.Date, v.Go, v.Platform, v.Collector)
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	return cmd
}

func newFeatureGateCommand() *cobra.Command {
	return &cobra.Command{
		Use: "featuregate [ID]", Short: "List the feature gates there are", Args: cobra.MaximumNArgs(1),
		Long:    "List the feature gates there are, or one of them. Exit codes: 0; 1 unknown gate.",
		Example: "  holdfast featuregate",
		RunE: func(cmd *cobra.Command, args []string) error {
			found := false
			var ids []string
			featuregate.GlobalRegistry().VisitAll(func(g *featuregate.Gate) {
				ids = append(ids, g.ID())
				if len(args) == 1 && g.ID() != args[0] {
					return
				}
				found = true
				fmt.Fprintf(cmd.OutOrStdout(), "%-60s %-7v %-10s %s\n", g.ID(), g.IsEnabled(), g.Stage(), g.Description())
			})
			if len(args) == 1 && !found {
				hint := "see holdfast featuregate"
				if near := config.Nearest(args[0], ids); near != "" {
					hint = fmt.Sprintf("did you mean %q?", near)
				}
				return fmt.Errorf("unknown feature gate %q (%s)", args[0], hint)
			}
			return nil
		},
	}
}

// applyFeatureGates takes the Collector's form: names, each with an optional + or -.
func applyFeatureGates(gates []string) error {
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

// registerConfigFlags adds the flags of every command that reads a configuration.
func registerConfigFlags(cmd *cobra.Command, uris, sets, gates *[]string) {
	s := cmd.Flags()
	s.StringArrayVar(uris, "config", nil, "configuration: a path or file:, env:, yaml:, http:, https: URI; repeatable, merged in order")
	s.StringArrayVar(sets, "set", nil, "set one key after all files: --set exporters.otlp.endpoint=host:4317; repeatable")
	s.StringSliceVar(gates, "feature-gates", nil, "comma-separated feature gates, each with an optional + or -")
}

// flagError names the flag nearest to one that does not exist.
func flagError(cmd *cobra.Command, err error) error {
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
