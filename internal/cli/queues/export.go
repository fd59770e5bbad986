// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package queues

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/holdfast-telemetry/holdfast/internal/app/replay"
	"github.com/holdfast-telemetry/holdfast/internal/cli/command"
	"github.com/holdfast-telemetry/holdfast/internal/journal/offline"
)

const (
	formatJSON  = "json"
	formatProto = "proto"
	// toStdout is what --to takes for standard output.
	toStdout = "-"
)

type exportFlags struct {
	queueFlags
	to, format       string
	dead, bad, force bool
}

func newQueueExportCommand() *cobra.Command {
	var f exportFlags
	cmd := &cobra.Command{
		Use:   "export NAME --to FILE",
		Short: "Write what waits for a destination into a file",
		Long: `Write the records that wait for a destination into a file, oldest first, as the Collector's file exporter writes them:
one export request as OTLP JSON per line, or with --format proto each request behind its length (u32, big-endian). The
queue keeps them. The file is readable by its owner only and is never overwritten without --force; --to - writes to
stdout. It appears when it is whole.

With --dead it is what the destination rejected for good, with --bad what can still be read of the files that recovery
put into quarantine (records of the journal, whoever they were for).`,
		Example: `  holdfast queue export traces:otlp_grpc/primary --to rescue.jsonl --config config.yaml
  holdfast queue export otlp_grpc/primary --dead --format proto --to dead.bin --dir /var/lib/otelcol/file_storage

Exit codes: 0 all written; 1 something is damaged, what holds was written; 2 could not run.`,
		Args: queueArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error { return cannotRun(f.export(cmd, args[0])) },
	}
	f.register(cmd)
	s := cmd.Flags()
	s.StringVar(&f.to, "to", "", "file to write, or - for stdout (required)")
	s.StringVar(&f.format, "format", formatJSON, "json or proto")
	s.BoolVar(&f.dead, "dead", false, "dead letters: what the destination rejected for good")
	s.BoolVar(&f.bad, "bad", false, "what can be read of quarantined files")
	s.BoolVar(&f.force, "force", false, "replace the file if there is one")
	return cmd
}

// sentDocument says what was written or sent.
type sentDocument struct {
	Records uint64 `json:"records"`
	Items   uint64 `json:"items"`
	Bytes   int64  `json:"bytes"`
	First   uint64 `json:"first"` // numbers
	Last    uint64 `json:"last"`
	Damaged uint64 `json:"damaged"` // stretches and records that could not be read
}

func (d *sentDocument) add(r *offline.Record, bytes int) {
	if d.Records == 0 {
		d.First = uint64(r.Seq)
	}
	d.Last = uint64(r.Seq)
	d.Records++
	d.Items += uint64(r.Items)
	d.Bytes += int64(bytes)
}

func (f *exportFlags) export(cmd *cobra.Command, name string) error {
	switch {
	case f.to == "":
		return errors.New("--to FILE is needed")
	case f.format != formatJSON && f.format != formatProto:
		return fmt.Errorf("--format %q is none of json, proto", f.format)
	case f.dead && f.bad:
		return errors.New("--dead and --bad exclude each other")
	}
	t, err := f.find(cmd, name, f.dead)
	if err != nil {
		return err
	}
	out, err := createExport(cmd, f.to, f.force)
	if err != nil {
		return err
	}
	var sent sentDocument
	var records, bytes atomic.Int64
	stop := tell(cmd, func() string {
		return fmt.Sprintf("queue: %s records, %s written", grouped(uint64(records.Load())), sizeText(bytes.Load()))
	})
	ctx, cancel := signal.NotifyContext(command.Context(cmd), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	visit := func(r *offline.Record) error {
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		b, err := f.encode(r)
		if err != nil {
			sent.Damaged++
			fmt.Fprintf(cmd.ErrOrStderr(), "queue: record %d: %s\n", r.Seq, command.Escape(err.Error()))
			return nil
		}
		sent.add(r, len(b))
		records.Add(1)
		bytes.Add(int64(len(b)))
		_, err = out.Write(b)
		return err
	}
	var missed offline.Missed
	if f.bad {
		missed, err = t.journal.Quarantined(visit)
	} else {
		missed, err = t.walk(f.dead, 0, visit)
	}
	stop()
	if err = out.finish(err); err != nil {
		return fmt.Errorf("export to %q: %w", f.to, err)
	}
	tellMissed(cmd, &missed)
	sent.Damaged += uint64(len(missed.Damage)) + missed.Opaque
	summary := cmd.OutOrStdout()
	if f.to == toStdout {
		summary = cmd.ErrOrStderr()
	}
	if f.asJSON {
		err = command.PrintJSON(summary, sent)
	} else {
		_, err = fmt.Fprintf(summary, "%s: %s, %s, %s written to %s\n", t, counted(sent.Records, "record"), counted(sent.Items, "item"),
			sizeText(sent.Bytes), command.Escape(f.to))
	}
	if err == nil && sent.Damaged > 0 {
		return &command.ExitError{Code: exitQueueDamage, Err: fmt.Errorf("%s stretches or records could not be read", grouped(sent.Damaged))}
	}
	return err
}

// encode is the record as the file has it.
func (f *exportFlags) encode(r *offline.Record) ([]byte, error) {
	req, err := requestOf(r)
	if err != nil {
		return nil, err
	}
	plain, err := replay.PlainRequest(req)
	if err != nil {
		return nil, err
	}
	if f.format == formatProto {
		if len(plain) > math.MaxUint32 {
			return nil, fmt.Errorf("%d bytes do not fit the length field", len(plain))
		}
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(plain))), plain...), nil
	}
	b, err := replay.JSONRequest(req.Signal, plain)
	return append(b, '\n'), err
}

// exportFile is written under another name and gets its own when it is whole and synced.
type exportFile struct {
	*bufio.Writer
	file  *os.File // nil: stdout
	path  string
	force bool
}

func createExport(cmd *cobra.Command, path string, force bool) (*exportFile, error) {
	if path == toStdout {
		return &exportFile{Writer: bufio.NewWriterSize(cmd.OutOrStdout(), 1<<20)}, nil
	}
	if _, err := os.Lstat(path); err == nil && !force {
		return nil, fmt.Errorf("export to %q: it is there already (--force replaces it)", path)
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp") // 0600
	if err != nil {
		return nil, fmt.Errorf("export to %q: %w", path, err)
	}
	return &exportFile{Writer: bufio.NewWriterSize(file, 1<<20), file: file, path: path, force: force}, nil
}

// finish makes the file what was asked for, or takes it away if err says that it is not whole.
func (e *exportFile) finish(err error) error {
	if err == nil {
		err = e.Flush()
	}
	if e.file == nil {
		return err
	}
	if err == nil {
		err = e.file.Sync()
	}
	err = errors.Join(err, e.file.Close())
	name := e.file.Name()
	switch {
	case err != nil:
	case e.force:
		err = os.Rename(name, e.path)
	default: // a name that came to be meanwhile is not overwritten
		err = os.Link(name, e.path)
		if errors.Is(err, fs.ErrExist) || err == nil {
			return errors.Join(err, os.Remove(name))
		}
		if err = noName(e.path); err == nil { // no hard links here
			err = os.Rename(name, e.path)
		}
	}
	if err != nil {
		_ = os.Remove(name) // what is half is not kept
	}
	return err
}

func noName(path string) error {
	_, err := os.Lstat(path)
	if err == nil {
		return fs.ErrExist
	}
	return nil
}

var _ io.Writer = (*exportFile)(nil)
