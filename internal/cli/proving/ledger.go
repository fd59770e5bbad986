// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package proving

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-telemetry/holdfast/internal/cli/command"
	"github.com/holdfast-telemetry/holdfast/internal/cli/queues"
	"github.com/holdfast-telemetry/holdfast/internal/ledger"
)

const (
	// maxScrape bounds what is read of a metrics endpoint, in bytes.
	maxScrape     = 64 << 20
	scrapeTimeout = 10 * time.Second
	// none is what --queue and --control-run take where there is nothing to give.
	none = "none"
)

// NewLedger is the commands that judge a run.
func NewLedger() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ledger",
		Short: "Judge a run: was anything lost",
		Long: `Ledger compares what producers were told ("holdfast load"), what sinks hold ("holdfast sink") and what Holdfast says
about itself (its metrics and files), item by item.`,
		Example: `  holdfast ledger verify outage-1 --metrics http://localhost:8888/metrics
  holdfast ledger show outage-1 l/3/18204

Exit codes: those of its commands.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newLedgerVerifyCommand(), newLedgerShowCommand())
	return cmd
}

// verifyFlags are the flags of ledger verify.
type verifyFlags struct {
	queues, files, allow, allowDrop, expect []string
	metrics, control, want, junit           string
	maxDuplicates                           int64
	quietFor                                time.Duration
	asJSON, strict, filtered, stripped      bool
}

func newLedgerVerifyCommand() *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use:   "verify DIR",
		Short: "Judge the notes in a directory",
		Long: `Verify reads run.json, load-*.tsv, sink-*.tsv, faults.jsonl and samples.jsonl of DIR and judges the run. The verdict goes
to stdout, and into verdict.json, verdict.txt and junit.xml of DIR.

A run that could not prove its claim is inconclusive: notes without their end line, faults without hits or without a
control run, nothing acknowledged, arrivals until the end, items that may still be queued because neither --metrics nor
--queue was given. --queue takes a storage directory, best of an instance that was stopped: what is in it is queued,
parked or set aside. --queue none says that no queue stands between load and sinks; --control-run none that there is none.

--file takes a glob of files as the file exporter or "holdfast queue export" writes them. KIND[:DESTINATION]=GLOB says
what they are: file (default, emergency file), queued, parked, dead, bad. Of an emergency file with receipts beside it only
what is under open receipts counts, as parked.`,
		Example: `  holdfast ledger verify outage-1 --metrics http://localhost:8888/metrics --control-run calm-1
  holdfast ledger verify fan-out --want each:primary,secondary --metrics metrics.txt --expect 'primary.hits>0'
  holdfast ledger verify direct --queue none --quiet-for 0s

Exit codes: 0 pass; 1 fail, or wrong usage; 2 inconclusive; 3 could not run.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := f.verify(cmd, args[0])
			if err != nil {
				return &command.ExitError{Code: exitCannotRun, Err: err}
			}
			if v.Outcome != ledger.Pass {
				return &command.ExitError{Code: v.Outcome.ExitCode()}
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&f.queues, "queue", nil, "storage directory whose queues are places, or none; may be repeated")
	flags.StringArrayVar(&f.files, "file", nil, "[KIND[:DESTINATION]=]GLOB of files that are places; may be repeated")
	flags.StringVar(&f.metrics, "metrics", "", "URL or file with Holdfast's metrics at the end")
	flags.StringVar(&f.control, "control-run", "", "directory of the run without the fault, judged before; or none")
	flags.StringVar(&f.want, "want", "", "any, or each:a,b: what counts as delivered (default: as in run.json)")
	flags.StringArrayVar(&f.allow, "allow", nil, "SINK:FROM..TO in which a sink may have been used; may be repeated")
	flags.StringSliceVar(&f.allowDrop, "allow-drop", nil, "reason of drops that the scenario allows; rejected for what backends refused")
	flags.Int64Var(&f.maxDuplicates, "max-duplicates", 0, "bound for duplicates of ours, in items (default: as in run.json)")
	flags.StringArrayVar(&f.expect, "expect", nil, "what must have been seen, such as secondary.stored>0, unknown>0, restarts=3")
	flags.DurationVar(&f.quietFor, "quiet-for", 3*time.Second, "how long sinks must have been watched after the last event")
	flags.BoolVar(&f.asJSON, "json", false, "print the verdict as JSON")
	flags.StringVar(&f.junit, "junit", "", "write the verdict as JUnit XML to this file")
	flags.BoolVar(&f.strict, "strict", false, "items without identity are a failure")
	flags.BoolVar(&f.filtered, "allow-filtered", false, "a sampler or filter stands between: items may be missing")
	flags.BoolVar(&f.stripped, "allow-stripped", false, "a processor that removes attributes stands between")
	return cmd
}

