// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"path/filepath"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/app"
	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// A sample loads without a warning, and everything it names can be built.
func TestEverySampleLoadsAndBuilds(t *testing.T) {
	samples, err := filepath.Glob("../../deploy/samples/*.yaml")
	if err != nil || len(samples) == 0 {
		t.Fatalf("samples: %v, %v", samples, err)
	}
	for _, sample := range samples {
		t.Run(filepath.Base(sample), func(t *testing.T) {
			cfg, err := config.Load(t.Context(), config.Options{URIs: []string{sample}, Registry: app.Registry(), Portable: true})
			if err != nil {
				t.Fatal(err)
			}
			p, findings := plan.Build(cfg, app.ExporterQueue)
			for _, f := range append(cfg.Findings, findings...) {
				if f.Severity != config.Note {
					t.Error(f)
				}
			}
			if _, err := app.New(app.Options{Config: cfg, Plan: p, Telemetry: telemetry.Nop()}); err != nil {
				t.Error(err)
			}
		})
	}
}
