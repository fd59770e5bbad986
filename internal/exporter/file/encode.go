// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/klauspost/compress/zstd"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pprofile"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/wire"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

// prefixBytes is the length of a record's length.
const prefixBytes = 4

// encoder turns requests into records. Its method may be called from any goroutine.
type encoder struct {
	json bool
	zstd *zstd.Encoder // nil = uncompressed
}

func newEncoder(cfg *Config) (*encoder, error) {
	e := &encoder{json: cfg.Format == formatJSON}
	if !cfg.compressed() {
		return e, nil
	}
	level := zstd.SpeedDefault
	if cfg.CompressionParams.Level != 0 {
		level = zstd.EncoderLevelFromZstd(int(cfg.CompressionParams.Level))
	}
	var err error
	e.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("compression zstd: %w", err)
	}
	return e, nil
}

// records returns the request's parts, each as a record: a part is a request as somebody sent it, and stays one.
func (e *encoder) records(r *exporter.Request) ([]byte, error) {
	if !e.json && e.zstd != nil && r.Encoding == otlp.Zstd {
		return framed(nil, r.Parts...)
	}
	parts, free, err := wire.Plain(r)
	if err != nil {
		return nil, err
	}
	defer free()
	var out []byte
	for _, p := range parts {
		if len(p) == 0 {
			continue
		}
		if e.json {
			if p, err = toJSON(r.Signal, p); err != nil {
				return nil, fmt.Errorf("encode %s as json: %w", r.Signal, err)
			}
		}
		switch {
		case e.zstd != nil:
			p = e.zstd.EncodeAll(p, nil)
			fallthrough
		case !e.json:
			if out, err = framed(out, p); err != nil {
				return nil, err
			}
		default:
			out = append(append(out, p...), '\n')
		}
	}
	return out, nil
}

// framed appends parts with their lengths.
func framed(out []byte, parts ...[]byte) ([]byte, error) {
	for _, p := range parts {
		if len(p) > math.MaxUint32 {
			return nil, fmt.Errorf("record of %d bytes does not fit its length field", len(p))
		}
		out = binary.BigEndian.AppendUint32(out, uint32(len(p)))
		out = append(out, p...)
	}
	return out, nil
}

// toJSON decodes one request and writes it as OTLP JSON, in one line. A panic of the decoder is an error: the bytes
// may be older than the scan that would refuse them today.
func toJSON(s otlp.Signal, b []byte) (out []byte, err error) {
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

// fromJSON is the inverse of toJSON; the signal is read from the line itself.
func fromJSON(s otlp.Signal, b []byte) (out []byte, err error) {
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
