// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package segment

import (
	"bytes"
	"testing"
)

// FuzzFrameHeader reads any 64 bytes as the header of a frame: one that is good is within all bounds and is written as
// it was read.
func FuzzFrameHeader(f *testing.F) {
	good := Frame{Off: 4096, Type: TypeRecord, Tag: 1, Seq: 7, Items: 3, Size: 9, Accepted: 1, ItemsBefore: 5, Synced: 4096,
		bodyLen: 100, bodyCRC: 1, metaLen: 10, salt: 77}
	f.Add(good.appendHeader(nil), int64(4096), int64(65536))
	f.Fuzz(func(t *testing.T, p []byte, off, end int64) {
		if len(p) < frameHeaderBytes {
			return
		}
		p = p[:frameHeaderBytes]
		off, end = min(max(off, 4096), int64(maxOffset))&^7, min(max(end, 0), int64(maxOffset))
		for _, sign := range []bool{false, true} {
			if sign {
				signed := bytes.Clone(p)
				h := Frame{}
				copy(signed, h.appendHeader(nil)[:4]) // any checksum, put right below
				crc := Checksum(signed[4:], nil)
				signed[0], signed[1], signed[2], signed[3] = byte(crc), byte(crc>>8), byte(crc>>16), byte(crc>>24)
				p = signed
			}
			got, ok := parseFrame(p, Offset(off), Offset(end), 0)
			if !ok {
				continue
			}
			if got.Seq > MaxSeq || got.End > Offset(end) || got.End <= got.Off || got.metaLen > got.bodyLen ||
				got.bodyLen > MaxRecordBytes || got.ItemsBefore+uint64(got.Items) < got.ItemsBefore || got.salt == 0 {
				t.Fatalf("out of bounds: %+v", got)
			}
			again := got.appendHeader(nil)
			if !bytes.Equal(again[4:60], p[4:60]) { // 60..63 is reserved
				t.Fatalf("read %x, written %x", p, again)
			}
			if _, ok := parseFrame(p, Offset(off), Offset(end), max(got.salt+1, 1)); ok {
				t.Fatal("good with another salt")
			}
		}
	})
}
