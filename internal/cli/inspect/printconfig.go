// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/holdfast-telemetry/holdfast/internal/cli/command"
	"github.com/holdfast-telemetry/holdfast/internal/config"
)

// NewPrintConfig is the command that prints the effective configuration.
func NewPrintConfig(reg *config.Registry) *cobra.Command {
	var f readFlags
	var mode, format string
	var validate, original bool
	cmd := &cobra.Command{
		Use:     "print-config",
		Aliases: []string{"print-initial-config"},
		Short:   "Print the effective configuration",
		Long: `Print the effective configuration: merged, expanded, translated, with what Holdfast supplies. Secrets are masked
unless --mode unredacted is given. Findings go to stderr.

Exit codes: 0 valid, or --validate=false; 1 not valid, or not readable.`,
		Example: "  holdfast print-config --config config.yaml --format json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if mode != "redacted" && mode != "unredacted" {
				return fmt.Errorf("--mode %q is none of redacted, unredacted", mode)
			}
			if format != "yaml" && format != "json" {
				return fmt.Errorf("--format %q is none of yaml, json", format)
			}
			if err := command.ApplyFeatureGates(f.gates); err != nil {
				return err
			}
			c, err := Look(command.Context(cmd), f.options(cmd, reg))
			if err != nil {
				return err
			}
			command.PrintFindings(cmd.ErrOrStderr(), c.Findings)
			if validate && !c.Valid {
				return &command.ExitError{Code: 1}
			}
			tree := c.Config.Effective
			if original {
				tree = c.Config.Original
			}
			if mode == "redacted" {
				tree = c.Config.Redact(tree)
			}
			marshal := config.MarshalYAML
			if format == "json" {
				marshal = config.MarshalJSON
			}
			text, err := marshal(tree)
			if err != nil {
				return fmt.Errorf("print configuration: %w", err)
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	registerReadFlags(cmd, &f)
	s := cmd.Flags()
	s.StringVar(&mode, "mode", "redacted", "redacted or unredacted: whether secrets are masked")
	s.StringVar(&format, "format", "yaml", "yaml or json")
	s.BoolVar(&validate, "validate", true, "print only what is valid")
	s.BoolVar(&original, "original", false, "print the configuration before translation and supply")
	return cmd
}
