// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-telemetry/holdfast/internal/admin"
	"github.com/holdfast-telemetry/holdfast/internal/status"
)

// Exit codes of commands that ask a running instance (reload, section 12; failover, section 15).
const (
	exitDegraded    = 1
	exitUnhealthy   = 2
	exitUnreachable = 4
)

// askTime bounds a question that is answered at once.
const askTime = 10 * time.Second

// instanceFlags say which running instance is meant.
type instanceFlags struct {
	stateDir, socket string
	asJSON           bool
}

func (f *instanceFlags) register(cmd *cobra.Command) {
	s := cmd.Flags()
	s.StringVar(&f.stateDir, "state-dir", "", "state directory of the instance (default: where one is found, see --help)")
	s.StringVar(&f.socket, "admin-socket", "", "socket of the instance (default STATE_DIR/admin.sock)")
	s.BoolVar(&f.asJSON, "json", false, "print one JSON document")
}

// whichInstance is what every such command says of finding it.
const whichInstance = `The instance is found by --admin-socket, --state-dir, $HOLDFAST_STATE_DIR or $STATE_DIRECTORY, else at
/var/lib/holdfast and in the storage directories that are common. Run it as the user that runs holdfast, or as root.`

// client finds the instance.
func (f *instanceFlags) client() (*admin.Client, error) {
	c, err := admin.Find(admin.Sockets(f.socket, f.stateDir, os.Getenv))
	if err != nil {
		return nil, &ExitError{exitUnreachable, err}
	}
	return c, nil
}

// asked gives an error of a question its exit code: 4 = nobody answered, else 1.
func asked(err error) error {
	var away *admin.UnreachableError
	if errors.As(err, &away) {
		return &ExitError{exitUnreachable, err}
	}
	return err
}

func newStatusCommand() *cobra.Command {
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
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(commandContext(cmd), askTime)
			defer cancel()
			if expect != "" && len(expect) < minExpect {
				return fmt.Errorf("--expect %q: give eight digits of the hash at least", expect)
			}
			s, err := f.status(ctx)
			if err != nil {
				return err
			}
			if f.asJSON {
				err = printJSON(cmd.OutOrStdout(), s)
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
		return &ExitError{Code: exitUnhealthy}
	}
	if running := s.Config.Running.SHA256; !strings.HasPrefix(strings.ToLower(running), strings.ToLower(expect)) {
		return &ExitError{exitDegraded, fmt.Errorf("another configuration runs: its hash is %s, expected was %s", running, expect)}
	}
	if v == status.Degraded {
		return &ExitError{Code: exitDegraded}
	}
	return nil
}
