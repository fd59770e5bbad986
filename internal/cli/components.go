// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-telemetry/holdfast/internal/cli/command"
	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

// componentDocument is one type, with the Collector's keys and ours.
type componentDocument struct {
	Name      string            `json:"name"`
	Module    string            `json:"module"`
	Stability map[string]string `json:"stability"`
	Aliases   []string          `json:"aliases"`
	Hosted    bool              `json:"hosted"`
}

type buildInfoDocument struct {
	Command     string `json:"command"`
	Description string `json:"description"`
	Version     string `json:"version"`
}

type componentsDocument struct {
	BuildInfo  buildInfoDocument   `json:"buildinfo"`
	Receivers  []componentDocument `json:"receivers"`
	Processors []componentDocument `json:"processors"`
	Exporters  []componentDocument `json:"exporters"`
	Connectors []componentDocument `json:"connectors"`
	Extensions []componentDocument `json:"extensions"`
}

func newComponentsCommand(reg *config.Registry) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "components",
		Short: "List the component types of this build",
		Long: `List the component types of this build, as the Collector does, with their aliases and whether they are hosted
(upstream's, run by Holdfast) or native.

Exit code: 0.`,
		Example: "  holdfast components --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			doc := describeComponents(reg)
			if asJSON {
				return command.PrintJSON(cmd.OutOrStdout(), doc)
			}
			return printComponents(cmd.OutOrStdout(), doc)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	return cmd
}

func describeComponents(reg *config.Registry) componentsDocument {
	of := func(kind config.Kind) []componentDocument {
		out := []componentDocument{}
		for _, t := range reg.Types {
			if t.Kind == kind {
				out = append(out, componentDocument{
					Name: t.Name, Module: t.Module, Stability: stability(t), Aliases: append([]string{}, t.Aliases...),
				})
			}
		}
		slices.SortFunc(out, func(a, b componentDocument) int { return cmp.Compare(a.Name, b.Name) })
		return out
	}
	return componentsDocument{
		BuildInfo: buildInfoDocument{
			Command: "holdfast", Description: "OpenTelemetry Collector that does not lose telemetry", Version: command.Version,
		},
		Receivers: of(config.Receivers), Processors: of(config.Processors), Exporters: of(config.Exporters),
		Connectors: of(config.Connectors), Extensions: of(config.Extensions),
	}
}

// stability spreads a type's level over what it serves, as the Collector prints it. Native types carry every signal.
func stability(t config.Type) map[string]string {
	out := map[string]string{}
	switch t.Kind {
	case config.Extensions:
		out["extension"] = t.Stability
	case config.Connectors:
		for _, s := range otlp.Signals {
			out[s.String()+"-to-"+s.String()] = t.Stability
		}
	default:
		for _, s := range otlp.Signals {
			out[s.String()] = t.Stability
		}
	}
	return out
}

func printComponents(w io.Writer, doc componentsDocument) error {
	var b strings.Builder
	fmt.Fprintf(&b, "buildinfo:\n    command: %s\n    description: %s\n    version: %s\n",
		doc.BuildInfo.Command, doc.BuildInfo.Description, doc.BuildInfo.Version)
	for _, section := range []struct {
		name string
		list []componentDocument
	}{
		{"receivers", doc.Receivers}, {"processors", doc.Processors}, {"exporters", doc.Exporters},
		{"connectors", doc.Connectors}, {"extensions", doc.Extensions},
	} {
		if len(section.list) == 0 {
			fmt.Fprintf(&b, "%s: []\n", section.name)
			continue
		}
		fmt.Fprintf(&b, "%s:\n", section.name)
		for _, c := range section.list {
			fmt.Fprintf(&b, "    - name: %s\n      module: %s\n      stability:\n", c.Name, c.Module)
			for _, k := range slices.Sorted(maps.Keys(c.Stability)) {
				fmt.Fprintf(&b, "        %s: %s\n", k, c.Stability[k])
			}
			fmt.Fprintf(&b, "      aliases: [%s]\n      hosted: %t\n", strings.Join(c.Aliases, ", "), c.Hosted)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
