// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"fmt"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pprofile"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

// ToJSON decodes one request and writes it as OTLP JSON, in one line. A panic of the decoder is an error: the bytes
// may be older than the scan that would refuse them today.
func ToJSON(s otlp.Signal, b []byte) (out []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("decoder panicked: %v", p)
		}
	}()
	switch s {
	case otlp.Traces:
		d, err := (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces(b)
		if err != nil {
			return nil, err
		}
		return (&ptrace.JSONMarshaler{}).MarshalTraces(d)
	case otlp.Metrics:
		d, err := (&pmetric.ProtoUnmarshaler{}).UnmarshalMetrics(b)
		if err != nil {
			return nil, err
		}
		return (&pmetric.JSONMarshaler{}).MarshalMetrics(d)
	case otlp.Logs:
		d, err := (&plog.ProtoUnmarshaler{}).UnmarshalLogs(b)
		if err != nil {
			return nil, err
		}
		return (&plog.JSONMarshaler{}).MarshalLogs(d)
	case otlp.Profiles:
		d, err := (&pprofile.ProtoUnmarshaler{}).UnmarshalProfiles(b)
		if err != nil {
			return nil, err
		}
		return (&pprofile.JSONMarshaler{}).MarshalProfiles(d)
	}
	return nil, fmt.Errorf("%s has no JSON", s)
}

// FromJSON is the inverse of ToJSON.
func FromJSON(s otlp.Signal, b []byte) (out []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("decoder panicked: %v", p)
		}
	}()
	switch s {
	case otlp.Traces:
		d, err := (&ptrace.JSONUnmarshaler{}).UnmarshalTraces(b)
		if err != nil {
			return nil, err
		}
		return (&ptrace.ProtoMarshaler{}).MarshalTraces(d)
	case otlp.Metrics:
		d, err := (&pmetric.JSONUnmarshaler{}).UnmarshalMetrics(b)
		if err != nil {
			return nil, err
		}
		return (&pmetric.ProtoMarshaler{}).MarshalMetrics(d)
	case otlp.Logs:
		d, err := (&plog.JSONUnmarshaler{}).UnmarshalLogs(b)
		if err != nil {
			return nil, err
		}
		return (&plog.ProtoMarshaler{}).MarshalLogs(d)
	case otlp.Profiles:
		d, err := (&pprofile.JSONUnmarshaler{}).UnmarshalProfiles(b)
		if err != nil {
			return nil, err
		}
		return (&pprofile.ProtoMarshaler{}).MarshalProfiles(d)
	}
	return nil, fmt.Errorf("%s has no JSON", s)
}
