// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

// Joinable reports whether the bytes of two sound requests of a signal, one behind the other, are the request that
// holds the items of both, in this order. They are for traces, metrics and logs, since the only field of those
// requests is a list and protobuf appends lists: joining is concatenation, and costs nothing. It holds in each
// Encoding whose members concatenate, as long as all parts have the same.
//
// One thing travels badly: the reference decoder, and so Scan, lets pass an unknown group that never ends. Decoders that
// refuse it refuse whatever it is joined with; the batch then has to be sent as the requests it was made of.
//
// Profiles cannot be joined so. Their dictionary is one message beside the list: decoders would append its tables,
// too, while the indices in the second request go on pointing into the first one's tables.
func Joinable(s Signal) bool { return s == Traces || s == Metrics || s == Logs }
