// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package queues

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-telemetry/holdfast/internal/cli/command"
	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/journal/offline"
	"github.com/holdfast-telemetry/holdfast/internal/journal/recovery"
	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

func newQueueLsCommand() *cobra.Command {
	var f queueFlags
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List journals, and what waits in them for whom",
		Long: `List the journals of each storage directory, and for each destination what waits for it: records (requests as they
came), items (spans, log records, data points), bytes without compression, the age of the oldest record, and what became
of all others. DROPPED is followed by a line for each entry of the drop list.

States: live; parked (its destination left the configuration; kept until it returns, an heir takes over, or "queue
drop"); prepared (nothing is owed to it yet); done (nothing waits any more). Who inherits is known with --config.`,
		Example: `  holdfast queue ls --config config.yaml
  holdfast queue ls --dir /var/lib/otelcol/file_storage --json | jq '.stores[].journals[].cursors[]'

Exit codes: 0 listed; 2 could not run.`,
		Args: queueArgs(command.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cannotRun(f.ls(cmd)) },
	}
	f.register(cmd)
	return cmd
}

func (f *queueFlags) ls(cmd *cobra.Command) error {
	stores, err := f.stores(cmd)
	if err != nil {
		return err
	}
	doc := QueuesDocument{Stores: []storeDocument{}}
	for _, s := range stores {
		one, err := s.describe(time.Now())
		if err != nil {
			return err
		}
		doc.Stores = append(doc.Stores, *one)
	}
	if f.asJSON {
		return command.PrintJSON(cmd.OutOrStdout(), doc)
	}
	var b bytes.Buffer
	for i := range doc.Stores {
		if i > 0 {
			b.WriteByte('\n')
		}
		doc.Stores[i].print(&b)
	}
	_, err = cmd.OutOrStdout().Write(b.Bytes())
	return err
}

// QueuesDocument is what "queue ls --json" prints.
type QueuesDocument struct {
	Stores []storeDocument `json:"stores"`
}

// storeDocument is what is shown of a directory. Sizes are bytes, times RFC 3339.
type storeDocument struct {
	Directory  string            `json:"directory"`
	Storages   []string          `json:"storages"`
	HeldBy     string            `json:"held_by"` // empty: nobody has it open
	LimitBytes int64             `json:"limit_bytes"`
	FreeBytes  int64             `json:"free_bytes"`
	Bytes      map[string]int64  `json:"bytes"` // allocated, by kind
	Journals   []journalDocument `json:"journals"`
	Held       bool              `json:"held"`
}

type journalDocument struct {
	Pipeline      string                   `json:"pipeline"`
	ID            string                   `json:"id"`
	State         string                   `json:"state"` // in use, closed, not closed
	Segments      int                      `json:"segments"`
	SegmentBytes  int64                    `json:"segment_bytes"`
	LastSeq       queue.Seq                `json:"last_seq"`
	AcceptedItems uint64                   `json:"accepted_items"`
	Cursors       []cursorDocument         `json:"cursors"`
	DeadLetters   map[string]countDocument `json:"dead_letters"`
}

type cursorDocument struct {
	Name      string                   `json:"name"`
	State     string                   `json:"state"`
	Lost      bool                     `json:"lost"` // its file was; it begins with the oldest record
	Heir      string                   `json:"heir"` // of a parked one: PIPELINE:DESTINATION or none; empty = unknown
	ParkedAt  string                   `json:"parked_at"`
	Exporters []string                 `json:"exporters"`
	Queued    queuedDocument           `json:"queued"`
	Oldest    string                   `json:"oldest"` // when the oldest record was accepted
	Delivered countDocument            `json:"delivered"`
	Rejected  countDocument            `json:"rejected"`
	Dropped   map[string]countDocument `json:"dropped"` // by reason
	NotOwed   uint64                   `json:"not_owed_items"`
	Drops     []dropDocument           `json:"drops"`

	oldest time.Duration
}

