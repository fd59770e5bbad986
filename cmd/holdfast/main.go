// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Command holdfast is an OpenTelemetry Collector whose reason to exist is failover and recovery.
package main

import (
	"os"

	"github.com/holdfast-telemetry/holdfast/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args, os.Stdin, os.Stdout, os.Stderr))
}
