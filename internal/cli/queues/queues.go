// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package queues is the commands that work on data which waits: the queues on disk, the files of an emergency exporter. They look
// beside a running instance and change only what no instance owns.
package queues

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-telemetry/holdfast/internal/app/components"
	"github.com/holdfast-telemetry/holdfast/internal/cli/command"
	"github.com/holdfast-telemetry/holdfast/internal/cli/inspect"
	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/journal/offline"
	"github.com/holdfast-telemetry/holdfast/internal/journal/recovery"
	"github.com/holdfast-telemetry/holdfast/internal/journal/space"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// Exit codes of the queue commands (journal, section 15).
const (
	exitQueueDamage = 1 // damage, or not all was sent
	exitQueueCannot = 2 // could not run
)

// New is the commands that look into the queues on disk.
func New() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "queue",
		Short: "Look into the queues on disk, take data out of them, repair what an outage left",
		Long: `Queue works on the storage directories of file_storage: which journals are there, what waits for which destination,
whether every byte holds. Looking needs no lock and changes nothing, beside a running instance too; what is shown of one
is what was on disk a moment ago.

Directories are those of --config, or given with --dir. NAME is PIPELINE:DESTINATION, as "queue ls" shows them;
DESTINATION alone will do where one pipeline has it.`,
		Example: `  holdfast queue ls --config config.yaml
  holdfast queue peek traces:otlp_grpc/primary --dir /var/lib/otelcol/file_storage
  holdfast queue export otlp_grpc/primary --to rescue.jsonl --dir /var/lib/otelcol/file_storage
  holdfast queue replay otlp_grpc/primary --to grpc://other-backend:4317 --config config.yaml

Exit codes: 0 fine; 1 damage, or not all was sent; 2 could not run.`,
		Args: queueArgs(command.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return cannotRun(command.FlagError(cmd, err)) })
	cmd.AddCommand(newQueueLsCommand(), newQueuePeekCommand(), newQueueVerifyCommand(), newQueueExportCommand(),
		newQueueReplayCommand(), newQueueDropCommand())
	return cmd
}

// cannotRun is err with the exit code of what could not run; nil stays nil.
func cannotRun(err error) error {
	var exit *command.ExitError
	if err == nil || errors.As(err, &exit) {
		return err
	}
	return &command.ExitError{Code: exitQueueCannot, Err: err}
}

// queueArgs is cobra's check of the number of arguments, with the exit code of these commands.
func queueArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error { return cannotRun(check(cmd, args)) }
}

// queueFlags say which directories are meant.
type queueFlags struct {
	uris, sets, gates, dirs []string
	asJSON                  bool
}

func (f *queueFlags) register(cmd *cobra.Command) {
	command.RegisterConfigFlags(cmd, &f.uris, &f.sets, &f.gates)
	s := cmd.Flags()
	s.StringArrayVar(&f.dirs, "dir", nil, "storage directory, instead of those in --config; may be repeated")
	s.BoolVar(&f.asJSON, "json", false, "print one JSON document")
}

// storeView is one storage directory, and what a configuration says of it.
type storeView struct {
	*offline.Store
	ids    []string   // of the extensions; none with --dir
	limit  int64      // cap in bytes; 0 = unknown, or by the volume
	plan   *plan.Plan // nil with --dir
	holder *space.LockedError
}

// stores opens the directories that are meant. One that the configuration names and nobody has made yet holds nothing.
func (f *queueFlags) stores(cmd *cobra.Command) ([]*storeView, error) {
	var out []*storeView
	switch {
	case len(f.dirs) > 0 && len(f.uris) > 0:
		return nil, errors.New("--dir and --config exclude each other")
	case len(f.dirs) > 0:
		for _, dir := range f.dirs {
			s, err := offline.Open(vfs.OS(), dir)
			if err != nil {
				return nil, err
			}
			out = append(out, &storeView{Store: s})
		}
	case len(f.uris) > 0:
		var err error
		if out, err = f.configured(cmd); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("which queues? --config CONFIG or --dir STORAGE_DIRECTORY is needed (see %s --help)", cmd.CommandPath())
	}
	for _, s := range out {
		holder, err := s.Holder()
		if err != nil {
			fmt.Fprintf(cmd.ErrOrStderr(), "queue: whether an instance uses %s cannot be told: %s\n", s.Directory(), command.Escape(err.Error()))
		}
		s.holder = holder
	}
	return out, nil
}

