// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package journal is the queue that lasts: what it acknowledged is on disk and survives kill -9 and power cuts.
//
// It stands where queue/memory stands, behind the accept loop and in front of the deliveries. It stores opaque bytes
// once and keeps one cursor per destination; a segment is deleted when every cursor has resolved it. It knows no
// telemetry, no configuration documents and no network.
package journal
