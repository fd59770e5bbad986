// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package queues

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/spf13/cobra"

	"github.com/holdfast-telemetry/holdfast/internal/app/replay"
	"github.com/holdfast-telemetry/holdfast/internal/cli/command"
	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/journal/offline"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// masked is what is shown instead of a credential.
const masked = "****"

type peekFlags struct {
	queueFlags
	seq         uint64
	count       int
	dead, shown bool
}

func newQueuePeekCommand() *cobra.Command {
	var f peekFlags
	cmd := &cobra.Command{
		Use:   "peek NAME",
		Short: "Show records that wait for a destination",
		Long: `Show the oldest records that wait for a destination: the header of the frame, the metadata kept of the request, and
the request itself as OTLP JSON. Metadata that looks like a credential is masked; the request is not: what clients put
into attributes is shown as it is.

With --dead records that a backend rejected for good are shown, with what it said.`,
		Example: `  holdfast queue peek traces:otlp_grpc/primary --config config.yaml --count 1
  holdfast queue peek otlp_grpc/primary --dir /var/lib/otelcol/file_storage --dead --json | jq '.records[].reason'

Exit codes: 0 shown; 1 something is damaged; 2 could not run, no such record.`,
		Args: queueArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error { return cannotRun(f.peek(cmd, args[0])) },
	}
	f.register(cmd)
	s := cmd.Flags()
	s.Uint64Var(&f.seq, "seq", 0, "begin with the record of this number, or the next one that waits")
	s.IntVar(&f.count, "count", 10, "how many records at most")
	s.BoolVar(&f.dead, "dead", false, "dead letters: what the destination rejected for good")
	s.BoolVar(&f.shown, "show-secrets", false, "do not mask credentials in metadata")
	return cmd
}

// RecordDocument is one record as it is shown.
type RecordDocument struct {
	Seq         queue.Seq       `json:"seq"`
	Segment     string          `json:"segment"`
	Offset      int64           `json:"offset"`
	Accepted    string          `json:"accepted"`
	Signal      string          `json:"signal"`
	Items       uint32          `json:"items"`
	Bytes       uint32          `json:"bytes"` // without compression
	StoredBytes int64           `json:"stored_bytes"`
	ItemsBefore uint64          `json:"items_before"`
	Encoding    string          `json:"encoding"`
	Metadata    []metadataEntry `json:"metadata"`
	Letter      *letterDocument `json:"dead_letter,omitempty"`
	Payload     json.RawMessage `json:"payload,omitempty"`
	Unreadable  string          `json:"unreadable,omitempty"` // why there is no payload
}

type metadataEntry struct {
	Key    string   `json:"key"`
	Values []string `json:"values"`
	Masked bool     `json:"masked"`
}

type letterDocument struct {
	Destination string    `json:"destination"`
	Reason      string    `json:"reason"`
	Seq         queue.Seq `json:"seq"` // in the journal it came from
	At          string    `json:"at"`
}

func (f *peekFlags) peek(cmd *cobra.Command, name string) error {
	if f.count < 1 {
		return fmt.Errorf("--count %d: at least 1 is needed", f.count)
	}
	t, err := f.find(cmd, name, f.dead)
	if err != nil {
		return err
	}
	doc := struct {
		Pipeline    string           `json:"pipeline"`
		Destination string           `json:"destination"`
		Records     []RecordDocument `json:"records"`
	}{t.journal.Pipeline, t.destination, []RecordDocument{}}
	missed, err := t.walk(f.dead, queue.Seq(f.seq), func(r *offline.Record) error {
		one := describeRecord(r, f.shown)
		if f.asJSON {
			doc.Records = append(doc.Records, one)
		} else {
			one.print(cmd, t, len(doc.Records) > 0)
			doc.Records = append(doc.Records, RecordDocument{})
		}
		if len(doc.Records) == f.count {
			return offline.ErrEnough
		}
		return nil
	})
	if err != nil {
		return err
	}
	if f.asJSON {
		err = command.PrintJSON(cmd.OutOrStdout(), doc)
	} else if len(doc.Records) == 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), "queue: nothing waits")
	}
	if tellMissed(cmd, &missed) && err == nil {
		return &command.ExitError{Code: exitQueueDamage}
	}
	return err
}

