// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package mockbackend

import (
	"bytes"
	"net"
	"testing"
)

// noteConn notes what is written.
type noteConn struct {
	net.Conn
	out bytes.Buffer
}

func (c *noteConn) Write(p []byte) (int, error) { return c.out.Write(p) }

// TestAFrameIsPutBetweenFramesWhereverWritesAreCut: inside the package, since only here the cuts can be chosen.
func TestAFrameIsPutBetweenFramesWhereverWritesAreCut(t *testing.T) {
	frame := func(size int) []byte {
		f := append([]byte{0, byte(size >> 8), byte(size)}, 0, 0, 0, 0, 0, 1)
		return append(f, bytes.Repeat([]byte{0xaa}, size)...)
	}
	stream := bytes.Join([][]byte{frame(0), frame(300), frame(5), frame(40)}, nil)
	for cut := 0; cut <= len(stream); cut++ {
		raw := &noteConn{}
		h := &h2Conn{Conn: raw}
		if _, err := h.Write(stream[:cut]); err != nil {
			t.Fatal(err)
		}
		h.inject(goAwayFrame)
		if _, err := h.Write(stream[cut:]); err != nil {
			t.Fatal(err)
		}
		var frames []int
		for rest := raw.out.Bytes(); len(rest) > 0; {
			size := int(rest[0])<<16 | int(rest[1])<<8 | int(rest[2])
			if bytes.HasPrefix(rest, goAwayFrame) {
				size = -1
				rest = rest[len(goAwayFrame):]
			} else {
				rest = rest[frameHead+size:]
			}
			frames = append(frames, size)
		}
		var without []int
		for _, f := range frames {
			if f >= 0 {
				without = append(without, f)
			}
		}
		if len(frames) != 5 || len(without) != 4 || without[1] != 300 || without[3] != 40 {
			t.Fatalf("cut at %d: frames %v", cut, frames)
		}
	}
}
