// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-telemetry/holdfast/internal/drill"
	"github.com/holdfast-telemetry/holdfast/internal/ledger"
)

func newDemoCommand() *cobra.Command {
	var (
		dir     string
		keep    bool
		seconds int
	)
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Watch an outage: a backend goes away and comes back, the ledger judges",
		Long: `Demo starts two backends, a Holdfast process that sends everything to both, and load. It takes one backend away,
brings it back, waits until its backlog has drained, and prints the ledger's verdict: every acknowledged item must be
at both backends, as it was sent. Everything runs on loopback and is gone afterwards.

Exit codes: 0 pass; 1 fail; 2 inconclusive; 3 could not run.`,
		Example: `  holdfast demo
  holdfast demo --seconds 60 --dir ./outage --keep`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if seconds < 8 {
				return fmt.Errorf("--seconds %d is too short for an outage (8 at least)", seconds)
			}
			v, err := demo(cmd, dir, keep, time.Duration(seconds)*time.Second)
			if err != nil {
				return &ExitError{Code: exitCannotRun, Err: err}
			}
			fmt.Fprint(cmd.OutOrStdout(), v.Text())
			if v.Outcome != ledger.Pass {
				return &ExitError{Code: v.Outcome.ExitCode()}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "where configuration, log and notes go (default: a temporary directory)")
	cmd.Flags().BoolVar(&keep, "keep", false, "keep the directory")
	cmd.Flags().IntVar(&seconds, "seconds", 30, "how long telemetry is sent")
	return cmd
}

func demo(cmd *cobra.Command, dir string, keep bool, load time.Duration) (*ledger.Verdict, error) {
	ctx := commandContext(cmd)
	binary, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if dir == "" {
		if dir, err = os.MkdirTemp("", "holdfast-demo-*"); err != nil {
			return nil, err
		}
		if keep {
			fmt.Fprintln(cmd.ErrOrStderr(), "notes are kept in", dir)
		} else {
			defer os.RemoveAll(dir)
		}
	} else if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	return drill.Outage(ctx, drill.Options{Binary: binary, Dir: dir, Load: load, Events: cmd.OutOrStdout()})
}