type countDocument struct {
	Records uint64 `json:"records"`
	Items   uint64 `json:"items"`
}

type queuedDocument struct {
	Records uint64 `json:"records"`
	Items   uint64 `json:"items"`
	Bytes   uint64 `json:"bytes"` // without compression
}

type dropDocument struct {
	At     string    `json:"at"`
	Reason string    `json:"reason"`
	First  queue.Seq `json:"first"`
	Last   queue.Seq `json:"last"`
	countDocument
}

func (s *storeView) describe(now time.Time) (*storeDocument, error) {
	d := &storeDocument{
		Directory: s.Directory(), Storages: append([]string{}, s.ids...), LimitBytes: s.limit, Journals: []journalDocument{},
		Held: s.holder != nil,
	}
	if s.holder != nil {
		d.HeldBy = s.holder.Owner
	}
	var err error
	if d.Bytes, err = s.Bytes(); err != nil {
		return nil, err
	}
	if v, err := s.Volume(); err == nil {
		d.FreeBytes = v.Free
	}
	names, err := s.Names()
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		j, err := s.Inspect(n, s.wanted(n))
		if err != nil {
			return nil, err
		}
		one, err := s.describeJournal(j, now)
		if err != nil {
			return nil, err
		}
		d.Journals = append(d.Journals, *one)
	}
	return d, nil
}

func (s *storeView) describeJournal(j *offline.Journal, now time.Time) (*journalDocument, error) {
	d := &journalDocument{
		Pipeline: j.Pipeline, ID: fmt.Sprintf("%x", j.Plan.Journal), State: "closed", Segments: len(j.Plan.Segments),
		LastSeq: j.Plan.Seq, AcceptedItems: j.Plan.Items, Cursors: []cursorDocument{}, SegmentBytes: j.SegmentBytes(),
	}
	for i := range j.Plan.Segments {
		if c := j.Plan.Segments[i].Class; c != segment.Sealed {
			d.State = "not closed"
		}
	}
	if s.holder != nil {
		d.State = "in use"
	}
	for i := range j.Plan.Cursors {
		one, err := s.describeCursor(j, &j.Plan.Cursors[i], now)
		if err != nil {
			return nil, err
		}
		d.Cursors = append(d.Cursors, *one)
	}
	letters, _, err := j.Letters()
	d.DeadLetters = map[string]countDocument{}
	for name, n := range letters {
		d.DeadLetters[name] = countDocument(n)
	}
	return d, err
}

func (s *storeView) describeCursor(j *offline.Journal, c *recovery.Cursor, now time.Time) (*cursorDocument, error) {
	slot := &c.Slot
	d := &cursorDocument{
		Name: slot.Name, State: stateWord(slot.State), Lost: c.Lost, Heir: s.heir(j.Name, c), Exporters: append([]string{}, slot.Exporters...),
		Queued: queuedDocument{c.Queued.Records, c.Queued.Items, c.Queued.Bytes}, Delivered: countDocument(slot.Delivered), Rejected: countDocument(slot.Rejected), NotOwed: slot.NotOwed,
		Dropped: map[string]countDocument{}, Drops: []dropDocument{},
	}
	if slot.State == queue.Parked {
		d.ParkedAt = time.Unix(slot.ParkedAt, 0).UTC().Format(time.RFC3339)
	}
	for r, n := range slot.Dropped {
		if n.Records > 0 || n.Items > 0 {
			d.Dropped[cursor.Reason(r).String()] = countDocument(n)
		}
	}
	for _, one := range slot.Drops {
		d.Drops = append(d.Drops, dropDocument{
			At: time.Unix(0, one.At).UTC().Format(time.RFC3339), Reason: one.Reason.String(), First: one.First, Last: one.Last,
			countDocument: countDocument(one.Count),
		})
	}
	if c.Queued.Records == 0 {
		return d, nil
	}
	_, err := j.Unresolved(c, 0, func(r *offline.Record) error {
		accepted := time.Unix(0, r.Accepted)
		d.Oldest, d.oldest = accepted.UTC().Format(time.RFC3339Nano), max(0, now.Sub(accepted))
		return offline.ErrEnough
	})
	return d, err
}

