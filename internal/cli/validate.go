// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/holdfast-telemetry/holdfast/internal/app"
	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
)

// readFlags are the flags of the commands that look at a configuration without running it.
type readFlags struct {
	uris, sets, gates                []string
	strict, fragment, here, portable bool
	asJSON                           bool
}

func (f *readFlags) options(cmd *cobra.Command, reg *config.Registry) config.Options {
	return config.Options{
		URIs: f.uris, Sets: f.sets, Stdin: cmd.InOrStdin(), Registry: reg, Strict: f.strict, Fragment: f.fragment,
		Here: f.here, Portable: f.portable,
	}
}

// check is what is known of a configuration: all findings, and as much of it and of its plan as could be made.
type check struct {
	cfg      *config.Config
	plan     *plan.Plan
	findings []config.Finding
	valid    bool
}

// inspect loads and plans a configuration. Its error is about reading; what is wrong with the configuration is in
// the findings.
func inspect(ctx context.Context, opts config.Options) (*check, error) {
	c := &check{valid: true}
	cfg, err := config.Load(ctx, opts)
	var invalid *config.InvalidError
	switch {
	case errors.As(err, &invalid):
		c.valid, c.cfg = false, invalid.Partial
	case err != nil:
		return nil, err
	default:
		c.cfg = cfg
	}
	var found []config.Finding
	c.plan, found = plan.Build(c.cfg, app.ExporterQueue)
	c.findings = append(c.findings, c.cfg.Findings...)
	for _, f := range found {
		if !c.valid && f.Severity != config.Error {
			continue // said of something that will not be
		}
		if opts.Strict && f.Severity == config.Warning {
			f.Severity = config.Error
		}
		c.valid = c.valid && f.Severity != config.Error
		c.findings = append(c.findings, f)
	}
	if opts.Here {
		c.bindAll()
		c.lookAround()
	}
	if c.valid && !opts.Fragment {
		c.rehearse(ctx, &opts)
	}
	config.Sort(c.findings)
	return c, nil
}

// rehearse does with a valid configuration what a start does, in an environment of stubs. Where this host is not the
// target, what fails for its files is a warning, and only if nothing was said about that component.
func (c *check) rehearse(ctx context.Context, opts *config.Options) {
	for _, err := range app.Rehearse(ctx, &app.Offer{Config: c.cfg, Plan: c.plan}) {
		f := config.Finding{Severity: config.Error, Text: err.Error()}
		var at *app.ComponentError
		if errors.As(err, &at) {
			f.Component, f.Position, f.Text = at.Component, at.Position, at.Err.Error()
		}
		if opts.Portable {
			f.Severity = config.Warning
			if slices.ContainsFunc(c.findings, func(o config.Finding) bool {
				return o.Component == f.Component && o.Severity == config.Warning
			}) {
				continue
			}
		}
		c.valid = c.valid && f.Severity != config.Error
		c.findings = append(c.findings, f)
	}
}

// bindAll opens and closes every port on this host. One that is in use is a warning: the one who uses it may be the
// instance that this configuration is for.
func (c *check) bindAll() {
	for i := range c.plan.Listeners {
		l := &c.plan.Listeners[i]
		ln, err := net.Listen(cmp.Or(l.Network, "tcp"), l.Address)
		if err == nil {
			err = ln.Close()
		}
		f := config.Finding{Severity: config.Error, Position: c.cfg.Where(l.Key), Component: l.Component}
		switch {
		case err == nil:
			continue
		case errors.Is(err, syscall.EADDRINUSE):
			f.Severity, f.Text = config.Warning, fmt.Sprintf("%s is in use, by this program if it runs already", l.Address)
		default:
			f.Text = err.Error()
		}
		if f.Component == "" {
			f.Text = l.Purpose + ": " + f.Text
		}
		c.valid = c.valid && f.Severity != config.Error
		c.findings = append(c.findings, f)
	}
}

// lookAround warns of directories of storages that lie where data does not last, or that others may write to.
func (c *check) lookAround() {
	for i := range c.plan.Storages {
		s := &c.plan.Storages[i]
		id := s.IDs[0]
		warn := func(text string) {
			c.findings = append(c.findings, config.Finding{
				Severity: config.Warning, Component: "extensions/" + id, Text: text,
				Position: c.cfg.Where("extensions::" + id + "::directory"),
			})
		}
		found, err := app.Surroundings(s.Directory)
		if err != nil && !slices.ContainsFunc(c.findings, func(f config.Finding) bool {
			return f.Severity == config.Error && f.Component == "extensions/"+id
		}) {
			warn(err.Error())
		}
		for _, text := range found {
			warn(text)
		}
		if err := app.Spare(c.cfg.Components[config.Extensions][id]); err != nil {
			c.valid = false
			c.findings = append(c.findings, config.Finding{
				Severity: config.Error, Component: "extensions/" + id, Key: "min_free_mib", Text: err.Error(),
				Position: c.cfg.Where("extensions::" + id + "::min_free_mib"),
			})
		}
	}
}