// configured opens the storages of a configuration. It need not be valid: data may have to be saved because it is not.
func (f *queueFlags) configured(cmd *cobra.Command) ([]*storeView, error) {
	if err := command.ApplyFeatureGates(f.gates); err != nil {
		return nil, err
	}
	c, err := inspect.Look(command.Context(cmd), config.Options{
		URIs: f.uris, Sets: f.sets, Stdin: cmd.InOrStdin(), Registry: components.Registry(), Portable: true,
	})
	if err != nil {
		return nil, err
	}
	var out []*storeView
	var missing error
	for i := range c.Plan.Storages {
		one := &c.Plan.Storages[i]
		s, err := offline.Open(vfs.OS(), one.Directory)
		if err != nil {
			missing = errors.Join(missing, fmt.Errorf("%s: %w", strings.Join(one.IDs, ", "), err))
			continue
		}
		out = append(out, &storeView{Store: s, ids: one.IDs, limit: one.MaxBytes, plan: c.Plan})
	}
	switch {
	case len(out) > 0:
		return out, nil
	case missing != nil:
		return nil, missing
	case !c.Valid:
		command.PrintFindings(cmd.ErrOrStderr(), c.Findings)
		return nil, errors.New("the configuration is not valid, and names no storage that could be found")
	}
	return nil, errors.New("the configuration has no storage: its queues are in memory")
}

// wanted are the names of a pipeline's destinations, by which recovery knows whose a lost cursor was.
func (s *storeView) wanted(n offline.Name) (names []string) {
	if s.plan == nil {
		return nil
	}
	for i := range s.plan.Pipelines {
		if s.plan.Pipelines[i].ID == n.Pipeline {
			for j := range s.plan.Pipelines[i].Destinations {
				names = append(names, s.plan.Pipelines[i].Destinations[j].Name)
			}
		}
	}
	return names
}

// heir says who serves a parked cursor, "none" if nobody does, and "" where that is not known.
func (s *storeView) heir(n offline.Name, c *recovery.Cursor) string {
	if s.plan == nil || c.Slot.State != queue.Parked {
		return ""
	}
	word, _, _ := strings.Cut(n.Pipeline, "/")
	signal, ok := otlp.ParseSignal(word)
	if !ok {
		return ""
	}
	p, d, ok := s.plan.Heir(signal, c.Slot.Exporters)
	if !ok {
		return "none"
	}
	return p.ID + ":" + d.Name
}

// queueTarget is what a NAME stands for.
type queueTarget struct {
	store       *storeView
	journal     *offline.Journal
	cursor      *recovery.Cursor // nil: there are only dead letters
	destination string
}

func (t *queueTarget) String() string { return t.journal.Pipeline + ":" + t.destination }

// find looks NAME up. With dead, destinations count that have dead letters and no cursor any more.
func (f *queueFlags) find(cmd *cobra.Command, name string, dead bool) (*queueTarget, error) {
	stores, err := f.stores(cmd)
	if err != nil {
		return nil, err
	}
	pipeline, destination, both := strings.Cut(name, ":")
	if !both {
		pipeline, destination = "", name
	}
	var found []*queueTarget
	var there []string
	for _, s := range stores {
		names, err := s.Names()
		if err != nil {
			return nil, err
		}
		for _, n := range names {
			if both && n.Pipeline != pipeline {
				there = append(there, n.Pipeline+":…")
				continue
			}
			j, err := s.Inspect(n, s.wanted(n))
			if err != nil {
				return nil, err
			}
			all, err := destinations(j, dead)
			if err != nil {
				return nil, err
			}
			for _, d := range all {
				there = append(there, n.Pipeline+":"+d)
				if d == destination {
					found = append(found, &queueTarget{s, j, j.Cursor(d), d})
				}
			}
		}
	}
	return only(name, found, there)
}

