// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package instance is the commands that talk to a running instance through its admin socket: status, failover, reload, the
// configurations it was offered.
package instance

import (
	"errors"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-telemetry/holdfast/internal/admin"
	"github.com/holdfast-telemetry/holdfast/internal/cli/command"
)

// Exit codes of commands that ask a running instance (reload, section 12; failover, section 15).
const (
	exitFailed      = 1 // the question had no answer, or the probe went badly
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
		return nil, &command.ExitError{Code: exitUnreachable, Err: err}
	}
	return c, nil
}

// asked gives an error of a question its exit code: 4 = nobody answered, else 1.
func asked(err error) error {
	var away *admin.UnreachableError
	if errors.As(err, &away) {
		return &command.ExitError{Code: exitUnreachable, Err: err}
	}
	return err
}
