// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc_test

import (
	"bytes"
	"io"
	"net"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2stream is one request at a server that speaks HTTP/2 by hand, to say what no library says.
type h2stream struct {
	conn   net.Conn
	framer *http2.Framer
	enc    *hpack.Encoder
	buf    *bytes.Buffer
	id     uint32
	ended  bool
}

// h2server serves the requests of each connection, one after the other, with serve.
func h2server(t *testing.T, serve func(*h2stream)) string {
	return acceptor(t, func(c net.Conn) {
		preface := make([]byte, len(http2.ClientPreface))
		if _, err := io.ReadFull(c, preface); err != nil {
			return
		}
		s := &h2stream{conn: c, framer: http2.NewFramer(c, c), buf: &bytes.Buffer{}}
		s.enc = hpack.NewEncoder(s.buf)
		if s.framer.WriteSettings() != nil {
			return
		}
		for s.next() {
			serve(s)
		}
	})
}

// next waits for the headers of a request.
func (s *h2stream) next() bool {
	for {
		f, err := s.framer.ReadFrame()
		if err != nil {
			return false
		}
		if h, ok := f.(*http2.HeadersFrame); ok {
			s.id, s.ended = h.StreamID, h.StreamEnded()
			return true
		}
		s.control(f)
	}
}

func (s *h2stream) control(f http2.Frame) {
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			_ = s.framer.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			_ = s.framer.WritePing(true, f.Data)
		}
	}
}

// readRequest reads the body to its end.
func (s *h2stream) readRequest() {
	for !s.ended {
		f, err := s.framer.ReadFrame()
		if err != nil {
			return
		}
		if d, ok := f.(*http2.DataFrame); ok && d.StreamID == s.id {
			s.ended = d.StreamEnded()
			continue
		}
		s.control(f)
	}
}

func (s *h2stream) write(end bool, fields ...string) {
	s.buf.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = s.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	_ = s.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: s.id, BlockFragment: s.buf.Bytes(), EndHeaders: true, EndStream: end})
}

func (s *h2stream) headers(fields ...string) { s.write(false, fields...) }

func (s *h2stream) trailers(fields ...string) { s.write(true, fields...) }

// data sends b in frames; what the windows do not hold would be an error of the test.
func (s *h2stream) data(b []byte) {
	for len(b) > 0 {
		n := min(len(b), 16<<10)
		_ = s.framer.WriteData(s.id, false, b[:n])
		b = b[n:]
	}
}

func (s *h2stream) ok() {
	s.headers(":status", "200", "content-type", "application/grpc")
	s.data([]byte{0, 0, 0, 0, 0})
	s.trailers("grpc-status", "0")
}

func (s *h2stream) reset(code http2.ErrCode) { _ = s.framer.WriteRSTStream(s.id, code) }

func (s *h2stream) goAway(last uint32) { _ = s.framer.WriteGoAway(last, http2.ErrCodeNo, nil) }
