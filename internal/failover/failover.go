// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package failover decides which of several ordered levels takes a batch, when a level is down, and when it has
// proven that it is back.
//
// It stands between the queue and the exporters and sends nothing itself: its machines are told outcomes and the
// time, and answer what to do. It promises that no level is ever given up and that running out of retries deletes
// nothing. It refuses to know sockets, clocks and what is inside a batch.
package failover
