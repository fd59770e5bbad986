// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package queues

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/holdfast-telemetry/holdfast/internal/cli/command"
	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/journal/offline"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

type replayFlags struct {
	queueFlags
	senderFlags
	dead, resolve bool
	from          uint64
}

func newQueueReplayCommand() *cobra.Command {
	var f replayFlags
	cmd := &cobra.Command{
		Use:   "replay NAME --to URL",
		Short: "Send what waits for a destination somewhere else",
		Long: `Send the records that wait for a destination to another endpoint, oldest first, one after the other, each request as it
came. It stops at the first that is not taken, and says how far it came; --from goes on there.

Without --resolve this is a copy: the queue keeps what was sent, and the destination gets it too. With --resolve what was
taken is booked as delivered and leaves the queue; for that no instance may have the directory open. If the command
dies, the records of the last moment are sent again the next time.

With --dead what the destination rejected for good is sent. With --resolve too, what was taken whole is booked as
delivered instead of rejected, and is no longer set aside.`,
		Example: `  holdfast queue replay traces:otlp_grpc/primary --to grpc://other-backend:4317 --config config.yaml
  holdfast queue replay otlp_grpc/old --to https://backend:4318 --header api-key=KEY --resolve --dir /var/lib/otelcol/file_storage

Exit codes: 0 all sent; 1 not all was sent, or something is damaged; 2 could not run.`,
		Args: queueArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error { return cannotRun(f.replay(cmd, args[0])) },
	}
	f.queueFlags.register(cmd)
	s := cmd.Flags()
	f.senderFlags.register(s)
	s.BoolVar(&f.dead, "dead", false, "dead letters: what the destination rejected for good")
	s.BoolVar(&f.resolve, "resolve", false, "book what is taken as delivered; needs the lock")
	s.Uint64Var(&f.from, "from", 0, "begin with the record of this number, or the next one that waits")
	return cmd
}

// ReplayDocument says how far a replay came.
type ReplayDocument struct {
	sentDocument
	RejectedItems uint64 `json:"rejected_items"` // of requests that were taken
	Resolved      bool   `json:"resolved"`
	StoppedAt     uint64 `json:"stopped_at"` // number of the record that was not taken, 0 = none
	Verdict       string `json:"verdict"`    // why
	Error         string `json:"error"`
}

// errStopped ends the walk; why is in the document.
var errStopped = errors.New("stopped")

func (f *replayFlags) replay(cmd *cobra.Command, name string) (err error) {
	if _, err := f.keys(); err != nil {
		return err
	}
	t, err := f.find(cmd, name, f.dead)
	if err != nil {
		return err
	}
	ctx, cancel := signal.NotifyContext(command.Context(cmd), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	sender, err := f.start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sender.Stop(context.WithoutCancel(ctx))) }()

	r := &replayer{flags: f, ctx: ctx, cmd: cmd, target: t, sender: sender}
	if f.resolve {
		held, err := t.hold(ctx)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, held.Close()) }()
		r.held = held
	}
	return r.run()
}

// replayer sends the records of one target.
type replayer struct {
	flags  *replayFlags
	ctx    context.Context // of one run of the command
	cmd    *cobra.Command
	target *queueTarget
	sender exporter.Exporter
	held   *offline.Held // nil: nothing is booked
	books  *offline.Books
	taken  cursor.Set // dead letters that were
	doc    ReplayDocument
	sent   atomic.Uint64
}

func (r *replayer) run() error {
	if r.held != nil && r.target.cursor != nil {
		var err error
		if r.books, err = r.held.Books(r.target.journal, r.target.destination); err != nil {
			return err
		}
	}
	r.doc.Resolved = r.held != nil
	stop := tell(r.cmd, func() string { return "queue: " + grouped(r.sent.Load()) + " records sent" })
	missed, err := r.target.walk(r.flags.dead, queue.Seq(r.flags.from), r.send)
	stop()
	if errors.Is(err, errStopped) {
		err = nil
	}
	err = errors.Join(err, r.settle())
	tellMissed(r.cmd, &missed)
	r.doc.Damaged += uint64(len(missed.Damage)) + missed.Opaque
	if err != nil {
		_ = r.tell() // how far it came; why it could not go on counts more
		return err
	}
	return r.tell()
}

