// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/klauspost/compress/zstd"

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
			if p, err = wire.ToJSON(r.Signal, p); err != nil {
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
