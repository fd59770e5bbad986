// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package queues

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/holdfast-telemetry/holdfast/internal/cli/command"
	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/journal/offline"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

type dropFlags struct {
	queueFlags
	dead, yes bool
}

func newQueueDropCommand() *cobra.Command {
	var f dropFlags
	cmd := &cobra.Command{
		Use:   "drop NAME --yes",
		Short: "Give up what waits for a destination that is gone",
		Long: `Give up what waits for a parked destination, one that left the configuration. It is booked as dropped, reason
"operator", with an entry in the drop list, and cannot be undone ("queue export" keeps a copy). What waits for a
destination that is still configured cannot be dropped.

With --dead the dead letters of a destination are deleted. They were booked as rejected when they were set aside, and
stay so.

No instance may have the directory open. Without --yes it is only said what would go.`,
		Example: `  holdfast queue drop traces:otlp_grpc/old --yes --config config.yaml
  holdfast queue drop otlp_grpc/primary --dead --yes --dir /var/lib/otelcol/file_storage

Exit codes: 0 dropped, or nothing to drop; 2 could not run, or --yes is missing.`,
		Args: queueArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error { return cannotRun(f.drop(cmd, args[0])) },
	}
	f.register(cmd)
	s := cmd.Flags()
	s.BoolVar(&f.dead, "dead", false, "dead letters: what the destination rejected for good")
	s.BoolVar(&f.yes, "yes", false, "do it")
	return cmd
}

func (f *dropFlags) drop(cmd *cobra.Command, name string) (err error) {
	t, err := f.find(cmd, name, f.dead)
	if err != nil {
		return err
	}
	if !f.dead && t.cursor.Slot.State != queue.Parked {
		return fmt.Errorf("%s is %s, not parked: only what waits for a destination that left the configuration can be dropped",
			t, stateWord(t.cursor.Slot.State))
	}
	if !f.yes {
		n, err := t.waiting(f.dead)
		if err != nil {
			return err
		}
		return fmt.Errorf("%s: %s, %s would be given up for good; --yes does it", t, counted(n.Records, "record"), counted(n.Items, "item"))
	}
	held, err := t.hold(command.Context(cmd))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, held.Close()) }()
	var gone cursor.Count
	if f.dead {
		gone, err = held.DropLetters(t.journal, t.destination)
	} else {
		gone, err = t.dropParked(held)
	}
	if err != nil {
		return err
	}
	if f.asJSON {
		return command.PrintJSON(cmd.OutOrStdout(), countDocument(gone))
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: dropped %s, %s\n", t, counted(gone.Records, "record"), counted(gone.Items, "item"))
	return err
}

// waiting counts what a drop would give up.
func (t *queueTarget) waiting(dead bool) (n cursor.Count, err error) {
	if !dead {
		return cursor.Count{Records: t.cursor.Queued.Records, Items: t.cursor.Queued.Items}, nil
	}
	_, err = t.walk(true, 0, func(r *offline.Record) error {
		n.Add(cursor.Count{Records: 1, Items: uint64(r.Items)})
		return nil
	})
	return n, err
}

// dropParked gives up what waits, and deletes what nobody else needs.
func (t *queueTarget) dropParked(held *offline.Held) (cursor.Count, error) {
	if t.cursor == nil {
		return cursor.Count{}, nil
	}
	books, err := held.Books(t.journal, t.destination)
	if err != nil {
		return cursor.Count{}, err
	}
	d, err := books.Drop(t.cursor.Queued.Items)
	if err = errors.Join(err, books.Close()); err != nil {
		return cursor.Count{}, err
	}
	_, err = held.Recover(t.journal.Name, t.store.wanted(t.journal.Name))
	return d.Count, err
}
