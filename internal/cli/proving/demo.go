// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package proving

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-telemetry/holdfast/internal/cli/command"
	"github.com/holdfast-telemetry/holdfast/internal/drill/demo"
	"github.com/holdfast-telemetry/holdfast/internal/ledger"
)

type demoFlags struct {
	dir, status string
	keep        bool
	seconds     int
}

// NewDemo is the command that plays an outage to watch.
func NewDemo() *cobra.Command {
	var f demoFlags
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Watch an outage: backends go away, the collector is killed, the ledger judges",
		Long: `Demo starts two backends, a load of numbered telemetry, and a Holdfast process with a failover connector: primary,
secondary, emergency file, behind a queue on disk. Then it lets the primary go away, kills the process with kill -9 and
starts it again, lets the secondary go away too, and brings both back. Every event is a line, as it happens: demo is what
was done, log what the collector's log said, stat what its status showed. Then the ledger's table: every item that was
acknowledged must have reached a backend.

A short control run without an outage comes first. Everything runs on a loopback address of its own and in a directory
of its own, and is gone afterwards, also after Ctrl-C; with --keep, or when the verdict is not pass, the directory stays.

Exit codes: 0 pass; 1 fail, or wrong usage; 2 inconclusive; 3 could not run, or interrupted.`,
		Example: `  holdfast demo
  holdfast demo --seconds 300 --status 127.0.0.1:8080
  holdfast demo --dir ./outage --keep`,
		Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if least := int(demo.MinLength.Seconds()); f.seconds < least {
				return fmt.Errorf("--seconds %d is too short for an outage (%d at least)", f.seconds, least)
			}
			v, err := f.run(cmd)
			if err != nil {
				return &command.ExitError{Code: exitCannotRun, Err: err}
			}
			if v.Outcome != ledger.Pass {
				return &command.ExitError{Code: v.Outcome.ExitCode()}
			}
			return nil
		},
	}
	s := cmd.Flags()
	s.StringVar(&f.dir, "dir", "", "where configuration, queue, log and notes go; new or empty (default: a temporary directory)")
	s.BoolVar(&f.keep, "keep", false, "keep the directory")
	s.IntVar(&f.seconds, "seconds", 30, "how long telemetry is sent; everything takes about 15 s more")
	s.StringVar(&f.status, "status", "", "serve the status page at this address while the outage lasts, such as 127.0.0.1:8080")
	return cmd
}

// errInterrupted is why a demo ends that somebody does not want to see any more.
var errInterrupted = errors.New("interrupted; everything that was started has ended")

// run plays the outage in a directory that is gone afterwards, unless it is worth keeping.
func (f *demoFlags) run(cmd *cobra.Command) (*ledger.Verdict, error) {
	ctx, stop := signal.NotifyContext(command.Context(cmd), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	signal.Ignore(syscall.SIGPIPE) // a reader that left is an error of the write, and nothing stays behind
	defer signal.Reset(syscall.SIGPIPE)
	binary, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, remove, err := f.place()
	if err != nil {
		return nil, err
	}
	out := cmd.OutOrStdout()
	v, err := demo.Outage(ctx, demo.Options{
		Binary: binary, Dir: dir, Load: time.Duration(f.seconds) * time.Second, Events: out, Status: f.status,
	})
	if err == nil {
		_, err = fmt.Fprint(out, "\n"+v.Text())
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = errInterrupted
	}
	if !f.keep && (err != nil || v.Outcome == ledger.Pass) {
		return v, errors.Join(err, remove())
	}
	run := filepath.Join(dir, "outage")
	fmt.Fprintf(cmd.ErrOrStderr(), "kept in %s: config.yaml, holdfast.log, queue, emergency, notes; judge it again:\n"+
		"  holdfast ledger verify %s --metrics %s --control-run %s\n", run, filepath.Join(run, "notes"),
		filepath.Join(run, "metrics.txt"), filepath.Join(dir, "control", "notes"))
	return v, err
}

// place makes the directory, and returns what removes everything that was made.
func (f *demoFlags) place() (dir string, remove func() error, err error) {
	if f.dir == "" {
		dir, err = os.MkdirTemp("", "holdfast-demo-*")
		return dir, func() error { return os.RemoveAll(dir) }, err
	}
	if dir, err = filepath.Abs(f.dir); err != nil {
		return "", nil, err
	}
	switch there, err := os.ReadDir(dir); {
	case err == nil && len(there) > 0:
		return "", nil, fmt.Errorf("--dir %q is not empty", f.dir)
	case err == nil: // whose it is keeps it
		return dir, func() error {
			return errors.Join(os.RemoveAll(filepath.Join(dir, "control")), os.RemoveAll(filepath.Join(dir, "outage")))
		}, nil
	}
	return dir, func() error { return os.RemoveAll(dir) }, os.MkdirAll(dir, 0o750)
}
