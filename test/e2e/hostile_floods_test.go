// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// firstLine reads an answer's first line.
func firstLine(t *testing.T, conn net.Conn) string {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		t.Errorf("no answer: %v", err)
	}
	return strings.TrimSpace(line)
}

// attackWithGarbage sends what is no request at all.
func (f *fortress) attackWithGarbage(t *testing.T) {
	noise := make([]byte, 64<<10)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	var hello bytes.Buffer
	_ = tls.Client(&recorder{w: &hello}, &tls.Config{ServerName: "x", MinVersion: tls.VersionTLS12}).Handshake() // ends with its first read
	for name, data := range map[string][]byte{
		"random bytes":        noise,
		"zeros":               make([]byte, 64<<10),
		"a TLS hello":         hello.Bytes(),
		"another protocol":    []byte("EHLO example.com\r\nMAIL FROM:<>\r\nQUIT\r\n\r\n"),
		"a line without end":  bytes.Repeat([]byte{'A'}, 1<<20),
		"HTTP/2 where no h2c": []byte(http2.ClientPreface),
		"a TLS record of 64K": append([]byte{22, 3, 1, 0xff, 0xff}, noise...),
	} {
		f.attack(t, "garbage: "+name, func(t *testing.T) {
			for _, port := range []string{"4317", "4318", "5318"} {
				if port == "4317" && data[0] == 'P' {
					continue // there it is the beginning of a conversation
				}
				conn := f.raw(t, port)
				_, _ = conn.Write(data) // may be cut off in the middle
				if _, err := closedAfter(conn, headerLimit+slack); err != nil {
					t.Errorf("port %s: %v", port, err)
				}
			}
		})
	}
}

// recorder keeps what is written and has nothing to read.
type recorder struct {
	net.Conn
	w io.Writer
}

func (r *recorder) Write(p []byte) (int, error)      { return r.w.Write(p) }
func (r *recorder) Read([]byte) (int, error)         { return 0, io.EOF }
func (r *recorder) Close() error                     { return nil }
func (r *recorder) SetWriteDeadline(time.Time) error { return nil }

// flood is a raw HTTP/2 connection. What the door sends is read and thrown away unless deaf.
type flood struct {
	conn   net.Conn
	out    *bufio.Writer
	framer *http2.Framer
	head   []byte        // of a request, encoded without the dynamic table
	goAway atomic.Int64  // error code + 1 of the last GOAWAY
	resets atomic.Int64  // of streams
	pong   chan struct{} // closed by the answer to the last ping
	ended  chan struct{} // closed with the connection
}

func (f *fortress) flood(t *testing.T, port string, deaf bool, settings ...http2.Setting) *flood {
	t.Helper()
	conn := f.raw(t, port)
	path, contentType, scheme := "/opentelemetry.proto.collector.logs.v1.LogsService/Export", "application/grpc", "http"
	if port == "5318" {
		c := f.trust.Clone()
		c.NextProtos = []string{"h2"}
		c.ServerName = f.host
		secure := tls.Client(conn, c)
		if err := secure.HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		conn, path, contentType, scheme = secure, "/v1/logs", protobufType, "https"
	}
	x := &flood{conn: conn, out: bufio.NewWriterSize(conn, 64<<10), ended: make(chan struct{}), pong: make(chan struct{})}
	x.framer = http2.NewFramer(x.out, conn)
	x.framer.AllowIllegalWrites = true
	var head bytes.Buffer
	enc := hpack.NewEncoder(&head)
	enc.SetMaxDynamicTableSize(0)
	for _, h := range [][2]string{{":method", "POST"}, {":scheme", scheme}, {":authority", "x"}, {":path", path},
		{"content-type", contentType}, {"te", "trailers"}} {
		if err := enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1], Sensitive: true}); err != nil {
			t.Fatal(err)
		}
	}
	x.head = head.Bytes()
	if _, err := io.WriteString(x.out, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := x.framer.WriteSettings(settings...); err != nil {
		t.Fatal(err)
	}
	if err := x.out.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if deaf {
		close(x.ended)
		return x
	}
	go x.listen()
	return x
}

func (x *flood) listen() {
	defer close(x.ended)
	for {
		frame, err := x.framer.ReadFrame()
		if err != nil {
			return
		}
		switch frame := frame.(type) {
		case *http2.GoAwayFrame:
			x.goAway.Store(int64(frame.ErrCode) + 1)
		case *http2.RSTStreamFrame:
			x.resets.Add(1)
		case *http2.PingFrame:
			if frame.IsAck() && frame.Data == lastPing {
				close(x.pong)
			}
		}
	}
}

// lastPing marks the end of what was sent.
var lastPing = [8]byte{'t', 'h', 'e', ' ', 'l', 'a', 's', 't'}

