// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-telemetry/holdfast/internal/cli/command"
	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// NewExplain is the command that says what a configuration will do.
func NewExplain(reg *config.Registry, _ plan.Traits) *cobra.Command {
	var f readFlags
	cmd := &cobra.Command{
		Use:   "explain",
		Short: "Say what a configuration will do",
		Long: `Say what a configuration will do: where the answer to a client is given and what each kind of disaster would cost,
which queue stands where and what bounds it, which levels a failover connector has, what is listened on, what is
written to. Notes and warnings follow the plan. What is printed is what run builds.

Exit codes: 0; 1 the configuration is not valid, or not readable.`,
		Example: `  holdfast explain --config config.yaml
  holdfast explain --config config.yaml --json | jq .pipelines`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := command.ApplyFeatureGates(f.gates); err != nil {
				return err
			}
			c, err := Look(command.Context(cmd), f.options(cmd, reg))
			if err != nil {
				return err
			}
			if !c.Valid {
				command.PrintFindings(cmd.ErrOrStderr(), c.Findings)
				return &command.ExitError{Code: 1}
			}
			if f.asJSON {
				return command.PrintJSON(cmd.OutOrStdout(), explanationOf(c))
			}
			var b strings.Builder
			explain(&b, c)
			_, err = io.WriteString(cmd.OutOrStdout(), b.String())
			return err
		},
	}
	registerReadFlags(cmd, &f)
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "print one JSON document")
	return cmd
}

// page writes lines of label and text.
type page struct{ b *strings.Builder }

func (p page) title(format string, args ...any) {
	if p.b.Len() > 0 {
		p.b.WriteByte('\n')
	}
	p.b.WriteString(command.Escape(fmt.Sprintf(format, args...)) + "\n")
}

const labelWidth = 16

// line writes one fact; depth indents it.
func (p page) line(depth int, label, format string, args ...any) {
	text := command.Escape(fmt.Sprintf(format, args...))
	indent := strings.Repeat("  ", depth)
	if label == "" {
		p.b.WriteString(indent + text + "\n")
		return
	}
	fmt.Fprintf(p.b, "%s%-*s%s\n", indent, labelWidth-2*depth+2, command.Escape(label), text)
}

// explain writes the plan for people.
func explain(b *strings.Builder, c *Checked) {
	p := page{b}
	p.title("Configuration")
	for _, s := range c.Config.Sources {
		p.line(1, "", "%s  sha256 %s", s.URI, s.SHA256)
	}
	if len(c.Config.Sources) > 1 {
		p.line(1, "hash", "%s", c.Config.Hash)
	}
	for i := range c.Plan.Pipelines {
		explainPipeline(p, &c.Plan.Pipelines[i])
	}
	explainStorages(p, c.Config, c.Plan)
	explainListeners(p, c.Plan)
	explainDirectories(p, c.Config)
	explainMemory(p, c.Config, c.Plan)
	if len(c.Findings) > 0 {
		p.title("Notes")
		for _, f := range c.Findings {
			p.line(1, "", "%s", f)
		}
	}
}

func explainPipeline(p page, pl *plan.Pipeline) {
	p.title("Pipeline %s", pl.ID)
	p.line(1, "", "%s", nodes(pl))
	promise := pl.Promise()
	p.line(1, "acknowledged", "%s", promise.Acknowledged)
	for _, cost := range []struct{ label, text string }{
		{"kill -9 costs", promise.Kill}, {"a power cut", promise.PowerCut}, {"a lost node", promise.NodeLost},
		{"when full", promise.WhenFull}, {"twice", promise.Duplicates},
	} {
		if cost.text != "" {
			p.line(1, cost.label, "%s", cost.text)
		}
	}
	for i := range pl.Destinations {
		explainDestination(p, pl, &pl.Destinations[i])
	}
}

// nodes is the pipeline as one line, in the order in which data meets them.
func nodes(pl *plan.Pipeline) string {
	steps := []string{strings.Join(pl.Receivers, " + ")}
	steps = append(steps, pl.MemoryLimiters...)
	switch {
	case !pl.Queued():
	case pl.Storage == "":
		steps = append(steps, "queue in memory")
	default:
		steps = append(steps, "queue in "+pl.Storage)
	}
	if pl.Batch != nil && pl.Queued() {
		steps = append(steps, pl.Batch.Processor)
	}
	var ends []string
	for i := range pl.Destinations {
		d := &pl.Destinations[i]
		end := d.Label
		if d.Route != nil {
			var levels []string
			for _, l := range d.Levels {
				levels = append(levels, strings.Join(l.Exporters, " and "))
			}
			end += " (" + strings.Join(levels, ", else ") + ")"
		}
		ends = append(ends, end)
	}
	return strings.Join(append(steps, strings.Join(ends, " + ")), " ─► ")
}

