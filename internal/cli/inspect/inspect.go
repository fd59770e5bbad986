// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package inspect is the commands that look at a configuration and run nothing: validate, explain, print-config. What they say
// is the plan that run builds.
package inspect

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/holdfast-telemetry/holdfast/internal/app/components"
	"github.com/holdfast-telemetry/holdfast/internal/cli/command"
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

// Checked is what is known of a configuration: all findings, and as much of it and of its plan as could be made.
type Checked struct {
	Config   *config.Config
	Plan     *plan.Plan
	Findings []config.Finding
	Valid    bool // no finding is an error
}

// Look loads and plans a configuration. Its error is about reading; what is wrong with the configuration is in
// the findings.
func Look(ctx context.Context, opts config.Options) (*Checked, error) {
	c := &Checked{Valid: true}
	cfg, err := config.Load(ctx, opts)
	var invalid *config.InvalidError
	switch {
	case errors.As(err, &invalid):
		c.Valid, c.Config = false, invalid.Partial
	case err != nil:
		return nil, err
	default:
		c.Config = cfg
	}
	var found []config.Finding
	c.Plan, found = plan.Build(c.Config, components.ExporterQueue)
	c.Findings = append(c.Findings, c.Config.Findings...)
	for _, f := range found {
		if !c.Valid && f.Severity != config.Error {
			continue // said of something that will not be
		}
		if opts.Strict && f.Severity == config.Warning {
			f.Severity = config.Error
		}
		c.Valid = c.Valid && f.Severity != config.Error
		c.Findings = append(c.Findings, f)
	}
	if opts.Here {
		c.bindAll()
		c.lookAround()
	}
	if c.Valid && !opts.Fragment {
		c.rehearse(ctx, &opts)
	}
	config.Sort(c.Findings)
	return c, nil
}

func registerReadFlags(cmd *cobra.Command, f *readFlags) {
	command.RegisterConfigFlags(cmd, &f.uris, &f.sets, &f.gates)
	s := cmd.Flags()
	s.BoolVar(&f.portable, "portable", false, "this host is not the target: its files and variables do not matter")
	s.BoolVar(&f.fragment, "fragment", false, "assume what is referenced and not defined; ask for nothing around it")
}