// settle writes down what was taken.
func (r *replayer) settle() error {
	var errs []error
	if r.held != nil && r.flags.dead { // letters first: what was deleted and not booked is still booked as rejected
		n, err := r.held.DropDelivered(r.target.journal, &r.taken)
		if errs = append(errs, err); r.books != nil {
			errs = append(errs, r.books.Redeem(n))
		}
	}
	if r.books == nil {
		return errors.Join(errs...)
	}
	errs = append(errs, r.books.Close())
	if err := errors.Join(errs...); err != nil {
		return err
	}
	// What everybody has resolved goes.
	_, err := r.held.Recover(r.target.journal.Name, r.target.store.wanted(r.target.journal.Name))
	return err
}

// send sends one record. What is no request any more is passed over: it would never be taken.
func (r *replayer) send(rec *offline.Record) error {
	req, err := requestOf(rec)
	if err != nil {
		r.doc.Damaged++
		fmt.Fprintf(r.cmd.ErrOrStderr(), "queue: record %d: %s\n", rec.Seq, command.Escape(err.Error()))
		return nil
	}
	if r.ctx.Err() != nil {
		return r.stop(rec, "interrupted", "")
	}
	v := r.sender.Send(r.ctx, req)
	if v.Kind != exporter.Delivered {
		text := ""
		if v.Err != nil {
			text = v.Err.Error()
		}
		word := v.Kind.String()
		if r.ctx.Err() != nil {
			word = "interrupted"
		}
		return r.stop(rec, word, text)
	}
	switch {
	case r.flags.dead && v.Rejected == 0:
		r.taken.Add(rec.Seq, rec.Seq)
	case !r.flags.dead && r.books != nil:
		if err := r.books.Deliver(rec, v.Rejected); err != nil {
			return err
		}
	}
	if v.Rejected > 0 {
		r.doc.RejectedItems += uint64(v.Rejected)
		fmt.Fprintf(r.cmd.ErrOrStderr(), "queue: record %d: %d of %d items were refused: %s\n", rec.Seq, v.Rejected, rec.Items, command.Escape(v.Message))
	}
	r.doc.add(rec, len(rec.Body))
	r.sent.Add(1)
	return nil
}

func (r *replayer) stop(rec *offline.Record, verdict, text string) error {
	r.doc.StoppedAt, r.doc.Verdict, r.doc.Error = uint64(rec.Seq), verdict, text
	return errStopped
}

// tell says how far it came; an error if that is not to the end.
func (r *replayer) tell() error {
	d := &r.doc
	if r.flags.asJSON {
		if err := command.PrintJSON(r.cmd.OutOrStdout(), d); err != nil {
			return err
		}
	} else {
		text := fmt.Sprintf("%s: %s, %s sent to %s", r.target, counted(d.Records, "record"), counted(d.Items, "item"), r.flags.to)
		if d.Records > 0 {
			text += fmt.Sprintf(", up to record %s", grouped(d.Last))
		}
		if d.Resolved {
			text += "; booked as delivered"
		} else {
			text += "; a copy: the queue keeps them"
		}
		fmt.Fprintln(r.cmd.OutOrStdout(), command.Escape(text))
	}
	var errs []error
	if d.StoppedAt > 0 {
		errs = append(errs, fmt.Errorf("stopped at record %d: %s %s (--from %d goes on there)", d.StoppedAt, d.Verdict, d.Error, d.StoppedAt))
	}
	if d.RejectedItems > 0 {
		errs = append(errs, fmt.Errorf("%s items were refused", grouped(d.RejectedItems)))
	}
	if d.Damaged > 0 {
		errs = append(errs, fmt.Errorf("%s stretches or records could not be read", grouped(d.Damaged)))
	}
	if len(errs) > 0 {
		return &command.ExitError{Code: exitQueueDamage, Err: errors.Join(errs...)}
	}
	return nil
}
