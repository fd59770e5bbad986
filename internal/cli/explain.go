// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"github.com/spf13/cobra"

	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
)

func newExplainCommand(reg *config.Registry, _ plan.Traits) *cobra.Command {
	var f readFlags
	cmd := &cobra.Command{
		Use:   "explain",
		Short: "Say what a configuration will do",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := inspect(commandContext(cmd), f.options(cmd, reg))
			if err != nil {
				return err
			}
			printFindings(cmd.ErrOrStderr(), c.findings)
			if !c.valid {
				return &ExitError{Code: 1}
			}
			return printJSON(cmd.OutOrStdout(), c.plan)
		},
	}
	registerReadFlags(cmd, &f)
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "print one JSON document to stdout")
	return cmd
}
