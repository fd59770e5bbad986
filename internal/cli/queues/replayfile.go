// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package queues

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-telemetry/holdfast/internal/app/replay"
	"github.com/holdfast-telemetry/holdfast/internal/cli/command"
	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

type fileReplayFlags struct {
	senderFlags
	settle, asJSON bool
	from           int64
	rate           float64
	signal         string
}

// NewReplay is the command that sends what an emergency file holds.
func NewReplay() *cobra.Command {
	var f fileReplayFlags
	cmd := &cobra.Command{
		Use:   "replay FILE... --to URL",
		Short: "Send what the file exporter wrote",
		Long: `Send what the file exporter wrote, JSON or protobuf, compressed or not, over OTLP: the oldest file first, one request
after the other. Rotated files are told by the time in their names, and go before the present one. It stops at the first
request that is not taken, and prints FILE OFFSET; with --from OFFSET, and FILE as the first of the files, it goes on there.

With --settle FILE is the emergency file of a failover connector, as "path" of its exporter says: what lies under open
receipts is sent, in rotated files too, and what is taken is not owed any more. No instance may have it open. Without
--settle this is a copy, and what is owed is sent by the instance as well.`,
		Example: `  holdfast replay /var/lib/otel/emergency/telemetry.jsonl --to grpc://backend:4317 --settle
  holdfast replay out-*.jsonl out.jsonl --to https://backend:4318 --header api-key=KEY --rate 5000

Exit codes: 0 all sent; 1 stopped, or something is damaged or was refused; 2 could not run.`,
		Args: queueArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error { return cannotRun(f.replay(cmd, args)) },
	}
	s := cmd.Flags()
	f.senderFlags.register(s)
	s.BoolVar(&f.settle, "settle", false, "send what an emergency file owes, and close its receipts")
	s.Int64Var(&f.from, "from", 0, "begin at this offset of the first file")
	s.Float64Var(&f.rate, "rate", 0, "items a second at most; 0 = as fast as it is taken")
	s.StringVar(&f.signal, "signal", "", "traces, metrics, logs or profiles: what records of protobuf hold, which do not say so")
	s.BoolVar(&f.asJSON, "json", false, "print one JSON document to stdout")
	return cmd
}

// FileReplayDocument says how far it came.
type FileReplayDocument struct {
	Requests      uint64 `json:"requests"`
	Items         uint64 `json:"items"`
	RejectedItems uint64 `json:"rejected_items"` // of requests that were taken
	Damaged       uint64 `json:"damaged"`        // records that could not be read
	Settled       bool   `json:"settled"`
	StoppedFile   string `json:"stopped_file"` // with the request that was not taken, empty = none
	StoppedOffset int64  `json:"stopped_offset"`
	Verdict       string `json:"verdict"` // why
	Error         string `json:"error"`
}

// fileReplayer sends one file after the other.
type fileReplayer struct {
	*fileReplayFlags
	cmd    *cobra.Command
	sender exporter.Exporter
	doc    FileReplayDocument
	began  time.Time
	sent   atomic.Uint64
}

func (f *fileReplayFlags) replay(cmd *cobra.Command, files []string) (err error) {
	var of otlp.Signal
	if f.signal != "" {
		known := false
		if of, known = otlp.ParseSignal(f.signal); !known {
			return fmt.Errorf("--signal %q is none of traces, metrics, logs, profiles", f.signal)
		}
	}
	switch {
	case f.rate < 0 || f.from < 0:
		return errors.New("--rate and --from must not be negative")
	case f.settle && (len(files) > 1 || f.from > 0 || f.signal != ""):
		return errors.New("--settle takes the one present file: its receipts know what is owed, and where it is")
	}
	ctx, cancel := signal.NotifyContext(command.Context(cmd), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	sender, err := f.start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sender.Stop(context.WithoutCancel(ctx))) }()
	r := &fileReplayer{fileReplayFlags: f, cmd: cmd, sender: sender, began: time.Now()}
	r.doc.Settled = f.settle
	stop := tell(cmd, func() string { return "replay: " + grouped(r.sent.Load()) + " requests sent" })
	err = r.all(ctx, oldestFirst(files), of)
	stop()
	if err != nil {
		if r.doc.Requests > 0 {
			_ = r.tell() // how far it came; why it could not go on counts more
		}
		return err
	}
	return r.tell()
}

// rotatedAt is the time in the name of a rotated file.
var rotatedAt = regexp.MustCompile(`-(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3})-[a-z]+(\.[^.]*)?$`)

