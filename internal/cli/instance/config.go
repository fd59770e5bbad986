// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package instance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-telemetry/holdfast/internal/app/operator"
	"github.com/holdfast-telemetry/holdfast/internal/cli/command"
	"github.com/holdfast-telemetry/holdfast/internal/reload"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// NewConfig is the commands about the configurations an instance was offered.
func NewConfig() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Look at the configurations an instance was offered, confirm one, go back to one",
		Args: command.NoArgs}
	cmd.AddCommand(newConfigHistoryCommand(), newConfigConfirmCommand(), newConfigRollbackCommand())
	return cmd
}

func newConfigRollbackCommand() *cobra.Command {
	var f instanceFlags
	var t trialFlags
	cmd := &cobra.Command{
		Use:   "rollback [GENERATION]",
		Short: "Run the configuration again that ran before, or an older one that is stored",
		Long: `Run the configuration again that ran before the one that runs now, or that of a GENERATION that "holdfast config history"
lists as stored: the last ten that were committed, each text once. In a trial what ran before it takes over at once. Otherwise
the stored text is offered as a new generation and goes the way of a reload: it is read with the variables and files of now,
checked, built, asked whether it can deliver, and on trial; what is refused changes nothing, and what does harm is taken back.

The files of --config are neither read for it nor changed. As long as they say something else, that is drift: "holdfast status"
is degraded, and the next reload, signal or restart runs what they say. The answer says so. Put the text you want there, and reload.

The command returns when the configuration runs, with --wait when its trial is over. --confirm is as for "holdfast reload"; in a
trial that waits for "holdfast config confirm" a rollback is the opposite of that.

` + whichInstance + `

Exit codes: 0 it runs, with --wait: it is committed; 1 refused, or there is none to go back to; 2 rolled back or superseded; 3 the
time ran out; 4 no instance answers.`,
		Example: `  holdfast config rollback
  holdfast config history && holdfast config rollback 12 --wait
  holdfast config rollback --confirm 5m`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var to uint64
			if len(args) > 0 {
				var err error
				if to, err = strconv.ParseUint(args[0], 10, 63); err != nil || to == 0 {
					return fmt.Errorf("%q is no generation (see holdfast config history)", args[0])
				}
			}
			return t.offer(cmd, &f, "/config/rollback", func() any { return operator.RollbackRequest{ReloadRequest: t.req, To: to} })
		},
	}
	f.register(cmd)
	t.register(cmd)
	return cmd
}

func newConfigConfirmCommand() *cobra.Command {
	var f instanceFlags
	var req operator.ConfirmRequest
	cmd := &cobra.Command{
		Use:   "confirm",
		Short: "Keep the configuration that waits to be confirmed",
		Long: `Keep the configuration that runs since "holdfast reload --confirm TIME" and waits for this: it is committed at once, and is
the good one that a restart falls back to. Look at "holdfast status" before: afterwards nothing takes it back by itself.

With --expect HASH it is confirmed only if it is that one; HASH is what sha256sum says of the file, or its first digits,
eight at least.

` + whichInstance + `

Exit codes: 0 it stays; 1 nothing waits to be confirmed, or something else does; 3 the time ran out, it may or may not stay;
4 no instance answers.`,
		Example: `  holdfast config confirm
  holdfast config confirm --expect $(sha256sum /etc/holdfast/config.yaml | cut -d' ' -f1)`,
		Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(command.Context(cmd), askTime)
			defer cancel()
			if req.Expect != "" && len(req.Expect) < minExpect {
				return fmt.Errorf("--expect %q: give eight digits of the hash at least", req.Expect)
			}
			c, err := f.client()
			if err != nil {
				return err
			}
			var answer operator.ReloadAnswer
			if err := c.Post(ctx, "/config/confirm", req, &answer); err != nil {
				return asked(err)
			}
			if answer.Outcome == string(reload.Rejected) && !f.asJSON {
				return &command.ExitError{Code: exitRejected, Err: errors.New(answer.Text)}
			}
			if err := f.print(cmd.OutOrStdout(), &answer); err != nil {
				return err
			}
			if answer.Outcome == string(reload.Rejected) {
				return &command.ExitError{Code: exitRejected}
			}
			return reloadCode(&answer)
		},
	}
	f.register(cmd)
	cmd.Flags().StringVar(&req.Expect, "expect", "", "SHA-256 of the configuration that is meant, or its first digits")
	return cmd
}

func newConfigHistoryCommand() *cobra.Command {
	var f instanceFlags
	var uris []string
	cmd := &cobra.Command{
		Use:   "history",
		Short: "List the configurations that were tried, the newest first",
		Long: `List the configurations that were tried, the newest first: generation, time, hash, who asked, what became of it, whether its text
is stored so that "holdfast config rollback" can go back to it, and why. A running instance is asked; with --config, and the same URIs as it was started with, its state directory is read, which
needs no instance.

` + whichInstance + `

Exit codes: 0 there are some; 1 there are none; 4 no instance answers.`,
		Example: `  holdfast config history
  holdfast config history --config /etc/holdfast/config.yaml --state-dir /var/lib/holdfast --json`,
		Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(command.Context(cmd), askTime)
			defer cancel()
			all, err := f.history(ctx, uris)
			if err != nil {
				return err
			}
			if len(all) == 0 {
				return &command.ExitError{Code: exitRejected, Err: errors.New("no configuration was tried")}
			}
			if f.asJSON {
				return command.PrintJSON(cmd.OutOrStdout(), all)
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "GENERATION\tTIME\tSHA256\tSOURCE\tSTATE\tSTORED\tREASON\tTEXT")
			for i := range all {
				e := &all[i]
				line, _, _ := strings.Cut(e.Text, "\n")
				fmt.Fprintf(w, "%d\t%s\t%.12s\t%s\t%s\t%s\t%s\t%s\n", e.Generation, e.Time.UTC().Format(time.RFC3339), e.Hash, e.Source,
					e.State, stored[e.Stored], e.Reason, line)
			}
			return w.Flush()
		},
	}
	f.register(cmd)
	cmd.Flags().StringArrayVar(&uris, "config", nil, "read the state directory of an instance started with these URIs")
	return cmd
}

var stored = map[bool]string{true: "yes", false: "-"}

func (f *instanceFlags) history(ctx context.Context, uris []string) ([]reload.Entry, error) {
	if len(uris) > 0 {
		var errs []error
		for _, place := range reload.Places(f.stateDir, os.Getenv, nil) {
			all, err := reload.ReadHistory(vfs.OS(), place.Dir, uris)
			if err == nil && len(all) > 0 {
				return all, nil
			}
			errs = append(errs, err)
		}
		return nil, errors.Join(errs...)
	}
	c, err := f.client()
	if err != nil {
		return nil, err
	}
	var all []reload.Entry
	return all, asked(c.Get(ctx, "/config/history", &all))
}
