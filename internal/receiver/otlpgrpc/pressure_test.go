// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/collector/config/configgrpc"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/holdfast-telemetry/holdfast/internal/admission"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/otlpgrpc"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/receivertest"
)

// Fault: L1.
func TestManyLargeRequestsStayWithinTheBudgetAndSmallOnesPass(t *testing.T) {
	if testing.Short() {
		t.Skip("sends 2 GiB")
	}
	const budget, clients, size = 64 << 20, 64, 32 << 20
	large := protowire.AppendTag(nil, 1, protowire.BytesType) // one resource with a long schema URL …
	pad := append(protowire.AppendTag(nil, 3, protowire.BytesType), protowire.AppendBytes(nil, bytes.Repeat([]byte{'u'}, size-1000))...)
	large = append(protowire.AppendBytes(large, pad), spans(1)...) // … and one span
	small, _ := receivertest.Request(otlp.Traces, 10, 50)

	// What is accepted waits until as many were refused as do not fit, so that the pressure is there for sure.
	var refused atomic.Int64
	enough := make(chan struct{})
	release := sync.OnceFunc(func() { close(enough) })
	sink := &receivertest.Sink{Gate: admission.New(budget), Discard: true}
	sink.Answer = func(ctx context.Context, p *otlp.Payload) (receiver.Result, error) {
		if p.Size > 1<<20 {
			select {
			case <-enough:
			case <-ctx.Done():
				return receiver.Result{}, ctx.Err()
			}
		}
		return receiver.Result{}, nil
	}
	r := start(t, sink, options{})

	defer debug.SetGCPercent(debug.SetGCPercent(20)) // it is about what is held, not about garbage
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	var most atomic.Uint64
	stop, sampled := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(sampled)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				var now runtime.MemStats
				runtime.ReadMemStats(&now)
				most.Store(max(most.Load(), now.HeapAlloc-min(now.HeapAlloc, before.HeapAlloc)))
			}
		}
	}()

	var all sync.WaitGroup
	var accepted atomic.Int64
	for range clients {
		cc := r.dial("")
		all.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
			defer cancel()
			var answer []byte
			err := cc.Invoke(ctx, export, large, &answer)
			switch {
			case err == nil:
				accepted.Add(1)
				return
			case status.Code(err) != codes.Unavailable:
				t.Errorf("%v", err)
			default:
				if after, ok := hint(err); !ok || after < time.Second || after > 3*time.Second {
					t.Errorf("%v with hint %v, %s", err, ok, after)
				}
			}
			if refused.Add(1) >= clients-2 {
				release()
			}
		})
	}
	smallErrors := 0
	cc := r.dial("")
	for sent := 0; sent < 200; sent++ {
		if _, err := send(cc, export, small); err != nil {
			smallErrors++
		}
	}
	eventually(t, "all but two large requests are refused or one of them is done", func() bool {
		return refused.Load()+accepted.Load() >= clients-2
	})
	release()
	all.Wait()
	close(stop)
	<-sampled
	if accepted.Load() == 0 {
		t.Error("no large request was accepted")
	}
	if smallErrors > 0 {
		t.Errorf("%d of 200 small requests were refused", smallErrors)
	}
	// The budget; a stream's window for each client, and as much in the client's own buffers; some garbage.
	if got := most.Load(); got > 3*budget {
		t.Errorf("the heap grew by %d MiB", got>>20)
	}
	t.Logf("%d accepted, %d refused, heap grew by %d MiB at most", accepted.Load(), refused.Load(), most.Load()>>20)
}

// raw is a connection that speaks HTTP/2 frame by frame.
type raw struct {
	net.Conn
	*http2.Framer
	t     testing.TB
	heads bytes.Buffer
	enc   *hpack.Encoder
}

func (r *rig) raw() *raw {
	r.T.Helper()
	c, err := net.Dial("tcp", r.Address().String())
	if err != nil {
		r.T.Fatal(err)
	}
	r.T.Cleanup(func() { c.Close() })
	h := &raw{Conn: c, Framer: http2.NewFramer(c, c), t: r.T}
	h.enc = hpack.NewEncoder(&h.heads)
	h.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	return h
}

// hello sends preface and settings.
func (h *raw) hello() *raw {
	h.t.Helper()
	if _, err := h.Write([]byte(http2.ClientPreface)); err != nil {
		h.t.Fatal(err)
	}
	if err := h.WriteSettings(); err != nil {
		h.t.Fatal(err)
	}
	return h
}

