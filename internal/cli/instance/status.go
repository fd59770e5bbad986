// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package instance

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-telemetry/holdfast/internal/cli/command"
	"github.com/holdfast-telemetry/holdfast/internal/status"
)

// NewStatus is the command that says how the running instance is.
func NewStatus() *cobra.Command {
	var f instanceFlags
	var expect string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say how the running instance is: one verdict, its causes, and what they stand on",
		Long: `Say how the running instance is. The first line is the verdict: ok; degraded: data flows, and not as it should, such as
with a level down beside one that delivers; failing: a destination delivers nothing; unhealthy: data is held or
refused. The causes follow, worst first, then the configuration that runs, the books, every queue with its age, its
rates and when it will be full or empty, every level with what has to come before it carries again, and the disks.

With --expect HASH it also asks whether that configuration runs; HASH is what sha256sum says of the file, or its
first digits, eight at least.

` + whichInstance + `

Exit codes: 0 ok; 1 degraded, or another configuration runs; 2 failing or unhealthy; 4 no instance answers.`,
		Example: `  holdfast status
  holdfast status --json | jq '.causes, .failover[].active_level'
  holdfast status --expect $(sha256sum /etc/holdfast/config.yaml | cut -d' ' -f1)`,
		Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(command.Context(cmd), askTime)
			defer cancel()
			if expect != "" && len(expect) < minExpect {
				return fmt.Errorf("--expect %q: give eight digits of the hash at least", expect)
			}
			s, err := f.status(ctx)
			if err != nil {
				return err
			}
			if f.asJSON {
				err = command.PrintJSON(cmd.OutOrStdout(), s)
			} else {
				_, err = fmt.Fprint(cmd.OutOrStdout(), status.Text(s))
			}
			if err != nil {
				return err
			}
			return verdictCode(s, expect)
		},
	}
	f.register(cmd)
	cmd.Flags().StringVar(&expect, "expect", "", "SHA-256 of the configuration that should run, or its first digits")
	return cmd
}

// minExpect digits of a hash are enough to tell configurations apart.
const minExpect = 8

func (f *instanceFlags) status(ctx context.Context) (*status.Status, error) {
	c, err := f.client()
	if err != nil {
		return nil, err
	}
	var s status.Status
	if err := c.Get(ctx, "/status", &s); err != nil {
		return nil, asked(err)
	}
	return &s, nil
}

// verdictCode is how the command ends. What is worse counts.
func verdictCode(s *status.Status, expect string) error {
	v := status.ParseVerdict(s.Verdict)
	if v >= status.Failing {
		return &command.ExitError{Code: exitUnhealthy}
	}
	if running := s.Config.Running.SHA256; !strings.HasPrefix(strings.ToLower(running), strings.ToLower(expect)) {
		return &command.ExitError{Code: exitDegraded, Err: fmt.Errorf("another configuration runs: its hash is %s, expected was %s", running, expect)}
	}
	if v == status.Degraded {
		return &command.ExitError{Code: exitDegraded}
	}
	return nil
}
