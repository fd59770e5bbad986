// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package proving is the commands of the proving ground: an outage to watch, a drill of a user's own configuration, the load,
// the backend and the ledger they are made of.
package proving

// Exit codes of the proving ground; 1 is a verdict that is not good.
const (
	exitUnknown   = 2 // load: unknowns remain
	exitCannotRun = 3
)