// headers opens a stream.
func (h *raw) headers(stream uint32, end bool, more ...string) {
	h.t.Helper()
	h.heads.Reset()
	fields := append([]string{":method", "POST", ":scheme", "http", ":path", export, ":authority", "test",
		"content-type", "application/grpc", "te", "trailers"}, more...)
	for i := 0; i < len(fields); i += 2 {
		if err := h.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}); err != nil {
			h.t.Fatal(err)
		}
	}
	err := h.WriteHeaders(http2.HeadersFrameParam{
		StreamID: stream, BlockFragment: h.heads.Bytes(), EndHeaders: true, EndStream: end,
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

// trailer reads frames until the stream ends, 0 = any stream, and returns the fields of its last headers.
func (h *raw) trailer(stream uint32) map[string]string {
	h.t.Helper()
	h.SetReadDeadline(time.Now().Add(patience))
	for {
		f, err := h.ReadFrame()
		if err != nil {
			h.t.Fatalf("stream %d: %v", stream, err)
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			if (f.StreamID == stream || stream == 0) && f.StreamEnded() {
				fields := map[string]string{}
				for _, hf := range f.Fields {
					fields[hf.Name] = hf.Value
				}
				return fields
			}
		case *http2.RSTStreamFrame:
			if f.StreamID == stream {
				return map[string]string{"rst": f.ErrCode.String()}
			}
		}
	}
}

// closed waits until the server closes the connection.
func (h *raw) closed() {
	h.t.Helper()
	h.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, 4096)
	for {
		_, err := h.Conn.Read(b)
		var netErr net.Error
		if errors.As(err, &netErr) && netErr.Timeout() {
			h.t.Fatal("the connection stays open")
		}
		if err != nil {
			return
		}
	}
}

func message(flag byte, length int, b []byte) []byte {
	return append([]byte{flag, byte(length >> 24), byte(length >> 16), byte(length >> 8), byte(length)}, b...)
}

// Fault: L5.
func TestABodyThatStallsIsCutWithDeadlineExceeded(t *testing.T) {
	r := start(t, &receivertest.Sink{}, options{server: func(s *otlpgrpc.Server) { s.SetBodyTimeout(100 * time.Millisecond) }})
	slow := r.raw().hello()
	slow.headers(1, false)
	if err := slow.WriteData(1, false, message(0, 1000, make([]byte, 10))); err != nil {
		t.Fatal(err)
	}
	slow.headers(3, false) // nothing at all
	for range 2 {
		if got := slow.trailer(0); got["grpc-status"] != "4" {
			t.Errorf("%v", got)
		}
	}
	eventually(t, "both are counted", func() bool {
		return r.Value("holdfast_door_refused_total", "reason", "timeout") == 2
	})
	if got := r.Reading(); got != 0 {
		t.Errorf("%d messages are still being read", got)
	}
	body, _ := receivertest.Request(otlp.Traces, 1, 1)
	if _, err := send(r.dial(""), export, body); err != nil {
		t.Errorf("an honest client: %v", err)
	}
}

func TestADeclaredLengthCostsAMebibyteUntilBytesCome(t *testing.T) {
	sink := &receivertest.Sink{Gate: admission.New(64 << 20)}
	r := start(t, sink, options{})
	liar := r.raw().hello()
	for i := range uint32(50) {
		liar.headers(2*i+1, false)
		if err := liar.WriteData(2*i+1, false, message(0, 32<<20, []byte{1})); err != nil {
			t.Fatal(err)
		}
	}
	body, _ := receivertest.Request(otlp.Traces, 1, 1)
	eventually(t, "all of them are being read", func() bool {
		return r.Reading() == 50
	})
	if used := sink.Gate.Used(); used > 50<<20 {
		t.Errorf("%d bytes are granted", used)
	}
	if _, err := send(r.dial(""), export, body); err != nil {
		t.Errorf("an honest client: %v", err)
	}
	liar.Close()
	eventually(t, "all memory is back", func() bool { return sink.Gate.Used() == 0 })
}

func TestBrokenFramingOfAMessageIsRefused(t *testing.T) {
	r := start(t, &receivertest.Sink{}, options{})
	good, _ := receivertest.Request(otlp.Traces, 1, 1)
	for name, c := range map[string]struct {
		data   []byte
		status string
	}{
		"no message":                       {nil, "3"},
		"half a prefix":                    {[]byte{0, 0, 0}, "3"},
		"cut off":                          {message(0, len(good), good[:len(good)-1]), "3"},
		"two messages":                     {append(message(0, len(good), good), message(0, len(good), good)...), "3"},
		"a flag that is none":              {message(7, len(good), good), "3"},
		"compressed with nothing":          {message(1, len(good), good), "3"},
		"longer than allowed":              {message(0, 1<<31, nil), "8"},
		"longer than can be, with the end": {message(0, 1<<32-1, nil), "8"},
	} {
		h := r.raw().hello()
		h.headers(1, c.data == nil)
		if c.data != nil {
			if err := h.WriteData(1, true, c.data); err != nil {
				t.Fatal(err)
			}
		}
		if got := h.trailer(1); got["grpc-status"] != c.status {
			t.Errorf("%s: %v", name, got)
		}
	}
	if n := len(r.Sink.Payloads()); n != 0 {
		t.Errorf("%d payloads", n)
	}
}

// Fault: L6.
func TestFloodsOfFramesEndTheirConnectionOnly(t *testing.T) {
	r := start(t, &receivertest.Sink{}, options{cfg: func(c *configgrpc.ServerConfig) { c.MaxConcurrentStreams = 8 }})
	for name, flood := range map[string]func(h *raw) error{
		"pings": func(h *raw) error { return h.WritePing(false, [8]byte{1}) },
		"continuations": func(h *raw) error {
			return h.WriteRawFrame(http2.FrameContinuation, 0, 1, make([]byte, 100))
		},
		"data for no stream": func(h *raw) error { return h.WriteData(0, false, make([]byte, 100)) },
	} {
		h := r.raw().hello()
		var err error
		for i := 0; i < 100_000 && err == nil; i++ {
			err = flood(h)
		}
		if err == nil {
			h.closed()
		}
		body, _ := receivertest.Request(otlp.Traces, 1, 1)
		if _, err := send(r.dial(""), export, body); err != nil {
			t.Errorf("%s: an honest client: %v", name, err)
		}
	}
	// Streams beyond the limit are reset, those within it are served.
	h := r.raw().hello()
	for i := range uint32(9) {
		h.headers(2*i+1, false)
	}
	if got := h.trailer(17); got["rst"] != http2.ErrCodeRefusedStream.String() {
		t.Errorf("the ninth stream: %v", got)
	}
	h.Close()
	eventually(t, "all memory is back", func() bool { return r.Set.Admission.Used() == 0 })
}

func TestAResetStreamGivesItsMemoryBack(t *testing.T) {
	r := start(t, &receivertest.Sink{}, options{})
	h := r.raw().hello()
	for i := range uint32(200) {
		h.headers(2*i+1, false)
		if err := h.WriteData(2*i+1, false, message(0, 1<<20, make([]byte, 1000))); err != nil {
			t.Fatal(err)
		}
		if err := h.WriteRSTStream(2*i+1, http2.ErrCodeCancel); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all memory is back", func() bool {
		return r.Set.Admission.Used() == 0 && r.Reading() == 0
	})
}

