// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlp_test

import (
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/pprofile/pprofileotlp"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

// reference is what the reference decoder says of b.
func reference(s otlp.Signal, b []byte) (items int, err error) {
	switch s {
	case otlp.Traces:
		r := ptraceotlp.NewExportRequest()
		if err := r.UnmarshalProto(b); err != nil {
			return 0, err
		}
		return r.Traces().SpanCount(), nil
	case otlp.Metrics:
		r := pmetricotlp.NewExportRequest()
		if err := r.UnmarshalProto(b); err != nil {
			return 0, err
		}
		return r.Metrics().DataPointCount(), nil
	case otlp.Logs:
		r := plogotlp.NewExportRequest()
		if err := r.UnmarshalProto(b); err != nil {
			return 0, err
		}
		return r.Logs().LogRecordCount(), nil
	case otlp.Profiles:
		r := pprofileotlp.NewExportRequest()
		if err := r.UnmarshalProto(b); err != nil {
			return 0, err
		}
		return r.Profiles().SampleCount(), nil
	}
	panic("no such signal")
}
