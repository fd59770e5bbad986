// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package instance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-telemetry/holdfast/internal/admin"
	"github.com/holdfast-telemetry/holdfast/internal/app/operator"
	"github.com/holdfast-telemetry/holdfast/internal/cli/command"
	"github.com/holdfast-telemetry/holdfast/internal/reload"
)

// How long a command waits for the end of a trial, and how often it looks whether that has come.
const (
	trialTimeout = 3 * time.Minute
	lookEvery    = 500 * time.Millisecond
)

// trialFlags are those of a command that puts a configuration on trial.
type trialFlags struct {
	req     operator.ReloadRequest
	timeout time.Duration
	confirm time.Duration
}

func (t *trialFlags) register(cmd *cobra.Command) {
	s := cmd.Flags()
	s.BoolVar(&t.req.Wait, "wait", false, "wait until it is committed, rejected or rolled back")
	s.DurationVar(&t.timeout, "timeout", trialTimeout, "how long to wait; with --confirm that much longer")
	s.BoolVar(&t.req.Force, "force", false, "try what was rolled back, and skip the preflight")
	s.DurationVar(&t.confirm, "confirm", 0, "take it back after this time (1s to 24h) unless \"holdfast config confirm\" comes")
}

// offer asks for a trial and says what comes of it, at its beginning or at its end.
func (t *trialFlags) offer(cmd *cobra.Command, f *instanceFlags, path string, request func() any) error {
	if cmd.Flags().Changed("confirm") && (t.confirm < reload.MinConfirm || t.confirm > reload.MaxConfirm) {
		return fmt.Errorf("--confirm %s: between %s and %s are possible", t.confirm, reload.MinConfirm, reload.MaxConfirm)
	}
	ctx, cancel := context.WithTimeout(command.Context(cmd), t.timeout+t.confirm+askTime)
	defer cancel()
	c, err := f.client()
	if err != nil {
		return err
	}
	wait := t.req.Wait
	if t.confirm > 0 { // it is said how to confirm it, and then waited for that
		t.req.Wait = false
	}
	t.req.TimeoutSeconds, t.req.ConfirmSeconds = t.timeout.Seconds(), t.confirm.Seconds()
	var answer operator.ReloadAnswer
	if err := c.Post(ctx, path, request(), &answer); err != nil {
		return asked(err)
	}
	if wait && answer.Outcome == string(reload.OnTrial) {
		f.printBegun(cmd.ErrOrStderr(), &answer)
		if answer, err = t.end(ctx, c, &answer); err != nil {
			return err
		}
	}
	if err := f.print(cmd.OutOrStdout(), &answer); err != nil {
		return err
	}
	if answer.Outcome == "" && request() == any(operator.ReloadRequest{TimeoutSeconds: t.req.TimeoutSeconds}) {
		return nil // it was only asked for
	}
	return reloadCode(&answer)
}

// print says what came of it, or how to confirm it.
func (f *instanceFlags) print(to io.Writer, a *operator.ReloadAnswer) error {
	if f.asJSON {
		return command.PrintJSON(to, a)
	}
	if a.Outcome == string(reload.OnTrial) {
		f.printBegun(to, a)
		return nil
	}
	_, err := fmt.Fprintln(to, strings.TrimSpace(a.Outcome+" "+a.Text))
	return err
}

// printBegun says what to do next.
func (f *instanceFlags) printBegun(to io.Writer, a *operator.ReloadAnswer) {
	if a.ConfirmUntil.IsZero() {
		fmt.Fprintf(to, "trial generation %d runs, and stays if it does no harm", a.Generation)
		if a.Text != "" {
			fmt.Fprintf(to, "; %s", a.Text)
		}
		fmt.Fprintln(to)
		return
	}
	fmt.Fprintf(to, `trial: generation %d runs, for %s. To keep it, or to take it back now:

    holdfast config confirm%s
    holdfast config rollback%s

Else %s.
`, a.Generation, time.Until(a.ConfirmUntil).Round(time.Second), f.again(), f.again(), a.Text)
}

// again are the flags by which the same instance is found again.
func (f *instanceFlags) again() string {
	text := ""
	if f.stateDir != "" {
		text += " --state-dir " + f.stateDir
	}
	if f.socket != "" {
		text += " --admin-socket " + f.socket
	}
	return text
}

// end waits until the history says what became of a trial.
func (t *trialFlags) end(ctx context.Context, c *admin.Client, begun *operator.ReloadAnswer) (operator.ReloadAnswer, error) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		var all []reload.Entry
		if err := c.Get(ctx, "/config/history", &all); err != nil && ctx.Err() == nil {
			return operator.ReloadAnswer{}, asked(fmt.Errorf("while it was on trial: %w", err))
		}
		if i := slices.IndexFunc(all, func(e reload.Entry) bool { return ends(&e, begun) }); i >= 0 {
			e := &all[i]
			return operator.ReloadAnswer{Outcome: string(e.State), Generation: begun.Generation, SHA256: e.Hash, Evidence: string(e.Evidence),
				Reason: string(e.Reason), Text: e.Text}, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return operator.ReloadAnswer{Generation: begun.Generation, SHA256: begun.SHA256, Text: "still on trial"}, nil
			}
			return operator.ReloadAnswer{}, ctx.Err()
		}
	}
}

// ends reports whether an entry is what became of a trial: the history counts what ends the same way several times in one
// entry, under the last number.
func ends(e *reload.Entry, begun *operator.ReloadAnswer) bool {
	switch e.State {
	case reload.Committed, reload.RolledBack, reload.Superseded, reload.Stuck:
	default:
		return false
	}
	g := reload.Generation(begun.Generation)
	return e.Generation == g || e.Times > 1 && e.Generation > g && e.Hash == begun.SHA256
}
