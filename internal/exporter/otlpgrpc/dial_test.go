// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/collector/config/configgrpc"
	"go.opentelemetry.io/collector/config/configoptional"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// sizes notes how large the reads and writes are that the library asks of a connection.
type sizes struct {
	net.Conn
	mu          sync.Mutex
	read, write int // the largest
}

func (c *sizes) Read(b []byte) (int, error) {
	c.mu.Lock()
	c.read = max(c.read, len(b))
	c.mu.Unlock()
	return c.Conn.Read(b)
}

func (c *sizes) Write(b []byte) (int, error) {
	c.mu.Lock()
	c.write = max(c.write, len(b))
	c.mu.Unlock()
	return c.Conn.Write(b)
}

// piped connects with the options of cfg to a server that is serve, and waits for both at the end of the test.
func piped(t *testing.T, cfg *configgrpc.ClientConfig, serve func(net.Conn)) (*grpc.ClientConn, *sizes) {
	t.Helper()
	near, far := net.Pipe()
	conn := &sizes{Conn: near}
	var done sync.WaitGroup
	done.Go(func() { serve(far) })
	first := true
	cc, err := grpc.NewClient("passthrough:///pipe", append(settingsOptions(cfg),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			if !first {
				return nil, io.EOF
			}
			first = false
			return conn, nil
		}))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cc.Close()
		_ = far.Close()
		done.Wait()
	})
	cc.Connect()
	return cc, conn
}

// frames reads what a client sends and calls see with each frame.
func frames(c net.Conn, see func(*http2.Framer, http2.Frame)) {
	if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	f := http2.NewFramer(c, c)
	if f.WriteSettings() != nil {
		return
	}
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return
		}
		see(f, frame)
	}
}

func TestKeepalivePingsAnIdleConnectionAsWrittenAndGivesItUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := configgrpc.NewDefaultClientConfig()
		cfg.Keepalive = configoptional.Some(configgrpc.KeepaliveClientConfig{
			Time: 42 * time.Second, Timeout: 7 * time.Second, PermitWithoutStream: true,
		})
		began := time.Now()
		var ping, gone time.Duration
		_, _ = piped(t, &cfg, func(c net.Conn) {
			frames(c, func(_ *http2.Framer, f http2.Frame) {
				if _, ok := f.(*http2.PingFrame); ok { // and no answer
					ping = time.Since(began)
				}
			})
			gone = time.Since(began)
		})
		time.Sleep(time.Minute) // virtual
		synctest.Wait()
		if ping != 42*time.Second || gone != 49*time.Second {
			t.Errorf("ping after %v, given up after %v", ping, gone)
		}
	})
}

func TestWithoutKeepaliveNothingIsPinged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Default().Client
		_, _ = piped(t, &cfg, func(c net.Conn) {
			frames(c, func(_ *http2.Framer, f http2.Frame) {
				if _, ok := f.(*http2.PingFrame); ok {
					t.Error("a ping")
				}
			})
		})
		time.Sleep(10 * time.Minute) // virtual
	})
}

func TestBuffersHaveTheSizesWritten(t *testing.T) {
	for _, c := range []struct{ read, write, wantRead, wantWrite int }{
		{100 << 10, 4 << 10, 100 << 10, 4 << 10},
		{3 << 10, 200 << 10, 3 << 10, 50_000},
		{0, 0, 32 << 10, 32 << 10}, // the library's own
	} {
		cfg := configgrpc.NewDefaultClientConfig()
		cfg.ReadBufferSize, cfg.WriteBufferSize = c.read, c.write
		answered := make(chan struct{})
		cc, conn := piped(t, &cfg, func(c net.Conn) {
			body := 0
			frames(c, func(w *http2.Framer, f http2.Frame) {
				if s, ok := f.(*http2.SettingsFrame); ok && !s.IsAck() {
					_ = w.WriteSettingsAck()
				}
				if d, ok := f.(*http2.DataFrame); ok {
					if body += len(d.Data()); body == 5+50_000 {
						close(answered)
					}
				}
			})
		})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		stream, err := cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, "/a/b", grpc.ForceCodec(asBytes{}))
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.SendMsg(make([]byte, 50_000)); err != nil {
			t.Fatal(err)
		}
		select {
		case <-answered:
		case <-ctx.Done():
			t.Fatal("the message did not arrive")
		}
		cancel()
		conn.mu.Lock()
		read, write := conn.read, conn.write
		conn.mu.Unlock()
		if read != c.wantRead || (c.write <= 32<<10 && write > c.wantWrite) || (c.write > 32<<10 && write < c.wantWrite) {
			t.Errorf("read_buffer_size %d, write_buffer_size %d: reads of up to %d, writes of up to %d", c.read, c.write, read, write)
		}
	}
}

type asBytes struct{}

func (asBytes) Name() string                       { return "proto" }
func (asBytes) Marshal(v any) ([]byte, error)      { return v.([]byte), nil }
func (asBytes) Unmarshal(data []byte, v any) error { return nil }

func TestEndpointsBecomeTargetsOfTheLibrary(t *testing.T) {
	for endpoint, want := range map[string]string{
		"backend:4317": "backend:4317", "http://backend:4317": "backend:4317", "https://10.0.0.1:1": "10.0.0.1:1",
		"dns:///backend:4317": "dns:///backend:4317", "unix:///run/s": "unix:///run/s", "unix:/run/s": "unix:/run/s",
		"passthrough:///x:1": "passthrough:///x:1",
	} {
		if got := dialTarget(endpoint); got != want {
			t.Errorf("%s became %s", endpoint, got)
		}
	}
}
