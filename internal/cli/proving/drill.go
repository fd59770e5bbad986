// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package proving

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-telemetry/holdfast/internal/app/components"
	"github.com/holdfast-telemetry/holdfast/internal/cli/command"
	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/drill"
)

type drillFlags struct {
	uris, sets  []string
	scenarios   []string
	report      string
	hurry, keep bool
	list, steps bool
	headers     []string
	each, total time.Duration
	parallel    int
}

// NewDrill is the command that plays outages against a user's own configuration.
func NewDrill() *cobra.Command {
	var f drillFlags
	cmd := &cobra.Command{
		Use:   "drill",
		Short: "Play outages against your own configuration, and let the ledger judge",
		Long: `Drill takes your configuration as it is and plays outages against it: every backend refused, silent, unavailable,
slow, throttling, rejecting, flapping; all levels down and back; a backlog that meets a backend with little room; kill -9 and
SIGTERM with a backlog and with a full queue; a disk that is full, capped or slow; more requests than memory; a configuration
that is broken, or delivers nothing, on reload. For each scenario it starts this program with your file, in a private
directory, on a loopback address of its own; a backend of the drill's stands behind every exporter. Nothing of it reaches the
network. Protocols, TLS, headers, compression and timeouts stay yours. Numbered telemetry is sent, and a ledger says what
became of every item.

A scenario of your own is a small text file of timed steps; --steps prints those of this configuration as such files.

A verdict is passed, failed (which promise, which items), inconclusive (the fault did not really happen, or the run did
not end in time), or not applicable. Delays that are made for days, such as retry_interval, are shortened unless
--hurry=false is given; the report lists them. A drill that was killed leaves a directory, which the next one removes.

Exit codes: 0 passed; 1 failed; 2 inconclusive; 3 could not run, or interrupted.`,
		Example: `  holdfast drill --config config.yaml
  holdfast drill --config config.yaml --list
  holdfast drill --config config.yaml --scenario kill --scenario 'refused:*' --report ./drill
  holdfast drill --config config.yaml --scenario ./maintenance.drill`,
		Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(f.uris) == 0 {
				return &command.ExitError{Code: exitCannotRun, Err: errors.New("at least one --config is needed")}
			}
			code, err := f.run(cmd)
			if err != nil {
				return &command.ExitError{Code: exitCannotRun, Err: err}
			}
			if code != 0 {
				return &command.ExitError{Code: code}
			}
			return nil
		},
	}
	s := cmd.Flags()
	s.StringArrayVar(&f.uris, "config", nil, "URI of a configuration, merged in order: a path, file:, env:, yaml:, http:")
	s.StringArrayVar(&f.sets, "set", nil, "key=value, applied after all files")
	s.StringArrayVar(&f.scenarios, "scenario", nil, "only these: a name, a star at its end stands for anything, or a FILE of steps (default: all there are)")
	s.StringVar(&f.report, "report", "", "directory for report.html, report.json, junit.xml, and for the notes of what did not pass")
	s.BoolVar(&f.hurry, "hurry", true, "shorten delays that are made for days")
	s.BoolVar(&f.list, "list", false, "print the scenarios of this configuration, and play nothing")
	s.BoolVar(&f.steps, "steps", false, "print the scenarios as files that --scenario takes, and play nothing")
	s.StringArrayVar(&f.headers, "header", nil, "NAME=VALUE, sent with the telemetry, for a door that asks who sends")
	s.BoolVar(&f.keep, "keep", false, "keep the private directory")
	s.DurationVar(&f.each, "each", 90*time.Second, "bound of one scenario")
	s.DurationVar(&f.total, "total", 10*time.Minute, "bound of all of them")
	s.IntVar(&f.parallel, "parallel", 4, "scenarios at the same time; they mostly wait")
	return cmd
}

func (f *drillFlags) run(cmd *cobra.Command) (code int, err error) {
	ctx, stop := signal.NotifyContext(command.Context(cmd), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	binary, err := os.Executable()
	if err != nil {
		return 0, err
	}
	headers, err := pairs(f.headers)
	if err != nil {
		return 0, err
	}
	progress := cmd.ErrOrStderr()
	r, err := drill.Prepare(ctx, drill.Options{
		Binary: binary, Config: config.Options{URIs: f.uris, Sets: f.sets, Stdin: cmd.InOrStdin(), Registry: components.Registry()},
		Sets: f.sets, Scenarios: f.scenarios, Headers: headers, Hurry: f.hurry, Each: f.each, Total: f.total,
		Parallel: f.parallel, Report: f.report, Keep: f.keep, Version: command.Version,
		Progress: func(line string) { fmt.Fprintln(progress, time.Now().Format("15:04:05 ")+escapeLines(line)) },
	})
	var invalid *config.InvalidError
	switch {
	case errors.As(err, &invalid):
		return 0, err
	case err != nil:
		return 0, fmt.Errorf("drill: %w", err)
	}
	if f.steps {
		_, err := io.WriteString(cmd.OutOrStdout(), r.Text())
		return 0, err
	}
	if f.list {
		_, err := io.WriteString(cmd.OutOrStdout(), strings.Join(r.Scenarios(), "\n")+"\n")
		return 0, err
	}
	out, err := r.Play(ctx)
	switch {
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return 0, errInterrupted
	case err != nil:
		return 0, err
	}
	if _, err := fmt.Fprint(cmd.OutOrStdout(), escapeLines(out.Text())); err != nil {
		return 0, err
	}
	return out.ExitCode(), nil
}

// pairs reads NAME=VALUE.
func pairs(texts []string) (out [][2]string, err error) {
	for _, t := range texts {
		name, value, ok := strings.Cut(t, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--header %q: NAME=VALUE is needed", t)
		}
		out = append(out, [2]string{name, value})
	}
	return out, nil
}

// escapeLines escapes what others wrote, and keeps the ends of lines.
func escapeLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		lines[i] = command.Escape(l)
	}
	return strings.Join(lines, "\n")
}
