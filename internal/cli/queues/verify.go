// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package queues

import (
	"fmt"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/holdfast-telemetry/holdfast/internal/cli/command"
	"github.com/holdfast-telemetry/holdfast/internal/journal/offline"
	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

func newQueueVerifyCommand() *cobra.Command {
	var f queueFlags
	cmd := &cobra.Command{
		Use:   "verify [PIPELINE]",
		Short: "Read every byte, and count every balance",
		Long: `Read every byte of every journal, or of one pipeline's, check every checksum, and count for each destination, record by
record, whether the books add up:

  accepted - not owed = delivered + rejected + dropped + queued, in items

What a start would do about what is there is told, and nothing is changed. A journal that was not closed may end in an
unfinished group nobody was answered for; that is no damage.`,
		Example: `  holdfast queue verify --dir /var/lib/otelcol/file_storage
  holdfast queue verify traces --config config.yaml --json

Exit codes: 0 every byte holds and the books add up; 1 damage; 2 could not run.`,
		Args: queueArgs(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error { return cannotRun(f.verify(cmd, args)) },
	}
	f.register(cmd)
	return cmd
}

// VerifyDocument is what "queue verify --json" prints of a directory.
type VerifyDocument struct {
	Directory string           `json:"directory"`
	Pipeline  string           `json:"pipeline"`
	Damaged   bool             `json:"damaged"`
	ReadBytes int64            `json:"read_bytes"`
	Segments  []auditDocument  `json:"segments"`
	Dead      []auditDocument  `json:"dead_segments"`
	Balances  []balanceEntry   `json:"balances"`
	Findings  []findingOfQueue `json:"findings"`
}

type auditDocument struct {
	Path    string    `json:"path"`
	Class   string    `json:"class"`
	First   queue.Seq `json:"first"`
	Last    queue.Seq `json:"last"`
	Records uint64    `json:"records"`
	Items   uint64    `json:"items"`
	Bytes   int64     `json:"bytes"`
}

type balanceEntry struct {
	Destination string `json:"destination"`
	State       string `json:"state"`
	Accepted    uint64 `json:"accepted_items"`
	NotOwed     uint64 `json:"not_owed_items"`
	Delivered   uint64 `json:"delivered_items"`
	Rejected    uint64 `json:"rejected_items"`
	Dropped     uint64 `json:"dropped_items"`
	Queued      uint64 `json:"queued_items"`
	Records     uint64 `json:"queued_records"`
	Imbalance   int64  `json:"imbalance_items"`
}

type findingOfQueue struct {
	Damage bool   `json:"damage"`
	Path   string `json:"path"`
	Text   string `json:"text"`
}

func (f *queueFlags) verify(cmd *cobra.Command, args []string) error {
	stores, err := f.stores(cmd)
	if err != nil {
		return err
	}
	var read atomic.Int64
	stop := tell(cmd, func() string { return "queue: read " + sizeText(read.Load()) })
	defer stop()
	var docs []VerifyDocument
	for _, s := range stores {
		names, err := s.Names()
		if err != nil {
			return err
		}
		for _, n := range names {
			if len(args) == 1 && n.Pipeline != args[0] {
				continue
			}
			r, err := s.Verify(n, s.wanted(n), s.holder != nil, func(bytes int64) { read.Add(bytes) })
			if err != nil {
				return err
			}
			docs = append(docs, verdictOf(s, r))
		}
	}
	if len(docs) == 0 && len(args) == 1 {
		return fmt.Errorf("no journal of pipeline %q (see holdfast queue ls)", args[0])
	}
	damaged := false
	for i := range docs {
		damaged = damaged || docs[i].Damaged
		if !f.asJSON {
			docs[i].print(cmd)
		}
	}
	if f.asJSON {
		if docs == nil {
			docs = []VerifyDocument{}
		}
		err = command.PrintJSON(cmd.OutOrStdout(), map[string]any{"damaged": damaged, "journals": docs})
	} else if len(docs) == 0 {
		fmt.Fprintln(cmd.OutOrStdout(), "no journals")
	}
	if err == nil && damaged {
		return &command.ExitError{Code: exitQueueDamage}
	}
	return err
}

func verdictOf(s *storeView, r *offline.Report) VerifyDocument {
	d := VerifyDocument{
		Directory: s.Directory(), Pipeline: r.Pipeline, Damaged: r.Damaged(), ReadBytes: r.Bytes,
		Segments: audits(r.Segments), Dead: audits(r.Dead), Balances: []balanceEntry{}, Findings: []findingOfQueue{},
	}
	for _, b := range r.Balances {
		d.Balances = append(d.Balances, balanceEntry{
			Destination: b.Name, State: stateWord(b.State), Accepted: b.Accepted, NotOwed: b.NotOwed, Delivered: b.Delivered,
			Rejected: b.Rejected, Dropped: b.Dropped, Queued: b.Queued.Items, Records: b.Queued.Records, Imbalance: b.Imbalance,
		})
	}
	for _, f := range r.Findings {
		d.Findings = append(d.Findings, findingOfQueue(f))
	}
	return d
}

func audits(segments []offline.SegmentReport) []auditDocument {
	out := []auditDocument{}
	for _, s := range segments {
		out = append(out, auditDocument{
			Path: s.Path, Class: s.Class.String(), First: s.First, Last: s.Last, Records: s.Records, Items: s.Items, Bytes: s.Bytes,
		})
	}
	return out
}

func (d *VerifyDocument) print(cmd *cobra.Command) {
	line := func(format string, args ...any) {
		fmt.Fprintln(cmd.OutOrStdout(), command.Escape(fmt.Sprintf(format, args...)))
	}
	var records, items uint64
	open := 0
	for _, s := range d.Segments {
		records, items = records+s.Records, items+s.Items
		if s.Class != segment.Sealed.String() {
			open++
		}
	}
	text := fmt.Sprintf("%s: %s in %s, %s, %s", d.Pipeline, sizeText(d.ReadBytes), counted(uint64(len(d.Segments)), "segment"),
		counted(records, "record"), counted(items, "item"))
	if open > 0 {
		text += fmt.Sprintf(", %d not sealed", open)
	}
	var dead uint64
	for _, s := range d.Dead {
		dead += s.Records
	}
	if dead > 0 {
		text += "; " + counted(dead, "dead letter")
	}
	line("%s", text)
	for _, b := range d.Balances {
		line("  %s: %s accepted - %s not owed = %s delivered + %s rejected + %s dropped + %s %s; difference %d", b.Destination,
			grouped(b.Accepted), grouped(b.NotOwed), grouped(b.Delivered), grouped(b.Rejected), grouped(b.Dropped), grouped(b.Queued),
			map[bool]string{true: "parked", false: "queued"}[b.State == "parked"], b.Imbalance)
	}
	for _, f := range d.Findings {
		word := "note"
		if f.Damage {
			word = "damage"
		}
		where := ""
		if f.Path != "" {
			where = f.Path + ": "
		}
		line("  %s: %s%s", word, where, f.Text)
	}
	if d.Damaged {
		line("  DAMAGED")
	} else {
		line("  OK")
	}
}
