// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
	"go.opentelemetry.io/collector/featuregate"

	"github.com/holdfast-telemetry/holdfast/internal/cli/command"
	"github.com/holdfast-telemetry/holdfast/internal/config"
)

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
		Version: command.Version, Commit: "unknown", Date: "unknown", Go: runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH, Collector: command.CollectorVersion,
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
