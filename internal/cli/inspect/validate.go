// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/holdfast-telemetry/holdfast/internal/app"
	"github.com/holdfast-telemetry/holdfast/internal/app/sources"
	"github.com/holdfast-telemetry/holdfast/internal/cli/command"
	"github.com/holdfast-telemetry/holdfast/internal/config"
)

// rehearse does with a valid configuration what a start does, in an environment of stubs. Where this host is not the
// target, what fails for its files is a warning, and only if nothing was said about that component.
func (c *Checked) rehearse(ctx context.Context, opts *config.Options) {
	for _, err := range app.Rehearse(ctx, &sources.Offer{Config: c.Config, Plan: c.Plan}) {
		f := config.Finding{Severity: config.Error, Text: err.Error()}
		var at *app.ComponentError
		if errors.As(err, &at) {
			f.Component, f.Position, f.Text = at.Component, at.Position, at.Err.Error()
		}
		if opts.Portable {
			f.Severity = config.Warning
			if slices.ContainsFunc(c.Findings, func(o config.Finding) bool {
				return o.Component == f.Component && o.Severity == config.Warning
			}) {
				continue
			}
		}
		c.Valid = c.Valid && f.Severity != config.Error
		c.Findings = append(c.Findings, f)
	}
}

// bindAll opens and closes every port on this host. One that is in use is a warning: the one who uses it may be the
// instance that this configuration is for.
func (c *Checked) bindAll() {
	for i := range c.Plan.Listeners {
		l := &c.Plan.Listeners[i]
		ln, err := net.Listen(cmp.Or(l.Network, "tcp"), l.Address)
		if err == nil {
			err = ln.Close()
		}
		f := config.Finding{Severity: config.Error, Position: c.Config.Where(l.Key), Component: l.Component}
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
		c.Valid = c.Valid && f.Severity != config.Error
		c.Findings = append(c.Findings, f)
	}
}

// lookAround warns of directories of storages that lie where data does not last, or that others may write to.
func (c *Checked) lookAround() {
	for i := range c.Plan.Storages {
		s := &c.Plan.Storages[i]
		id := s.IDs[0]
		warn := func(text string) {
			c.Findings = append(c.Findings, config.Finding{
				Severity: config.Warning, Component: "extensions/" + id, Text: text,
				Position: c.Config.Where("extensions::" + id + "::directory"),
			})
		}
		found, err := surroundings(s.Directory)
		if err != nil && !slices.ContainsFunc(c.Findings, func(f config.Finding) bool {
			return f.Severity == config.Error && f.Component == "extensions/"+id
		}) {
			warn(err.Error())
		}
		for _, text := range found {
			warn(text)
		}
		if err := spare(c.Config.Components[config.Extensions][id]); err != nil {
			c.Valid = false
			c.Findings = append(c.Findings, config.Finding{
				Severity: config.Error, Component: "extensions/" + id, Key: "min_free_mib", Text: err.Error(),
				Position: c.Config.Where("extensions::" + id + "::min_free_mib"),
			})
		}
	}
}

// NewValidate is the command that checks a configuration without running it.
func NewValidate(reg *config.Registry) *cobra.Command {
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
			if err := command.ApplyFeatureGates(f.gates); err != nil {
				return err
			}
			c, err := Look(command.Context(cmd), f.options(cmd, reg))
			if f.asJSON {
				return printVerdict(cmd.OutOrStdout(), c, err)
			}
			if err != nil {
				return err
			}
			command.PrintFindings(cmd.ErrOrStderr(), c.Findings)
			if !c.Valid {
				return &command.ExitError{Code: 1}
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

func printVerdict(w io.Writer, c *Checked, err error) error {
	doc := verdictDocument{Sources: []config.Source{}}
	if err != nil {
		doc.Findings = documentsOf([]config.Finding{{Severity: config.Error, Text: err.Error()}})
	} else {
		doc.Valid, doc.Hash, doc.Findings = c.Valid, c.Config.Hash, documentsOf(c.Findings)
		doc.Sources = append(doc.Sources, c.Config.Sources...)
	}
	if err := command.PrintJSON(w, doc); err != nil {
		return err
	}
	if !doc.Valid {
		return &command.ExitError{Code: 1}
	}
	return nil
}
