// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package cli is the command line: it parses, calls, prints and returns exit codes. Results go to stdout; findings,
// progress and logs to stderr.
package cli

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-telemetry/holdfast/internal/app"
	"github.com/holdfast-telemetry/holdfast/internal/config"
)

// Main runs the program and returns its exit code.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot(filepath.Base(args[0]))
	root.SetArgs(args[1:])
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.Execute()
	if err == nil {
		return 0
	}
	code := 1
	var exit *ExitError
	if errors.As(err, &exit) {
		code = exit.Code
		err = exit.Err
	}
	var invalid *config.InvalidError
	if errors.As(err, &invalid) {
		printFindings(stderr, invalid.Findings)
		return code
	}
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			fmt.Fprintf(stderr, "Error: %s\n", escape(strings.TrimRight(line, "\n")))
		}
	}
	return code
}

func newRoot(name string) *cobra.Command {
	var flags runFlags
	root := &cobra.Command{
		Use:   name,
		Short: "An OpenTelemetry Collector that does not lose telemetry",
		Long: `Holdfast receives OTLP, makes it safe, and delivers it to the first backend that is alive.
It reads the Collector's configuration language: an existing Collector is replaced by swapping the binary.

Without a command it runs the configuration, as "holdfast run" does.`,
		Example: `  holdfast --config config.yaml
  holdfast validate --config config.yaml
  holdfast demo`,
		Version:       shortVersion(),
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(flags.uris) == 0 {
				return errors.New("at least one --config is needed (try: holdfast --config config.yaml; holdfast --help)")
			}
			return run(cmd.Context(), &flags, cmd.InOrStdin(), cmd.ErrOrStderr())
		},
	}
	root.SuggestionsMinimumDistance = 2
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return flagError(cmd, err) })
	flags.register(root)
	reg := app.Registry()
	root.AddCommand(
		newRunCommand(),
		newValidateCommand(reg),
		newExplainCommand(reg, app.ExporterQueue),
		newPrintConfigCommand(reg),
		newComponentsCommand(reg),
		newVersionCommand(),
		newFeatureGateCommand(),
		newDemoCommand(),
		newDrillCommand(),
		newSinkCommand(),
		newLoadCommand(),
		newLedgerCommand(),
		newQueueCommand(),
		newReplayCommand(),
		newStatusCommand(),
		newTopCommand(),
		newReloadCommand(),
		newConfigCommand(),
		newFailoverCommand(),
	)
	return root
}

// noArgs refuses words that are no command, and names the nearest.
func noArgs(cmd *cobra.Command, args []string) error {
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
