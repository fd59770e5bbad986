// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package mockbackend_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/loadgen"
	"github.com/holdfast-telemetry/holdfast/internal/mockbackend"
)

// echoServer answers every connection with what it reads, and closes when the client half-closes.
func echoServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

func proxyTo(t *testing.T, o mockbackend.ProxyOptions) *mockbackend.Proxy {
	t.Helper()
	p, err := mockbackend.StartProxy(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return p
}

func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(limit))
	return c.(*net.TCPConn)
}

// firstRead is what a client gets that connects and reads: the error of either, whichever comes first.
func firstRead(addr string) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(limit))
	_, err = c.Read(make([]byte, 1))
	return err
}

// talk sends text and reads as much back.
func talk(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	back := make([]byte, len(text))
	if _, err := io.ReadFull(c, back); err != nil || string(back) != text {
		t.Fatalf("%q: %v", back, err)
	}
}

func TestAProxyPassesEverythingAndItsEnd(t *testing.T) {
	p := proxyTo(t, mockbackend.ProxyOptions{Target: echoServer(t)})
	c := dial(t, p.Addr())
	text := bytes.Repeat([]byte("0123456789"), 300_000)
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = c.Write(text)
		_ = c.CloseWrite()
	})
	back, err := io.ReadAll(c)
	wg.Wait()
	if err != nil || !bytes.Equal(back, text) {
		t.Errorf("%d bytes of %d came back: %v", len(back), len(text), err)
	}
	if p.Passed(mockbackend.Up) != int64(len(text)) || p.Passed(mockbackend.Down) != int64(len(text)) || p.Hits() != 0 {
		t.Errorf("up %d down %d hits %d", p.Passed(mockbackend.Up), p.Passed(mockbackend.Down), p.Hits())
	}
}

func TestAProxyDelaysAndKeepsTheOrder(t *testing.T) {
	p := proxyTo(t, mockbackend.ProxyOptions{Target: echoServer(t)})
	c := dial(t, p.Addr())
	talk(t, c, "hello")
	p.Set(mockbackend.ProxyFault{Dir: mockbackend.Up, Delay: 100 * time.Millisecond, Jitter: 50 * time.Millisecond})
	began := time.Now()
	for range 3 {
		talk(t, c, "0123456789")
	}
	if took := time.Since(began); took < 300*time.Millisecond || p.Hits() == 0 {
		t.Errorf("took %s, %d hits", took, p.Hits())
	}
}

func TestAProxyLimitsTheRate(t *testing.T) {
	p := proxyTo(t, mockbackend.ProxyOptions{Target: echoServer(t)})
	p.Set(mockbackend.ProxyFault{Dir: mockbackend.Down, Rate: 20_000})
	began := time.Now()
	talk(t, dial(t, p.Addr()), string(make([]byte, 6000)))
	if took := time.Since(began); took < 250*time.Millisecond {
		t.Errorf("6000 bytes at 20000/s took %s", took)
	}
}

func TestSilenceInOneDirectionEndsWithEverythingArriving(t *testing.T) {
	p := proxyTo(t, mockbackend.ProxyOptions{Target: echoServer(t)})
	c := dial(t, p.Addr())
	talk(t, c, "before")
	p.Set(mockbackend.ProxyFault{Dir: mockbackend.Down, Silent: true})
	if _, err := io.WriteString(c, "during"); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	var timeout net.Error
	if n, err := c.Read(make([]byte, 9)); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("%d bytes, %v", n, err)
	}
	if p.Passed(mockbackend.Up) != 12 || p.Hits() == 0 {
		t.Errorf("up %d, hits %d", p.Passed(mockbackend.Up), p.Hits())
	}
	p.Clear()
	_ = c.SetReadDeadline(time.Now().Add(limit))
	back := make([]byte, 6)
	if _, err := io.ReadFull(c, back); err != nil || string(back) != "during" {
		t.Errorf("%q %v", back, err)
	}
}

func TestAProxyCutsAfterSoManyBytesAndOnDemand(t *testing.T) {
	p := proxyTo(t, mockbackend.ProxyOptions{Target: echoServer(t)})
	p.Set(mockbackend.ProxyFault{Dir: mockbackend.Down, CutAt: 4})
	c := dial(t, p.Addr())
	if _, err := io.WriteString(c, "0123456789"); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if len(got) > 4 || err == nil {
		t.Errorf("%q %v", got, err)
	}
	p.Clear()
	c = dial(t, p.Addr())
	talk(t, c, "hello")
	if n := p.Reset(); n != 1 {
		t.Errorf("%d connections were cut", n)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("read: %v", err)
	}
}

func TestAProxyHalfCloses(t *testing.T) {
	p := proxyTo(t, mockbackend.ProxyOptions{Target: echoServer(t)})
	p.Set(mockbackend.ProxyFault{Dir: mockbackend.Up, HalfEnd: 4})
	c := dial(t, p.Addr())
	if _, err := io.WriteString(c, "0123456789"); err != nil {
		t.Fatal(err)
	}
	// The server sees the end after four bytes, and says its own.
	got, err := io.ReadAll(c)
	if string(got) != "0123" || err != nil {
		t.Errorf("%q %v", got, err)
	}
}

func TestAProxyWithoutItsTargetResets(t *testing.T) {
	p := proxyTo(t, mockbackend.ProxyOptions{Target: "127.0.0.1:1"})
	if err := firstRead(p.Addr()); err == nil || !strings.Contains(err.Error(), "reset") {
		t.Errorf("read: %v", err)
	}
}

func TestTheProxysFaultsAreWrittenDown(t *testing.T) {
	dir := t.TempDir()
	b := start(t, func(o *mockbackend.Options) { o.Dir = dir })
	p := proxyTo(t, mockbackend.ProxyOptions{Name: "wire", Target: b.GRPCAddr(), Dir: dir})
	p.Set(mockbackend.ProxyFault{Dir: mockbackend.Up, CutAt: 20_000})
	answers := ask(t, "grpc://"+p.Addr(), func(o *loadgen.Options) { o.Dir, o.ItemBytes, o.OnUnknown = dir, 5000, ledger.ModeDrop })
	if answers[0].State != ledger.Unknown {
		t.Errorf("%+v", answers)
	}
	p.Clear()
	if a := ask(t, "grpc://"+p.Addr(), func(o *loadgen.Options) { o.Dir = dir }); a[0].State != ledger.Acked {
		t.Errorf("%+v", a)
	}
	if err := errors.Join(p.Stop(), b.Stop()); err != nil {
		t.Fatal(err)
	}
	n, err := ledger.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	v, err := ledger.Verify(n, ledger.Options{AllPlaces: true, NoControl: true, Expect: []string{"wire.hits=1", "unknown=1"}})
	if err != nil || v.Outcome != ledger.Pass || v.Faults[0].Fault != "cut:20000,dir=up" {
		t.Errorf("%v\n%s", err, v.Text())
	}
}