func (d *storeDocument) print(w io.Writer) {
	line := func(format string, args ...any) { fmt.Fprintln(w, command.Escape(fmt.Sprintf(format, args...))) }
	head := d.Directory
	if len(d.Storages) > 0 {
		head += "  (" + strings.Join(d.Storages, ", ") + ")"
	}
	switch {
	case d.HeldBy != "":
		head += "  in use by " + d.HeldBy
	case d.Held:
		head += "  in use"
	}
	line("%s", head)
	var sum int64
	var kinds []string
	for _, kind := range []string{"segments", "cursors", "dead", "bad", "reserve", "foreign"} {
		if n := d.Bytes[kind]; n > 0 {
			sum += n
			kinds = append(kinds, kind+" "+sizeText(n))
		}
	}
	text := sizeText(sum)
	if d.LimitBytes > 0 {
		text += " of " + sizeText(d.LimitBytes)
	}
	line("  %s on disk: %s; %s free", text, strings.Join(kinds, ", "), sizeText(d.FreeBytes))
	if len(d.Journals) == 0 {
		line("  no journals")
	}
	for i := range d.Journals {
		d.Journals[i].print(w, line)
	}
}

func (d *journalDocument) print(w io.Writer, line func(string, ...any)) {
	state := map[string]string{"in use": "", "closed": "", "not closed": "; not closed: the next start recovers it"}[d.State]
	line("")
	line("%s  %s accepted in %s; %s, %s%s", d.Pipeline, counted(d.AcceptedItems, "item"), counted(uint64(d.LastSeq), "record"),
		counted(uint64(d.Segments), "segment"), sizeText(d.SegmentBytes), state)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "  DESTINATION\tSTATE\tRECORDS\tITEMS\tBYTES\tOLDEST\tDELIVERED\tREJECTED\tDROPPED")
	for i := range d.Cursors {
		c := &d.Cursors[i]
		oldest := "-"
		if c.Oldest != "" {
			oldest = ageText(c.oldest)
		}
		var dropped uint64
		for _, n := range c.Dropped {
			dropped += n.Items
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", command.Escape(c.Name), c.State, grouped(c.Queued.Records),
			grouped(c.Queued.Items), sizeText(int64(c.Queued.Bytes)), oldest, grouped(c.Delivered.Items), grouped(c.Rejected.Items),
			grouped(dropped))
	}
	_ = t.Flush() // into memory
	for i := range d.Cursors {
		d.Cursors[i].printNotes(line)
	}
	for _, name := range slices.Sorted(maps.Keys(d.DeadLetters)) {
		n := d.DeadLetters[name]
		line("  %s  dead letters: %s, %s", name, counted(n.Records, "record"), counted(n.Items, "item"))
	}
}

func (c *cursorDocument) printNotes(line func(string, ...any)) {
	if c.State == "parked" {
		text := "parked since " + c.ParkedAt
		switch c.Heir {
		case "":
		case "none":
			text += "; nobody inherits: no destination sends to " + strings.Join(c.Exporters, ", ")
		default:
			text += "; inherited by " + c.Heir
		}
		line("  %s  %s", c.Name, text)
	}
	if c.Lost {
		line("  %s  its cursor was lost: it gets everything again that is still here", c.Name)
	}
	for _, d := range c.Drops {
		line("  %s  dropped %s: %s items in %s of the records %s-%s, %s", c.Name, d.At, grouped(d.Items), grouped(d.Records),
			grouped(uint64(d.First)), grouped(uint64(d.Last)), d.Reason)
	}
}
