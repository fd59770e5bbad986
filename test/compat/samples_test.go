// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/app"
	"github.com/holdfast-telemetry/holdfast/internal/app/components"
	"github.com/holdfast-telemetry/holdfast/internal/cli"
	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// A sample loads without a warning, and everything it names can be built.
func TestEverySampleLoadsAndBuilds(t *testing.T) {
	for _, pattern := range []string{
		"../../deploy/samples/*.yaml", "../../deploy/systemd/config.yaml", "../../deploy/kubernetes/base/*/config.yaml",
	} {
		samples, err := filepath.Glob(pattern)
		if err != nil || len(samples) == 0 {
			t.Fatalf("%s: %v, %v", pattern, samples, err)
		}
		for _, sample := range samples {
			t.Run(filepath.Base(filepath.Dir(sample))+"/"+filepath.Base(sample), func(t *testing.T) { loadsAndBuilds(t, sample) })
		}
	}
}

func loadsAndBuilds(t *testing.T, sample string) {
	t.Helper()
	cfg, err := config.Load(t.Context(), config.Options{URIs: []string{sample}, Registry: components.Registry(), Portable: true})
	if err != nil {
		t.Fatal(err)
	}
	p, findings := plan.Build(cfg, components.ExporterQueue)
	for _, f := range append(cfg.Findings, findings...) {
		if f.Text == plan.OpenToAll && strings.Contains(sample, "kubernetes") {
			continue // in a pod's own network; who may reach it is the cluster's to say
		}
		if f.Severity != config.Note {
			t.Error(f)
		}
	}
	if _, err := app.New(app.Options{Config: cfg, Plan: p, Telemetry: telemetry.Nop()}); err != nil {
		t.Error(err)
	}
}

// Manifests, the unit and the container's file start the program with flags it has.
func TestWhatStartsTheProgramUsesFlagsItHas(t *testing.T) {
	var help bytes.Buffer
	if code := cli.Main([]string{"holdfast", "run", "--help"}, strings.NewReader(""), &help, &help); code != 0 {
		t.Fatal(help.String())
	}
	flag, seen := regexp.MustCompile(`[\s"](--[a-z-]+)`), map[string]bool{}
	for _, file := range []string{
		"kubernetes/base/gateway/statefulset.yaml", "kubernetes/base/agent/daemonset.yaml", "systemd/holdfast.service",
		"systemd/holdfast.conf", "container/Containerfile",
	} {
		text, err := os.ReadFile(filepath.Join("../../deploy", file))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			starts := strings.HasPrefix(line, "ExecStart=") || strings.HasPrefix(line, "HOLDFAST_OPTIONS=") ||
				strings.HasPrefix(line, "CMD ") || strings.HasPrefix(strings.TrimSpace(line), "- --")
			for _, m := range flag.FindAllStringSubmatch(line, -1) {
				if seen[m[1]] = seen[m[1]] || starts; starts && !strings.Contains(help.String(), m[1]+" ") {
					t.Errorf("%s: %s is no flag of run", file, m[1])
				}
			}
		}
	}
	for _, name := range []string{"--config", "--pid-file", "--shutdown-timeout", "--shutdown-delay"} {
		if !seen[name] {
			t.Errorf("nobody uses %s: are the lines still found?", name)
		}
	}
}

// The unit ends the process no earlier than the process ends itself, and takes every right that it can.
func TestTheUnitIsHardenedAndGivesTimeToStop(t *testing.T) {
	text, err := os.ReadFile("../../deploy/systemd/holdfast.service")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"Type=notify", "ExecReload=/bin/kill -HUP $MAINPID", "KillMode=mixed", "Restart=on-failure", "TimeoutStopSec=35",
		"StateDirectory=holdfast otelcol otel", "RuntimeDirectory=otelcol", "LimitNOFILE=65536", "Alias=otel-collector.service",
		"User=holdfast", "NoNewPrivileges=yes", "CapabilityBoundingSet=", "ProtectSystem=strict", "ProtectHome=yes",
		"PrivateDevices=yes", "MemoryDenyWriteExecute=yes", "SystemCallFilter=@system-service", "RestrictNamespaces=yes",
	} {
		if !strings.Contains(string(text), "\n"+line+"\n") {
			t.Errorf("the unit does not say %s", line)
		}
	}
}