// destinations are the names a journal knows.
func destinations(j *offline.Journal, dead bool) (names []string, err error) {
	for i := range j.Plan.Cursors {
		names = append(names, j.Plan.Cursors[i].Slot.Name)
	}
	if dead {
		letters, _, err := j.Letters()
		if err != nil {
			return nil, err
		}
		for d := range letters {
			names = append(names, d)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// only is the one target that was found.
func only(name string, found []*queueTarget, there []string) (*queueTarget, error) {
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		text := "there is none"
		if len(there) > 0 {
			slices.Sort(there)
			text = "there are " + strings.Join(slices.Compact(there), ", ")
		}
		return nil, fmt.Errorf("no destination %q: %s", name, text)
	}
	var where []string
	for _, t := range found {
		where = append(where, fmt.Sprintf("%s in %s", t, t.store.Directory()))
	}
	return nil, fmt.Errorf("%q is not one destination: %s (say PIPELINE:DESTINATION, and --dir)", name, strings.Join(where, ", "))
}

// hold locks the target's store and recovers its journal. The target's journal and cursor are those after recovery.
func (t *queueTarget) hold(ctx context.Context) (*offline.Held, error) {
	host, _ := os.Hostname()
	held, err := offline.Hold(ctx, vfs.OS(), t.store.Directory(), fmt.Sprintf("holdfast queue, pid %d on %s", os.Getpid(), host),
		space.Limits{CapBytes: t.store.limit})
	var locked *space.LockedError
	if errors.As(err, &locked) {
		return nil, fmt.Errorf("%w: stop it first; this version cannot ask a running instance to do it", err)
	}
	if err != nil {
		return nil, err
	}
	if t.journal, err = held.Recover(t.journal.Name, t.store.wanted(t.journal.Name)); err != nil {
		return nil, errors.Join(err, held.Close())
	}
	t.cursor = t.journal.Cursor(t.destination)
	return held, nil
}

// tell prints a line to stderr every now and then until the returned function is called.
func tell(cmd *cobra.Command, line func() string) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(command.ProgressEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				fmt.Fprintln(cmd.ErrOrStderr(), line())
			case <-done:
				return
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

// tellMissed says what a walk did not come by, and returns whether that matters.
func tellMissed(cmd *cobra.Command, m *offline.Missed) bool {
	for _, d := range m.Damage {
		fmt.Fprintf(cmd.ErrOrStderr(), "queue: %s\n", command.Escape(d.Error()))
	}
	if m.Opaque > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "queue: %s of a newer version left out\n", counted(m.Opaque, "record"))
	}
	if m.Gone > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "queue: %s delivered meanwhile\n", counted(m.Gone, "record"))
	}
	return m.Any()
}

// grouped is a number with a comma at each thousand.
func grouped(n uint64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// counted is a number of things: 1 segment, 2 segments.
func counted(n uint64, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return grouped(n) + " " + thing
}

// sizeText is a size for people: 512 B, 3.5 MiB.
func sizeText(n int64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	unit, f := "KiB", float64(n)/(1<<10)
	for _, next := range []string{"MiB", "GiB", "TiB"} {
		if f < 1024 {
			break
		}
		unit, f = next, f/1024
	}
	if f < 10 {
		return fmt.Sprintf("%.1f %s", f, unit)
	}
	return fmt.Sprintf("%.0f %s", f, unit)
}

// ageText is an age for people, in its largest unit: 12s, 5m, 3h, 4d.
func ageText(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d/time.Second))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d/time.Minute))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d/time.Hour))
	}
	return fmt.Sprintf("%dd", int(d/(24*time.Hour)))
}

// stateWord is a cursor's state for people.
func stateWord(s queue.State) string {
	switch s {
	case queue.Prepared:
		return "prepared"
	case queue.Live:
		return "live"
	case queue.Parked:
		return "parked"
	case queue.Done:
		return "done"
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}