// Fault: L5.
func TestConnectionsThatSayNothingAreClosed(t *testing.T) {
	s := newSecured(t)
	short := func(s *otlpgrpc.Server) { s.SetConnectionTimeout(100 * time.Millisecond) }
	plain := start(t, &receivertest.Sink{}, options{server: short})
	plain.raw().closed()
	half := plain.raw()
	if _, err := half.Write([]byte(http2.ClientPreface[:10])); err != nil {
		t.Fatal(err)
	}
	half.closed()
	secret := start(t, &receivertest.Sink{}, options{server: short, cfg: s.configure(false)})
	secret.raw().closed()
	half = secret.raw()
	if _, err := half.Write([]byte{22, 3, 1, 1, 0}); err != nil { // the head of a ClientHello
		t.Fatal(err)
	}
	half.closed()
	for _, r := range []*rig{plain, secret} {
		eventually(t, "their places are free", func() bool { return r.Value("holdfast_door_connections") == 0 })
	}
}

// Fault: L5.
func TestConnectionsAboveTheCapAreClosedAndCounted(t *testing.T) {
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	narrow := old
	narrow.Cur = 100 // 50 connections
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &narrow); err != nil {
		t.Skipf("the descriptor limit cannot be lowered: %v", err)
	}
	r := start(t, &receivertest.Sink{}, options{})
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	var open []*raw
	for range 50 {
		open = append(open, r.raw())
	}
	eventually(t, "50 connections are open", func() bool { return r.Value("holdfast_door_connections") == 50 })
	r.raw().closed()
	r.WantValue(1, "holdfast_door_refused_total", "reason", "connections")
	open[0].Close()
	eventually(t, "a closed connection makes room", func() bool { return r.Value("holdfast_door_connections") == 49 })
	body, _ := receivertest.Request(otlp.Traces, 1, 1)
	if _, err := send(r.dial(""), export, body); err != nil {
		t.Errorf("in the room of another: %v", err)
	}
}