func (f *verifyFlags) verify(cmd *cobra.Command, dir string) (*ledger.Verdict, error) {
	n, err := ledger.Read(dir)
	if err != nil {
		return nil, err
	}
	o, err := f.options(cmd, n)
	if err != nil {
		return nil, err
	}
	v, err := ledger.Verify(n, o)
	if err != nil {
		return nil, err
	}
	if err := v.Write(dir); err != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "ledger: %v\n", err)
	}
	if f.junit != "" {
		text, err := v.JUnit()
		if err == nil {
			err = os.WriteFile(f.junit, text, 0o644) //nolint:gosec // a report, for everybody
		}
		if err != nil {
			return nil, fmt.Errorf("junit: %w", err)
		}
	}
	if !f.asJSON {
		_, err = io.WriteString(cmd.OutOrStdout(), v.Text())
		return v, err
	}
	text, err := v.JSON()
	if err == nil {
		_, err = cmd.OutOrStdout().Write(text)
	}
	return v, err
}

func (f *verifyFlags) options(cmd *cobra.Command, n *ledger.Notes) (ledger.Options, error) {
	o := ledger.Options{
		Want: f.want, AllowDrop: f.allowDrop, AllowFiltered: f.filtered, AllowStripped: f.stripped, Strict: f.strict,
		Expect: f.expect, QuietFor: f.quietFor,
	}
	if cmd.Flags().Changed("max-duplicates") {
		o.MaxDuplicates = &f.maxDuplicates
	}
	for _, text := range f.allow {
		w, err := ledger.ParseWindow(text, n.Run.Base())
		if err != nil {
			return o, err
		}
		o.Allow = append(o.Allow, w)
	}
	for _, text := range f.expect {
		if _, _, _, err := ledger.ParseExpect(text); err != nil {
			return o, err
		}
	}
	for _, q := range f.queues {
		if q != none {
			if err := queues.AddToNotes(n, q); err != nil {
				return o, fmt.Errorf("queue %q: %w", q, err)
			}
		}
		o.AllPlaces = true
	}
	if err := f.addFiles(cmd, n); err != nil {
		return o, err
	}
	var err error
	if f.metrics != "" {
		if o.Metrics, err = scrape(cmd.Context(), f.metrics); err != nil {
			return o, err
		}
	}
	switch f.control {
	case "":
	case none:
		o.NoControl = true
	default:
		o.Control, err = ledger.ReadVerdict(f.control)
	}
	return o, err
}

// addFiles puts the files of --file into their places.
func (f *verifyFlags) addFiles(cmd *cobra.Command, n *ledger.Notes) error {
	for _, text := range f.files {
		kind, name, glob := ledger.InFile, "file", text
		if before, after, found := strings.Cut(text, "="); found {
			word, destination, _ := strings.Cut(before, ":")
			kind, name, glob = ledger.PlaceKind(word), destination, after
		}
		switch kind {
		case ledger.InFile:
			if name == "" {
				name = "file"
			}
		case ledger.Queued, ledger.Parked, ledger.Dead, ledger.Bad:
		default:
			return fmt.Errorf("file %q: kind %q is not known (file, queued, parked, dead, bad)", text, kind)
		}
		paths, err := filepath.Glob(glob)
		if err != nil {
			return fmt.Errorf("file %q: %w", text, err)
		}
		place := n.AddPlace(kind, name)
		if len(paths) == 0 {
			fmt.Fprintf(cmd.ErrOrStderr(), "ledger: --file %s matches no file\n", glob)
		}
		for _, path := range paths {
			if err := n.AddRecords(place, path); err != nil {
				return err
			}
		}
	}
	return nil
}

// scrape reads metrics from a URL or a file.
func scrape(ctx context.Context, from string) (*ledger.Metrics, error) {
	if !strings.HasPrefix(from, "http://") && !strings.HasPrefix(from, "https://") {
		file, err := os.Open(from)
		if err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
		defer file.Close() // read-only
		return ledger.ParseMetrics(file)
	}
	ctx, cancel := context.WithTimeout(ctx, scrapeTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	defer resp.Body.Close() // read as far as needed
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("metrics: %s answered %s", from, resp.Status)
	}
	return ledger.ParseMetrics(io.LimitReader(resp.Body, maxScrape))
}

func newLedgerShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show DIR ID",
		Short: "Tell one item's life from all notes",
		Long: `Show prints, in time order, when an item was sent, what was answered, where it arrived and what became of it there. ID is
RUN/s/PRODUCER/SEQ or s/PRODUCER/SEQ, with s, l or m for spans, log records and data points.`,
		Example: `  holdfast ledger show outage-1 l/3/18204

Exit codes: 0 shown; 1 wrong usage; 3 no such run or item.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := ledger.Read(args[0])
			if err == nil {
				var text string
				if text, err = ledger.Show(n, args[1]); err == nil {
					_, err = io.WriteString(cmd.OutOrStdout(), text)
				}
			}
			if err != nil {
				return &command.ExitError{Code: exitCannotRun, Err: err}
			}
			return nil
		},
	}
}