// walk goes over what waits for the target, or over its dead letters.
func (t *queueTarget) walk(dead bool, from queue.Seq, visit func(*offline.Record) error) (offline.Missed, error) {
	if dead {
		return t.journal.DeadLetters(t.destination, from, visit)
	}
	if t.cursor == nil {
		return offline.Missed{}, nil
	}
	return t.journal.Unresolved(t.cursor, from, visit)
}

// requestOf reads a record as the request it holds.
func requestOf(r *offline.Record) (*exporter.Request, error) {
	return replay.StoredRequest(&queue.Record{Tag: r.Tag, Items: r.Items, Size: r.Size, Meta: r.Meta, Body: r.Body})
}

func describeRecord(r *offline.Record, shown bool) RecordDocument {
	d := RecordDocument{
		Seq: r.Seq, Segment: path.Base(r.Path), Offset: int64(r.Off), Accepted: stamp(time.Unix(0, r.Accepted)),
		Items: r.Items, Bytes: r.Size, StoredBytes: r.Bytes(), ItemsBefore: r.ItemsBefore, Metadata: []metadataEntry{},
	}
	if l := r.Letter; l != nil {
		d.Letter = &letterDocument{Destination: l.Destination, Reason: l.Reason, Seq: l.Seq, At: stamp(l.At)}
	}
	req, err := requestOf(r)
	if err != nil {
		d.Unreadable = err.Error()
		return d
	}
	d.Signal, d.Encoding = req.Signal.String(), req.Encoding.String()
	for _, e := range req.Metadata {
		entry := metadataEntry{Key: e.Key, Values: e.Values, Masked: !shown && credentialLike(e.Key)}
		if entry.Masked {
			entry.Values = []string{masked}
		}
		d.Metadata = append(d.Metadata, entry)
	}
	plain, err := replay.PlainRequest(req)
	if err == nil {
		d.Payload, err = replay.JSONRequest(req.Signal, plain)
	}
	if err != nil {
		d.Payload, d.Unreadable = nil, err.Error()
		return d
	}
	d.Payload = printableJSON(d.Payload)
	return d
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// credentialLike says that metadata of that name had better not be on a screen.
func credentialLike(key string) bool {
	key = strings.ToLower(key)
	for _, word := range []string{"auth", "cookie", "token", "secret", "passw", "credential", "session", "signature",
		"api-key", "api_key", "apikey", "access-key", "license", "x-honeycomb-team", "-key"} {
		if strings.Contains(key, word) {
			return true
		}
	}
	return false
}

// printableJSON is JSON in which nothing is left that a terminal would act upon: such characters can only stand in strings,
// and are written as escapes there.
func printableJSON(b []byte) []byte {
	if !bytes.ContainsFunc(b, command.Unprintable) {
		return b
	}
	var out []byte
	for _, r := range string(b) {
		if !command.Unprintable(r) || r == '\n' {
			out = append(out, string(r)...)
			continue
		}
		for _, u := range utf16.Encode([]rune{r}) {
			out = fmt.Appendf(out, "\\u%04x", u)
		}
	}
	return out
}

func (d *RecordDocument) print(cmd *cobra.Command, t *queueTarget, more bool) {
	w := cmd.OutOrStdout()
	line := func(format string, args ...any) { fmt.Fprintln(w, command.Escape(fmt.Sprintf(format, args...))) }
	if more {
		line("")
	}
	kind := "record"
	if d.Letter != nil {
		kind = "dead letter"
	}
	line("%s  %s %d  accepted %s", t, kind, d.Seq, d.Accepted)
	line("  frame     %s items, %s bytes, stored as %s in %s at %s; %s items before", grouped(uint64(d.Items)),
		grouped(uint64(d.Bytes)), grouped(uint64(d.StoredBytes)), d.Segment, grouped(uint64(d.Offset)), grouped(d.ItemsBefore))
	if l := d.Letter; l != nil {
		line("  rejected  %s, record %d, by %s: %s", l.At, l.Seq, l.Destination, l.Reason)
	}
	if d.Signal != "" {
		line("  request   %s, %s", d.Signal, d.Encoding)
	}
	for _, e := range d.Metadata {
		text := strings.Join(e.Values, ", ")
		if e.Masked {
			text += "  (--show-secrets shows it)"
		}
		line("  metadata  %s: %s", e.Key, text)
	}
	if d.Unreadable != "" {
		line("  unreadable: %s", d.Unreadable)
		return
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, d.Payload, "  ", "  "); err != nil {
		line("  unreadable: %v", err)
		return
	}
	fmt.Fprintf(w, "  %s\n", indented.Bytes())
}
