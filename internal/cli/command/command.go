// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package command is what the commands have in common: how they read their flags and name the nearest one, how they end, and
// how they print what strangers wrote. It knows no command.
package command

import "time"

// Version is set by the release build (-ldflags -X).
var Version = "0.1.0-dev"

// CollectorVersion is the release of the Collector's modules that the binary is made with.
const CollectorVersion = "v0.164.0/v1.70.0"

// ProgressEvery is how often a command that takes long tells how far it is.
const ProgressEvery = 5 * time.Second