func explainDestination(p page, pl *plan.Pipeline, d *plan.Destination) {
	p.line(1, "", "to %s", d.Label)
	switch {
	case d.Wait && d.Workers > 0:
		p.line(2, "queue", "none: the answer waits for it; at most %d requests at once", d.Workers)
	case d.Wait:
		p.line(2, "queue", "none: the answer waits for it")
	default:
		p.line(2, "queue", "%s, %d batches in flight at most", limitText(d.Limit), d.Workers)
		p.line(2, "storage", "%s", storageText(pl, d))
		p.line(2, "batches", "%s", batchText(pl, d.Want))
	}
	for i, l := range d.Levels {
		label, name := "sends", ""
		if d.Route != nil {
			label, name = fmt.Sprintf("level %d", i), strings.Join(l.Exporters, " and ")+": "
		}
		p.line(2, label, "%s%s", name, levelText(&l))
	}
	if d.Route != nil {
		explainRoute(p, d.Route)
	}
}

func limitText(l queue.Limit) string {
	text := "no limit of its own"
	if l.Max > 0 {
		text = fmt.Sprintf("%d %s", l.Max, l.Sizer)
		if l.Sizer == queue.Requests && l.BatchItems > 0 {
			text += fmt.Sprintf(" of %d items", l.BatchItems)
		}
	}
	return text
}

func storageText(pl *plan.Pipeline, d *plan.Destination) string {
	switch {
	case pl.Storage == "":
		return "none: memory"
	case d.Storage == "":
		return fmt.Sprintf("shares the journal in %s; gives way first when the disk is full", pl.Storage)
	}
	return fmt.Sprintf("journal in %s, %s", pl.Storage, pl.Directory)
}

func batchText(pl *plan.Pipeline, w queue.Want) string {
	if w.Min == 0 && w.Max == 0 && w.Linger == 0 && pl.Batch == nil {
		return fmt.Sprintf("none asked for: what waits travels together, up to %s", byteText(w.MaxBytes))
	}
	text := "what is there"
	if w.Min > 0 {
		text = fmt.Sprintf("%d %s, or what is there after %s", w.Min, w.Sizer, short(w.Linger))
	}
	if w.Max > 0 {
		text += fmt.Sprintf("; at most %d %s", w.Max, w.Sizer)
	}
	return text + fmt.Sprintf("; at most %s before compression", byteText(w.MaxBytes))
}

func levelText(l *plan.Level) string {
	text := ""
	if l.Workers > 0 {
		text = fmt.Sprintf("%d at once, ", l.Workers)
	}
	if l.Timeout > 0 {
		text += fmt.Sprintf("timeout %s, ", short(l.Timeout))
	}
	r := &l.Retry
	switch {
	case l.Emergency:
		text += "emergency: only while no level above it is alive"
	case !r.Enabled:
		text += "one attempt, then it moves on or back to the queue"
	case r.MaxElapsedTime == 0:
		text += fmt.Sprintf("retries after %s × %.3g up to %s, without end", short(r.InitialInterval), r.Multiplier,
			short(r.MaxInterval))
	default:
		text += fmt.Sprintf("retries after %s × %.3g up to %s, for %s; then it moves on or back to the queue",
			short(r.InitialInterval), r.Multiplier, short(r.MaxInterval), short(r.MaxElapsedTime))
	}
	if l.MaxItems > 0 {
		text += fmt.Sprintf("; requests of %d items at most", l.MaxItems)
	}
	return text
}

func explainRoute(p page, r *plan.Route) {
	every := fmt.Sprintf("a level that is down is probed every %s", short(r.RetryInterval))
	if r.MaxRetries > 0 {
		every += fmt.Sprintf(", after %d failures every %s", r.MaxRetries, short(r.Config.RareInterval()))
	}
	p.line(2, "probes", "%s, for ever; %s apart, %d good ones to return", every, short(r.RetryGap),
		*r.Config.For("", true).Successes)
	p.line(2, "down after", "%d failures without a delivery, or %.0f %% of at least %d attempts in %s",
		r.Config.Detector.Consecutive, 100*r.Config.Detector.Ratio, r.Config.Detector.MinAttempts,
		short(r.Config.Detector.Window))
	if len(r.Lifted) > 0 {
		p.line(2, "lifted", "queue and retry settings of %s", strings.Join(r.Lifted, ", "))
	}
}

// short is a duration without units that are zero: 10m, not 10m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

func byteText(n int64) string {
	if n > 0 && n%(1<<20) == 0 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d bytes", n)
}