// oldestFirst orders files by the time they were rotated at; a file without one is still written to, and the last.
func oldestFirst(files []string) []string {
	at := func(path string) string {
		if m := rotatedAt.FindStringSubmatch(filepath.Base(path)); m != nil {
			return m[1]
		}
		return "~"
	}
	out := slices.Clone(files)
	slices.SortStableFunc(out, func(a, b string) int { return strings.Compare(at(a), at(b)) })
	return out
}

// all sends every file; nil also where it stopped, which the document says.
func (r *fileReplayer) all(ctx context.Context, files []string, of otlp.Signal) error {
	from := r.from
	for _, path := range files {
		open := func() (replay.WrittenFile, error) { return replay.OpenWritten(path, of, from) }
		if r.settle {
			open = func() (replay.WrittenFile, error) { return replay.OpenOwed(path) }
		}
		f, err := open()
		if err != nil {
			return err
		}
		err = errors.Join(r.one(ctx, f), f.Close(context.WithoutCancel(ctx)))
		if err != nil || r.doc.StoppedFile != "" {
			return err
		}
		from = 0
	}
	return nil
}

func (r *fileReplayer) one(ctx context.Context, f replay.WrittenFile) error {
	for {
		w, err := f.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case replay.Damaged(err):
			r.doc.Damaged++
			fmt.Fprintf(r.cmd.ErrOrStderr(), "replay: %s\n", command.Escape(err.Error()))
			continue
		case err != nil:
			return err
		}
		r.pace(ctx)
		v := exporter.Verdict{}
		if ctx.Err() == nil {
			v = r.sender.Send(ctx, w.Request)
		}
		if ctx.Err() != nil || v.Kind != exporter.Delivered {
			r.stopAt(ctx, &w, &v)
			return nil
		}
		f.Took(w, v.Rejected)
		r.doc.Requests++
		r.doc.Items += uint64(w.Items)
		r.sent.Add(1)
		if v.Rejected > 0 {
			r.doc.RejectedItems += uint64(v.Rejected)
			fmt.Fprintf(r.cmd.ErrOrStderr(), "replay: %s at offset %d: %d of %d items were refused: %s\n", command.Escape(w.File), w.Offset,
				v.Rejected, w.Items, command.Escape(v.Message))
		}
	}
}

// pace waits until so many items may have been sent.
func (r *fileReplayer) pace(ctx context.Context) {
	if r.rate == 0 {
		return
	}
	due := time.NewTimer(time.Until(r.began.Add(time.Duration(float64(r.doc.Items) / r.rate * float64(time.Second)))))
	defer due.Stop()
	select {
	case <-due.C:
	case <-ctx.Done():
	}
}

func (r *fileReplayer) stopAt(ctx context.Context, w *replay.Written, v *exporter.Verdict) {
	r.doc.StoppedFile, r.doc.StoppedOffset, r.doc.Verdict = w.File, w.Offset, v.Kind.String()
	if v.Err != nil {
		r.doc.Error = v.Err.Error()
	}
	if ctx.Err() != nil {
		r.doc.Verdict, r.doc.Error = "interrupted", ""
	}
}

// tell says how far it came; an error if that is not to the end.
func (r *fileReplayer) tell() error {
	d := &r.doc
	out := r.cmd.OutOrStdout()
	switch {
	case r.asJSON:
		if err := command.PrintJSON(out, d); err != nil {
			return err
		}
	case d.StoppedFile != "":
		fmt.Fprintf(out, "%s %d\n", command.Escape(d.StoppedFile), d.StoppedOffset)
	}
	if !r.asJSON {
		text := fmt.Sprintf("replay: %s, %s sent to %s", counted(d.Requests, "request"), counted(d.Items, "item"), r.to)
		if d.Settled {
			text += "; not owed any more"
		}
		fmt.Fprintln(r.cmd.ErrOrStderr(), command.Escape(text))
	}
	var errs []error
	if d.StoppedFile != "" {
		hint := fmt.Sprintf("--from %d goes on there", d.StoppedOffset)
		if d.Settled {
			hint = "the same command goes on there"
		}
		errs = append(errs, fmt.Errorf("stopped: %s %s (%s)", d.Verdict, d.Error, hint))
	}
	if d.RejectedItems > 0 {
		errs = append(errs, fmt.Errorf("%s items were refused", grouped(d.RejectedItems)))
	}
	if d.Damaged > 0 {
		errs = append(errs, fmt.Errorf("%s could not be read", counted(d.Damaged, "record")))
	}
	if len(errs) > 0 {
		return &command.ExitError{Code: exitQueueDamage, Err: errors.Join(errs...)}
	}
	return nil
}
