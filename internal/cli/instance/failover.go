// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package instance

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-telemetry/holdfast/internal/app/operator"
	"github.com/holdfast-telemetry/holdfast/internal/cli/command"
	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/status"
)

// maxHold bounds a hold: nobody remembers one that is older.
const maxHold = 24 * time.Hour

const failoverCodes = "Exit codes: 0 done; 1 unknown, refused, or a probe was not good; 4 no instance answers."

// NewFailover is the commands about the levels of a running instance.
func NewFailover() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "failover",
		Short: "Look at the levels of a running instance, probe them, take one out and put it back",
		Long: `Failover asks a running instance about the levels of its connectors: which one data goes to, why the others carry none,
and what has to come before they do. A plain exporter is a connector with one level, under its own name.

` + whichInstance + `

` + failoverCodes,
		Example: `  holdfast failover show
  holdfast failover probe failover/traces 0
  holdfast failover hold failover/traces 0 --for 30m
  holdfast failover release failover/traces 0`,
		Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newFailoverShowCommand(), newFailoverProbeCommand(), newFailoverHoldCommand(), newFailoverReleaseCommand())
	return cmd
}

func newFailoverShowCommand() *cobra.Command {
	var f instanceFlags
	cmd := &cobra.Command{
		Use:   "show [CONNECTOR]",
		Short: "Show where data goes, and what every level stands on",
		Long: `Show every route, or those of CONNECTOR: the level that data goes to, what waits and what is in hand, and of every
exporter its state, the evidence for it and what has to come before it carries again.

` + failoverCodes,
		Example: `  holdfast failover show
  holdfast failover show failover/traces --json | jq '.[].levels[0].members[0].evidence'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(command.Context(cmd), askTime)
			defer cancel()
			s, err := f.status(ctx)
			if err != nil {
				return err
			}
			routes := s.Failover
			if len(args) > 0 {
				if routes, err = routesOf(s, args[0]); err != nil {
					return err
				}
			}
			if f.asJSON {
				return command.PrintJSON(cmd.OutOrStdout(), routes)
			}
			if len(routes) == 0 {
				fmt.Fprintln(cmd.ErrOrStderr(), "no connector is configured")
				return nil
			}
			var b strings.Builder
			status.TextRoutes(&b, routes, s.Time)
			_, err = io.WriteString(cmd.OutOrStdout(), strings.TrimPrefix(b.String(), "\n"))
			return err
		},
	}
	f.register(cmd)
	return cmd
}

// routesOf are the routes of one connector; an unknown one is an error that names the nearest.
func routesOf(s *status.Status, connector string) ([]status.Route, error) {
	var out []status.Route
	var names []string
	for _, r := range s.Failover {
		names = append(names, r.Connector)
		if r.Connector == connector {
			out = append(out, r)
		}
	}
	if len(out) > 0 {
		return out, nil
	}
	if near := config.Nearest(connector, names); near != "" {
		return nil, fmt.Errorf("no connector or exporter %q has levels (did you mean %q?)", connector, near)
	}
	return nil, fmt.Errorf("no connector or exporter %q has levels (holdfast failover show lists them)", connector)
}

func newFailoverProbeCommand() *cobra.Command {
	var f instanceFlags
	var signal string
	cmd := &cobra.Command{
		Use:   "probe CONNECTOR [LEVEL]",
		Short: "Probe a level now, wait for the answer and print it",
		Long: `Probe all levels of CONNECTOR now, or LEVEL, which counts from 0, and wait for the answers. It is the probe that would
have come by itself: a good one counts towards the return of a level that is down, and a failed one against it. A level
that carries is checked. A backend that asked for silence is not called before that is over.

Probes of different levels keep the connector's retry_gap, so that asking all of them can take a while.

` + failoverCodes,
		Example: `  holdfast failover probe failover/traces
  holdfast failover probe failover/traces 0 --signal traces`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			req := operator.LevelRequest{Connector: args[0], Signal: signal, Level: -1}
			if len(args) > 1 {
				var err error
				if req.Level, err = level(args[1]); err != nil {
					return err
				}
			}
			answers, err := f.order(command.Context(cmd), "/failover/probe", &req)
			if err != nil {
				return err
			}
			if f.asJSON {
				err = command.PrintJSON(cmd.OutOrStdout(), answers)
			} else {
				err = printProbes(cmd.OutOrStdout(), answers)
			}
			if err != nil {
				return err
			}
			return probeCode(answers)
		},
	}
	f.register(cmd)
	cmd.Flags().StringVar(&signal, "signal", "", "traces, metrics, logs or profiles (default: all there are)")
	return cmd
}

// level reads a level's number.
func level(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("level %q: levels count from 0, as holdfast failover show lists them", text)
	}
	return n, nil
}

// order posts a wish and returns what came of it on each route.
func (f *instanceFlags) order(ctx context.Context, path string, req *operator.LevelRequest) ([]operator.RouteAnswer, error) {
	c, err := f.client()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute) // longer than the other side takes
	defer cancel()
	var out []operator.RouteAnswer
	if err := c.Post(ctx, path, req, &out); err != nil {
		return nil, asked(err)
	}
	return out, nil
}

func printProbes(w io.Writer, answers []operator.RouteAnswer) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, a := range answers {
		if a.Error != "" {
			fmt.Fprintf(t, "%s (%s)\trefused: %s\n", a.Connector, a.Signal, command.Escape(a.Error))
			continue
		}
		for _, p := range a.Probes {
			result := "not good"
			switch {
			case p.Good:
				result = "good"
			case p.Kind == "":
				result = "not asked"
			}
			text := ""
			if p.Error != "" {
				text = ": " + command.Escape(p.Error)
			}
			then := "now " + p.State
			if p.ReturnsWhen != "" {
				then += ", returns with " + p.ReturnsWhen
			}
			fmt.Fprintf(t, "%s (%s)\tlevel %d\t%s\t%s%s; %s\n", a.Connector, a.Signal, p.Level, p.Exporter, result, text, then)
		}
	}
	return t.Flush()
}

// probeCode is 1 unless every exporter that was asked answered well, and one was.
func probeCode(answers []operator.RouteAnswer) error {
	good := 0
	for _, a := range answers {
		if a.Error != "" {
			return &command.ExitError{Code: exitFailed}
		}
		for _, p := range a.Probes {
			switch {
			case p.Good:
				good++
			case p.Kind != "":
				return &command.ExitError{Code: exitFailed}
			}
		}
	}
	if good == 0 {
		return &command.ExitError{Code: exitFailed}
	}
	return nil
}

func newFailoverHoldCommand() *cobra.Command {
	var f instanceFlags
	var signal string
	var force bool
	var length time.Duration
	cmd := &cobra.Command{
		Use:   "hold CONNECTOR LEVEL --for DURATION",
		Short: "Take a level out for a while: maintenance without an outage",
		Long: `Take LEVEL of CONNECTOR out: data goes to the next level at once, and comes back when the time is over or after
release, by the usual way of probes and a live batch. A hold survives a reload, not a restart. The last level that
could take data is held only with --force: then data is held, too.

` + failoverCodes,
		Example: "  holdfast failover hold failover/traces 0 --for 30m\n" +
			"  holdfast failover hold failover/traces 1 --for 5m --signal traces --force",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := level(args[1])
			if err != nil {
				return err
			}
			if length <= 0 || length > maxHold {
				return fmt.Errorf("--for %s: it must be positive, and %s at most", length, maxHold)
			}
			return f.wish(cmd, "/failover/hold", &operator.LevelRequest{
				Connector: args[0], Signal: signal, Level: n, ForSeconds: length.Seconds(), Force: force,
			}, "held for "+length.String())
		},
	}
	f.register(cmd)
	s := cmd.Flags()
	s.DurationVar(&length, "for", 0, "how long, 24h at most; required")
	s.StringVar(&signal, "signal", "", "traces, metrics, logs or profiles (default: all there are)")
	s.BoolVar(&force, "force", false, "hold the last level that could take data, too")
	return cmd
}

func newFailoverReleaseCommand() *cobra.Command {
	var f instanceFlags
	var signal string
	cmd := &cobra.Command{
		Use:   "release CONNECTOR LEVEL",
		Short: "End a hold, or let a return go on that waits for a person",
		Long: `End the hold of LEVEL of CONNECTOR: it is probed, and returns after a live batch. With return.mode manual, it lets a
level return that has proven itself and waits for this word.

` + failoverCodes,
		Example: "  holdfast failover release failover/traces 0",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := level(args[1])
			if err != nil {
				return err
			}
			return f.wish(cmd, "/failover/release", &operator.LevelRequest{Connector: args[0], Signal: signal, Level: n}, "released")
		},
	}
	f.register(cmd)
	cmd.Flags().StringVar(&signal, "signal", "", "traces, metrics, logs or profiles (default: all there are)")
	return cmd
}

// wish posts an operator's wish and says what came of it.
func (f *instanceFlags) wish(cmd *cobra.Command, path string, req *operator.LevelRequest, done string) error {
	answers, err := f.order(command.Context(cmd), path, req)
	if err != nil {
		return err
	}
	if f.asJSON {
		if err := command.PrintJSON(cmd.OutOrStdout(), answers); err != nil {
			return err
		}
	}
	refused := false
	for _, a := range answers {
		name := fmt.Sprintf("%s (%s) level %d", a.Connector, a.Signal, req.Level)
		switch {
		case a.Error != "":
			refused = true
			fmt.Fprintf(cmd.ErrOrStderr(), "%s: refused: %s\n", name, command.Escape(a.Error))
		case !f.asJSON:
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", name, done)
		}
	}
	if refused {
		return &command.ExitError{Code: exitFailed}
	}
	return nil
}