func newValidateCommand(reg *config.Registry) *cobra.Command {
	var f readFlags
	cmd := &cobra.Command{
		Use:   "validate",
		Short: "Check a configuration without running it",
		Long: `Check a configuration without running it: nothing is opened, created or bound. Findings go to stderr, one per line,
sorted by place: FILE:LINE: severity: COMPONENT: text (hint). Notes and warnings change no exit code.

Exit codes: 0 valid; 1 not valid, or not readable.`,
		Example: `  holdfast validate --config config.yaml
  holdfast validate --config base.yaml --config site.yaml --set exporters.otlp.endpoint=host:4317
  helm template . | holdfast validate --config=-`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := applyFeatureGates(f.gates); err != nil {
				return err
			}
			c, err := inspect(commandContext(cmd), f.options(cmd, reg))
			if f.asJSON {
				return printVerdict(cmd.OutOrStdout(), c, err)
			}
			if err != nil {
				return err
			}
			printFindings(cmd.ErrOrStderr(), c.findings)
			if !c.valid {
				return &ExitError{Code: 1}
			}
			return nil
		},
	}
	registerReadFlags(cmd, &f)
	s := cmd.Flags()
	s.BoolVar(&f.asJSON, "json", false, "print one JSON document to stdout")
	s.BoolVar(&f.strict, "strict", false, "warnings and supplied parts are errors")
	s.BoolVar(&f.here, "here", false, "this host is the target: its directories and ports must be usable")
	return cmd
}

func registerReadFlags(cmd *cobra.Command, f *readFlags) {
	registerConfigFlags(cmd, &f.uris, &f.sets, &f.gates)
	s := cmd.Flags()
	s.BoolVar(&f.portable, "portable", false, "this host is not the target: its files and variables do not matter")
	s.BoolVar(&f.fragment, "fragment", false, "assume what is referenced and not defined; ask for nothing around it")
}

func commandContext(cmd *cobra.Command) context.Context {
	if ctx := cmd.Context(); ctx != nil {
		return ctx
	}
	return context.Background()
}

// findingDocument is a finding in JSON.
type findingDocument struct {
	Severity  config.Severity `json:"severity"`
	File      string          `json:"file"`
	Line      int             `json:"line"`
	Column    int             `json:"column"`
	Component string          `json:"component"`
	Key       string          `json:"key"`
	Text      string          `json:"text"`
	Hint      string          `json:"hint"`
}

func documentsOf(findings []config.Finding) []findingDocument {
	out := make([]findingDocument, 0, len(findings))
	for _, f := range findings {
		out = append(out, findingDocument{
			Severity: f.Severity, File: f.Position.File, Line: f.Position.Line, Column: f.Position.Column,
			Component: f.Component, Key: f.Key, Text: f.Text, Hint: f.Hint,
		})
	}
	return out
}

type verdictDocument struct {
	Valid    bool              `json:"valid"`
	Hash     string            `json:"hash"`
	Sources  []config.Source   `json:"sources"`
	Findings []findingDocument `json:"findings"`
}

func printVerdict(w io.Writer, c *check, err error) error {
	doc := verdictDocument{Sources: []config.Source{}}
	if err != nil {
		doc.Findings = documentsOf([]config.Finding{{Severity: config.Error, Text: err.Error()}})
	} else {
		doc.Valid, doc.Hash, doc.Findings = c.valid, c.cfg.Hash, documentsOf(c.findings)
		doc.Sources = append(doc.Sources, c.cfg.Sources...)
	}
	if err := printJSON(w, doc); err != nil {
		return err
	}
	if !doc.Valid {
		return &ExitError{Code: 1}
	}
	return nil
}

func printJSON(w io.Writer, doc any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(doc)
}

func printFindings(w io.Writer, findings []config.Finding) {
	for _, f := range findings {
		fmt.Fprintln(w, escape(f.String()))
	}
}

// escape shows what a terminal would act upon: a configuration is foreign text.
func escape(s string) string {
	if strings.IndexFunc(s, unprintable) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unprintable(r) {
			fmt.Fprintf(&b, "\\u%04x", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }
