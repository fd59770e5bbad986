// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package instance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-telemetry/holdfast/internal/app"
	"github.com/holdfast-telemetry/holdfast/internal/cli/command"
	"github.com/holdfast-telemetry/holdfast/internal/reload"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// Exit codes of reload (reload, section 12).
const (
	exitRejected   = 1
	exitRolledBack = 2
	exitTimeout    = 3
)

// NewReload is the command that lets a running instance read its configuration again.
func NewReload() *cobra.Command {
	var f instanceFlags
	var req app.ReloadRequest
	timeout := 3 * time.Minute
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Let the running instance read its configuration again, and say what comes of it",
		Long: `Let the running instance read its configuration again. What is refused changes nothing: the old one goes on. What is
taken is on trial first, 60 s unless service::reload::trial says otherwise, and is taken back if it does no good where
the old one did. With --wait the command waits for the end of that and says why.

With --expect HASH it waits until the sources say that, at most 120 s: a file that is mounted arrives when it arrives.
HASH is what sha256sum says of the file. --force tries what was rolled back a moment ago, and asks no backend first.

` + whichInstance + `

Exit codes: 0 committed or unchanged, or asked for without --wait; 1 rejected; 2 rolled back or superseded; 3 the time ran
out; 4 no instance answers.`,
		Example: `  holdfast reload --wait
  holdfast reload --wait --expect $(sha256sum /etc/holdfast/config.yaml | cut -d' ' -f1)`,
		Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(command.Context(cmd), timeout+askTime)
			defer cancel()
			c, err := f.client()
			if err != nil {
				return err
			}
			req.TimeoutSeconds = timeout.Seconds()
			var answer app.ReloadAnswer
			if err := c.Post(ctx, "/reload", req, &answer); err != nil {
				return asked(err)
			}
			if f.asJSON {
				err = command.PrintJSON(cmd.OutOrStdout(), answer)
			} else {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), strings.TrimSpace(answer.Outcome+" "+answer.Text))
			}
			if err != nil || !req.Wait {
				return err
			}
			return reloadCode(&answer)
		},
	}
	f.register(cmd)
	s := cmd.Flags()
	s.BoolVar(&req.Wait, "wait", false, "wait until it is committed, rejected or rolled back")
	s.DurationVar(&timeout, "timeout", timeout, "how long to wait")
	s.StringVar(&req.Expect, "expect", "", "SHA-256 that the sources must have first")
	s.BoolVar(&req.Force, "force", false, "try what was rolled back, and skip the preflight")
	return cmd
}

func reloadCode(a *app.ReloadAnswer) error {
	switch reload.Outcome(a.Outcome) {
	case reload.Committed, reload.Unchanged:
		return nil
	case reload.Rejected:
		return &command.ExitError{Code: exitRejected, Err: errors.New("the configuration was rejected: " + a.Reason)}
	case "":
		return &command.ExitError{Code: exitTimeout, Err: errors.New("the time ran out")}
	}
	return &command.ExitError{Code: exitRolledBack, Err: errors.New("the configuration does not run: " + a.Outcome + ", " + a.Reason)}
}

// NewConfig is the commands about the configurations an instance was offered.
func NewConfig() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Look at the configurations an instance was offered", Args: command.NoArgs}
	cmd.AddCommand(newConfigHistoryCommand())
	return cmd
}

func newConfigHistoryCommand() *cobra.Command {
	var f instanceFlags
	var uris []string
	cmd := &cobra.Command{
		Use:   "history",
		Short: "List the configurations that were tried, the newest first",
		Long: `List the configurations that were tried, the newest first: generation, time, hash, who asked, what became of it, and why.
A running instance is asked; with --config, and the same URIs as it was started with, its state directory is read, which
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
			fmt.Fprintln(w, "GENERATION\tTIME\tSHA256\tSOURCE\tSTATE\tREASON\tTEXT")
			for i := range all {
				e := &all[i]
				line, _, _ := strings.Cut(e.Text, "\n")
				fmt.Fprintf(w, "%d\t%s\t%.12s\t%s\t%s\t%s\t%s\n", e.Generation, e.Time.UTC().Format(time.RFC3339), e.Hash, e.Source,
					e.State, e.Reason, line)
			}
			return w.Flush()
		},
	}
	f.register(cmd)
	cmd.Flags().StringArrayVar(&uris, "config", nil, "read the state directory of an instance started with these URIs")
	return cmd
}

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
