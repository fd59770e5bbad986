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

	"github.com/holdfast-telemetry/holdfast/internal/app/components"
	"github.com/holdfast-telemetry/holdfast/internal/cli/command"
	"github.com/holdfast-telemetry/holdfast/internal/cli/inspect"
	"github.com/holdfast-telemetry/holdfast/internal/cli/instance"
	"github.com/holdfast-telemetry/holdfast/internal/cli/proving"
	"github.com/holdfast-telemetry/holdfast/internal/cli/queues"
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
	var exit *command.ExitError
	if errors.As(err, &exit) {
		code = exit.Code
		err = exit.Err
	}
	var invalid *config.InvalidError
	if errors.As(err, &invalid) {
		command.PrintFindings(stderr, invalid.Findings)
		return code
	}
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			fmt.Fprintf(stderr, "Error: %s\n", command.Escape(strings.TrimRight(line, "\n")))
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
		Version:       command.Version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(flags.uris) == 0 {
				return errors.New("at least one --config is needed (try: holdfast --config config.yaml; holdfast --help)")
			}
			return run(cmd.Context(), &flags, cmd.InOrStdin(), cmd.ErrOrStderr())
		},
	}
	root.SuggestionsMinimumDistance = 2
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return command.FlagError(cmd, err) })
	flags.register(root)
	reg := components.Registry()
	root.AddCommand(
		newRunCommand(),
		inspect.NewValidate(reg),
		inspect.NewExplain(reg, components.ExporterQueue),
		inspect.NewPrintConfig(reg),
		newComponentsCommand(reg),
		newVersionCommand(),
		newFeatureGateCommand(),
		proving.NewDemo(),
		proving.NewDrill(),
		proving.NewSink(),
		proving.NewLoad(),
		proving.NewLedger(),
		queues.New(),
		queues.NewReplay(),
		instance.NewStatus(),
		instance.NewTop(),
		instance.NewReload(),
		instance.NewConfig(),
		instance.NewFailover(),
	)
	return root
}