// send writes n times, or until the door closes the connection, and waits until the door has dealt with it all. It says
// how often it wrote, and how the door answered.
func (x *flood) send(t *testing.T, n int, write func(i int) error) {
	t.Helper()
	began, wrote := time.Now(), n
	for i := range n {
		if write(i) != nil {
			wrote = i
			break
		}
	}
	_ = x.framer.WritePing(false, lastPing) // a connection that was closed is dealt with too
	_ = x.out.Flush()
	select {
	case <-x.pong:
	case <-x.ended:
	case <-time.After(patience):
		t.Error("the door does not answer, nor close")
	}
	goAway := "no GOAWAY"
	if code := x.goAway.Load(); code > 0 {
		goAway = "GOAWAY " + http2.ErrCode(code-1).String()
	}
	t.Logf("%d of %d sent, %d streams reset, %s, %s", wrote, n, x.resets.Load(), goAway, time.Since(began).Round(time.Millisecond))
}

// attackWithFrames floods both HTTP/2 doors.
func (f *fortress) attackWithFrames(t *testing.T) {
	for _, door := range []struct{ name, port string }{{"gRPC", "4317"}, {"HTTP over TLS", "5318"}} {
		headers := func(x *flood, i int, end bool) error {
			return x.framer.WriteHeaders(http2.HeadersFrameParam{
				StreamID: uint32(2*i + 1), BlockFragment: x.head, EndHeaders: true, EndStream: end,
			})
		}
		attack := func(name string, fn func(t *testing.T, x *flood), settings ...http2.Setting) {
			f.attack(t, door.name+": "+name, func(t *testing.T) { fn(t, f.flood(t, door.port, false, settings...)) })
		}
		attack("50,000 streams begun and reset", func(t *testing.T, x *flood) {
			x.send(t, 50_000, func(i int) error {
				return errors.Join(headers(x, i, false), x.framer.WriteRSTStream(uint32(2*i+1), http2.ErrCodeCancel))
			})
		})
		attack("1,000 streams at once", func(t *testing.T, x *flood) {
			x.send(t, 1000, func(i int) error { return headers(x, i, false) })
			if x.resets.Load() < 700 && x.goAway.Load() == 0 {
				t.Error("more than the allowed 256 streams are open")
			}
		})
		attack("200,000 pings", func(t *testing.T, x *flood) {
			x.send(t, 200_000, func(i int) error { return x.framer.WritePing(false, [8]byte{byte(i)}) })
		})
		attack("200,000 settings", func(t *testing.T, x *flood) {
			x.send(t, 200_000, func(i int) error {
				return x.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(i % 65536)})
			})
		})
		for name, write := range map[string]func(x *flood, i int) error{
			"pings": func(x *flood, i int) error { return x.framer.WritePing(false, [8]byte{byte(i)}) },
			"settings": func(x *flood, i int) error {
				return x.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(i % 65536)})
			},
		} {
			f.attack(t, door.name+": 5,000,000 "+name+" whose answers nobody reads", func(t *testing.T) {
				x := f.flood(t, door.port, true)
				_ = x.conn.SetDeadline(time.Now().Add(2 * time.Second)) // a door that stops reading is right
				for i := range 5_000_000 {
					if err := write(x, i); err != nil {
						t.Logf("%d sent, then %v", i, err)
						return
					}
				}
				t.Error("all were taken")
			})
		}
		attack("headers that never end", func(t *testing.T, x *flood) {
			junk := bytes.Repeat([]byte{0x82}, 8<<10) // ":method: GET", by the static table, 8,192 times
			if err := x.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: x.head}); err != nil {
				t.Fatal(err)
			}
			x.send(t, 10_000, func(int) error { return x.framer.WriteContinuation(1, false, junk) })
			x.isClosed(t)
		})
		attack("answers that have no window", func(t *testing.T, x *flood) {
			x.send(t, 5000, func(i int) error { return headers(x, i, true) })
		}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		attack("data beyond every window", func(t *testing.T, x *flood) {
			if err := headers(x, 0, false); err != nil {
				t.Fatal(err)
			}
			data := make([]byte, 16<<10)
			x.send(t, 10_000, func(int) error { return x.framer.WriteData(1, false, data) })
			if x.resets.Load() == 0 && x.goAway.Load() == 0 {
				t.Error("neither the stream is reset nor the connection closed")
			}
		})
		for name, write := range map[string]func(x *flood) error{
			"data of no stream":    func(x *flood) error { return x.framer.WriteData(0, false, []byte("x")) },
			"a frame of 16 MiB":    func(x *flood) error { return x.framer.WriteRawFrame(http2.FrameData, 0, 1, make([]byte, 1<<24-1)) },
			"settings of odd size": func(x *flood) error { return x.framer.WriteRawFrame(http2.FrameSettings, 0, 0, []byte{1, 2, 3}) },
			"an even stream": func(x *flood) error {
				return x.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 2, BlockFragment: x.head, EndHeaders: true})
			},
			"headers that cannot be decoded": func(x *flood) error {
				return x.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: bytes.Repeat([]byte{0xff}, 100), EndHeaders: true})
			},
		} {
			attack(name, func(t *testing.T, x *flood) {
				_ = write(x) // may be cut off in the middle
				_ = x.out.Flush()
				x.isClosed(t)
			})
		}
	}
}

// isClosed waits until the door closed the connection.
func (x *flood) isClosed(t *testing.T) {
	t.Helper()
	_ = x.conn.SetDeadline(time.Now().Add(patience / 2))
	began := time.Now()
	<-x.ended
	if time.Since(began) > patience/2-time.Second {
		t.Error("the connection stays open")
	}
}
