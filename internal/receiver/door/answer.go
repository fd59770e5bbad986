// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package door

import (
	"encoding/json"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
)

// maxMessage bounds the backend's text in an answer (faults, part C).
const maxMessage = 1 << 10

// PartialSuccess is the body of an answer that passes on what a backend said: message Export…ServiceResponse with
// its partial_success (field 1), which has the count of rejected items (field 1) and a text (field 2) for every
// signal.
func PartialSuccess(res receiver.Result) []byte {
	var partial []byte
	if res.Rejected > 0 {
		partial = protowire.AppendTag(partial, 1, protowire.VarintType)
		partial = protowire.AppendVarint(partial, uint64(res.Rejected))
	}
	if res.Message != "" {
		partial = protowire.AppendTag(partial, 2, protowire.BytesType)
		partial = protowire.AppendString(partial, Clean(res.Message))
	}
	return protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), partial)
}

// PartialSuccessJSON is PartialSuccess in JSON: a count is a decimal string, and its name is the signal's.
func PartialSuccessJSON(s otlp.Signal, res receiver.Result) []byte {
	partial := map[string]string{}
	if res.Rejected > 0 {
		partial[rejectedNames[s]] = strconv.FormatUint(uint64(res.Rejected), 10)
	}
	if res.Message != "" {
		partial["errorMessage"] = Clean(res.Message)
	}
	b, _ := json.Marshal(map[string]any{"partialSuccess": partial}) // strings cannot fail
	return b
}

var rejectedNames = map[otlp.Signal]string{
	otlp.Traces: "rejectedSpans", otlp.Metrics: "rejectedDataPoints", otlp.Logs: "rejectedLogRecords",
	otlp.Profiles: "rejectedProfiles",
}
