// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package recordmeta_test

import (
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline/recordmeta"
)

func TestRecordMetadataReadsBackAsWritten(t *testing.T) {
	for _, p := range []otlp.Payload{
		{},
		{Encoding: otlp.Gzip},
		{Encoding: otlp.Zstd},
		{Metadata: otlp.Metadata{{Key: "tenant", Values: []string{"a", ""}}, {Key: "x-scope", Values: nil}}},
		{Encoding: otlp.Gzip, Metadata: otlp.Metadata{{Key: "tenant", Values: []string{"\x00\xff"}}}},
	} {
		enc, md, err := recordmeta.Decode(recordmeta.Encode(&p))
		if err != nil || enc != p.Encoding || !md.Equal(p.Metadata) {
			t.Errorf("%+v reads back as %v %v, %v", p, enc, md, err)
		}
	}
}

func FuzzRecordMetadataNeverPanics(f *testing.F) {
	f.Add([]byte{1, 1, 0})
	f.Add([]byte{1, 2, 1, 1, 'k', 1, 1, 'v'})
	f.Add([]byte{1, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		enc, md, err := recordmeta.Decode(b)
		if err != nil {
			return
		}
		again := recordmeta.Encode(&otlp.Payload{Encoding: enc, Metadata: md})
		enc2, md2, err := recordmeta.Decode(again)
		if err != nil || enc2 != enc || !md2.Equal(md) {
			t.Errorf("%x does not survive a second reading: %v", b, err)
		}
	})
}
