// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package instance

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/holdfast-telemetry/holdfast/internal/app/operator"
	"github.com/holdfast-telemetry/holdfast/internal/cli/command"
	"github.com/holdfast-telemetry/holdfast/internal/reload"
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
	var t trialFlags
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Let the running instance read its configuration again, and say what comes of it",
		Long: `Let the running instance read its configuration again. What is refused changes nothing: the old one goes on. What is
taken is on trial first, 60 s unless service::reload::trial says otherwise, and is taken back if it does no good where
the old one did. With --wait the command waits for the end of that and says why.

With --confirm TIME nothing but you ends the trial well: if "holdfast config confirm" does not come within that time, what
ran before runs again. So it does when the process is stopped or dies before, and at its next start. It is for changes that
may cut you off, or whose harm no counter shows. The command returns when the configuration runs and says until when it has
to be confirmed; with --wait it stays until somebody did or nobody. What nobody confirmed is held: no signal and no restart
brings it back, only another text, --confirm again, or --force.

With --expect HASH it waits until the sources say that, at most 120 s: a file that is mounted arrives when it arrives.
HASH is what sha256sum says of the file. --force tries what was rolled back a moment ago, and asks no backend first.

` + whichInstance + `

Exit codes: 0 committed or unchanged, or it runs and has to be confirmed, or asked for without --wait; 1 rejected; 2 rolled
back or superseded; 3 the time ran out; 4 no instance answers.`,
		Example: `  holdfast reload --wait
  holdfast reload --wait --expect $(sha256sum /etc/holdfast/config.yaml | cut -d' ' -f1)
  holdfast reload --confirm 5m && holdfast status && holdfast config confirm`,
		Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return t.offer(cmd, &f, "/reload", func() any { return t.req })
		},
	}
	f.register(cmd)
	t.register(cmd)
	cmd.Flags().StringVar(&t.req.Expect, "expect", "", "SHA-256 that the sources must have first")
	return cmd
}

func reloadCode(a *operator.ReloadAnswer) error {
	switch reload.Outcome(a.Outcome) {
	case reload.Committed, reload.Unchanged, reload.OnTrial:
		return nil
	case reload.Rejected:
		return &command.ExitError{Code: exitRejected, Err: errors.New("the configuration was rejected: " + a.Reason)}
	case "":
		return &command.ExitError{Code: exitTimeout, Err: errors.New("the time ran out")}
	}
	return &command.ExitError{Code: exitRolledBack, Err: errors.New("the configuration does not run: " + a.Outcome + ", " + a.Reason)}
}
