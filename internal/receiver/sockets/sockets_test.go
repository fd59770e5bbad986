// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package sockets_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/receiver/sockets"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

const anyPort = "127.0.0.1:0"

func open(t *testing.T) *sockets.Sockets {
	t.Helper()
	s := sockets.New(func(network, address string, err error) { t.Errorf("accept on %s %s: %v", network, address, err) })
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func listen(t *testing.T, g *sockets.Seats, network, address string) net.Listener {
	t.Helper()
	ln, err := g.Listen(t.Context(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// greet serves a listener: it says name to everybody who comes.
func greet(t *testing.T, ln net.Listener, name string) {
	t.Helper()
	var done sync.WaitGroup
	done.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				if !errors.Is(err, net.ErrClosed) {
					t.Errorf("%s: %v", name, err)
				}
				return
			}
			done.Go(func() {
				io.WriteString(c, name)
				c.Close()
			})
		}
	})
	t.Cleanup(func() { ln.Close(); done.Wait() })
}

// ask connects and returns what it is told; "" = the connection was closed without a word.
func ask(t *testing.T, addr net.Addr) string {
	t.Helper()
	c, err := net.DialTimeout(addr.Network(), addr.String(), patience)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return hear(t, c)
}

func hear(t *testing.T, c net.Conn) string {
	t.Helper()
	c.SetDeadline(time.Now().Add(patience))
	b, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatal(err)
	}
	return string(b)
}

func want(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func refused(t *testing.T, addr net.Addr) {
	t.Helper()
	c, err := net.Dial(addr.Network(), addr.String())
	if err == nil {
		c.Close()
		t.Errorf("%s is still bound", addr)
	}
}

func TestConnectionsGoToWhoTookLast(t *testing.T) {
	s := open(t)
	a, b := s.Generation(), s.Generation()
	la := listen(t, a, "tcp", anyPort)
	greet(t, la, "a")
	a.Take()
	want(t, ask(t, la.Addr()), "a")

	lb := listen(t, b, "tcp", anyPort)
	if lb.Addr().String() != la.Addr().String() {
		t.Fatalf("%s and %s are not the same socket", la.Addr(), lb.Addr())
	}
	greet(t, lb, "b")
	want(t, ask(t, la.Addr()), "a")
	b.Take()
	want(t, ask(t, la.Addr()), "b")
	a.Take()
	want(t, ask(t, la.Addr()), "a")
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	want(t, ask(t, la.Addr()), "a")
}

func TestAnAddressThatIsBoundBeforehandWaitsForItsTurn(t *testing.T) {
	s := open(t)
	g := s.Generation()
	ln := listen(t, g, "tcp", anyPort)
	greet(t, ln, "here")
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	g.Take()
	want(t, hear(t, c), "here")
}

func TestAListenerOfTheRunningGenerationIsServedAtOnce(t *testing.T) {
	s := open(t)
	g := s.Generation()
	g.Take()
	ln := listen(t, g, "tcp", anyPort)
	greet(t, ln, "here")
	want(t, ask(t, ln.Addr()), "here")
}

func TestRemovedAddressesStayBoundUntilItIsSettled(t *testing.T) {
	s := open(t)
	a, b, c := s.Generation(), s.Generation(), s.Generation()
	kept, gone := listen(t, a, "tcp", anyPort), listen(t, a, "tcp", anyPort)
	if kept.Addr().String() == gone.Addr().String() {
		t.Fatal("two listeners of a generation have one port")
	}
	greet(t, kept, "a")
	greet(t, gone, "a")
	a.Take()
	greet(t, listen(t, b, "tcp", anyPort), "b")
	b.Take()
	want(t, ask(t, kept.Addr()), "b")
	want(t, ask(t, gone.Addr()), "") // closed at once
	a.Take()
	want(t, ask(t, gone.Addr()), "a")
	b.Take()
	prepared := listen(t, c, "tcp", "localhost:0")
	if err := b.Settle(); err != nil {
		t.Error(err)
	}
	refused(t, gone.Addr())
	want(t, ask(t, kept.Addr()), "b")
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	want(t, ask(t, kept.Addr()), "b")
	greet(t, prepared, "c") // the commit left alone what was being prepared
	c.Take()
	want(t, ask(t, prepared.Addr()), "c")
	want(t, ask(t, kept.Addr()), "")
}

// A server that stays as it is has one listener, whichever generations it belongs to.
func TestAListenerThatIsKeptIsServedUntilNobodyKeepsIt(t *testing.T) {
	s := open(t)
	a, b, c := s.Generation(), s.Generation(), s.Generation()
	ln := listen(t, a, "tcp", anyPort)
	greet(t, ln, "a")
	a.Take()
	c.Keep(ln)
	if err := c.Close(); err != nil { // unwound: a goes on
		t.Error(err)
	}
	want(t, ask(t, ln.Addr()), "a")
	b.Keep(ln)
	b.Keep(ln) // again, it does nothing
	if _, err := b.Listen(t.Context(), "tcp", anyPort); err != nil {
		t.Error(err) // the next of its port-0 addresses
	}
	b.Take()
	want(t, ask(t, ln.Addr()), "a")
	a.Take() // the way back
	want(t, ask(t, ln.Addr()), "a")
	b.Take()
	if err := errors.Join(b.Settle(), a.Close()); err != nil {
		t.Error(err)
	}
	want(t, ask(t, ln.Addr()), "a")
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	refused(t, ln.Addr())
}

func TestAGenerationThatNeverTookLeavesNothingBehind(t *testing.T) {
	s := open(t)
	a, b := s.Generation(), s.Generation()
	la := listen(t, a, "tcp", anyPort)
	greet(t, la, "a")
	a.Take()
	shared, own := listen(t, b, "tcp", anyPort), listen(t, b, "tcp", anyPort)
	for range 2 {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, ln := range []net.Listener{shared, own} {
		if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v", err)
		}
	}
	refused(t, own.Addr())
	want(t, ask(t, la.Addr()), "a")
	b.Take() // without effect
	want(t, ask(t, la.Addr()), "a")
	if _, err := b.Listen(t.Context(), "tcp", anyPort); !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v", err)
	}
}

func TestOneListenerPerAddressAndGeneration(t *testing.T) {
	g := open(t).Generation()
	_, port, err := net.SplitHostPort(listen(t, g, "tcp", anyPort).Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	path := t.TempDir() + "/s"
	ln := listen(t, g, "unix", path)
	for network, address := range map[string]string{"unix": path, "tcp": "localhost:" + port, "tcp4": "127.0.0.1:" + port} {
		if ln, err := g.Listen(t.Context(), network, address); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%s listened twice: %v, %v", address, ln, err)
		}
	}
	ln.Close()
	listen(t, g, "unix", path) // who closed may come again
}

func TestAnAddressMayChangeItsName(t *testing.T) {
	s := open(t)
	a, b := s.Generation(), s.Generation()
	la := listen(t, a, "tcp", anyPort)
	greet(t, la, "a")
	a.Take()
	_, port, err := net.SplitHostPort(la.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	greet(t, listen(t, b, "tcp", "localhost:"+port), "b")
	want(t, ask(t, la.Addr()), "a")
	b.Take()
	if err := errors.Join(b.Settle(), a.Close()); err != nil {
		t.Error(err)
	}
	want(t, ask(t, la.Addr()), "b")
}

func TestAnAddressMayBecomeAllAddressesAndBack(t *testing.T) {
	s := open(t)
	former := s.Generation()
	one := listen(t, former, "tcp", anyPort)
	greet(t, one, "0")
	former.Take()
	_, port, err := net.SplitHostPort(one.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	other := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2), Port: one.Addr().(*net.TCPAddr).Port}
	for i, address := range []string{"0.0.0.0:" + port, "127.0.0.1:" + port, ":" + port, "[::]:" + port, "localhost:" + port} {
		name, before := string(rune('1'+i)), string(rune('0'+i))
		all := i != 1 && i != 4
		g := s.Generation()
		greet(t, listen(t, g, "tcp", address), name)
		want(t, ask(t, one.Addr()), before) // not before its turn
		g.Take()
		want(t, ask(t, one.Addr()), name)
		if all {
			want(t, ask(t, other), name)
		} else {
			want(t, ask(t, other), "") // until it is settled
		}
		former.Take()
		want(t, ask(t, one.Addr()), before)
		g.Take()
		if err := errors.Join(g.Settle(), former.Close()); err != nil {
			t.Error(err)
		}
		want(t, ask(t, one.Addr()), name)
		if !all {
			refused(t, other)
		}
		former = g
	}
	for _, host := range []string{"127.0.0.1", ""} {
		if ln, err := net.Listen("tcp", host+":"+port); err == nil {
			ln.Close()
			t.Errorf("another process would get %q", host)
		}
	}
}

func TestErrorsAreThoseOfListen(t *testing.T) {
	taken, err := net.Listen("tcp", anyPort)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	g := open(t).Generation()
	if _, err := g.Listen(t.Context(), "tcp", taken.Addr().String()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("%v", err)
	}
	_, want := net.Listen("tcp", "127.0.0.1:99999999")
	if _, err := g.Listen(t.Context(), "tcp", "127.0.0.1:99999999"); err == nil || err.Error() != want.Error() {
		t.Errorf("%v, want %v", err, want)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if ln, err := g.Listen(ctx, "tcp", "localhost:0"); err == nil {
		ln.Close()
	}
}

func TestAUnixSocketIsTheSameFileUntilNobodyUsesIt(t *testing.T) {
	s := open(t)
	path := t.TempDir() + "/s"
	var former *sockets.Seats
	for i := range 20 {
		g := s.Generation()
		if i%5 != 4 { // every fifth does not have it
			ln := listen(t, g, "unix", path)
			if _, ok := ln.Addr().(*net.UnixAddr); !ok {
				t.Fatalf("%T", ln.Addr())
			}
			greet(t, ln, "here")
			g.Take()
			want(t, ask(t, ln.Addr()), "here")
		}
		g.Take()
		if err := g.Settle(); err != nil {
			t.Error(err)
		}
		if former != nil {
			if err := former.Close(); err != nil {
				t.Error(err)
			}
		}
		former = g
		if _, err := os.Stat(path); (err == nil) != (i%5 != 4) {
			t.Errorf("generation %d: %v", i, err)
		}
	}
}

func TestConnectionsAreThoseOfTheNetwork(t *testing.T) {
	g := open(t).Generation()
	ln := listen(t, g, "tcp", anyPort)
	g.Take()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	if _, ok := got.(*net.TCPConn); !ok {
		t.Errorf("%T", got)
	}
}

func TestClosingOneListenerEndsItsAcceptOnly(t *testing.T) {
	s := open(t)
	a, b := s.Generation(), s.Generation()
	la, lb := listen(t, a, "tcp", anyPort), listen(t, b, "tcp", anyPort)
	greet(t, lb, "b")
	a.Take()
	ended := make(chan error)
	go func() { _, err := la.Accept(); ended <- err }()
	la.Close()
	la.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v", err)
	}
	want(t, ask(t, la.Addr()), "")
	b.Take()
	want(t, ask(t, la.Addr()), "b")
}

func TestShutdownClosesEverything(t *testing.T) {
	s := sockets.New(nil)
	a, b := s.Generation(), s.Generation()
	la, lb := listen(t, a, "tcp", anyPort), listen(t, b, "tcp", anyPort)
	other := listen(t, b, "tcp", anyPort)
	a.Take()
	ended := make(chan error)
	for _, ln := range []net.Listener{la, lb, other} {
		go func() { _, err := ln.Accept(); ended <- err }()
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	for range 3 {
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v", err)
		}
	}
	refused(t, la.Addr())
	refused(t, other.Addr())
	b.Take()
	if err := errors.Join(b.Settle(), a.Close(), b.Close()); err != nil {
		t.Error(err)
	}
	for _, g := range []*sockets.Seats{a, s.Generation()} {
		if _, err := g.Listen(t.Context(), "tcp", anyPort); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v", err)
		}
	}
}

func TestNoConnectionIsLostInATake(t *testing.T) {
	s := open(t)
	gens := []*sockets.Seats{s.Generation(), s.Generation()}
	var addr net.Addr
	for _, g := range gens {
		ln := listen(t, g, "tcp", anyPort)
		addr = ln.Addr()
		greet(t, ln, "x")
	}
	gens[0].Take()
	var turns atomic.Int64
	end := make(chan struct{})
	var taking sync.WaitGroup
	taking.Go(func() {
		for {
			select {
			case <-end:
				return
			default:
				gens[turns.Add(1)%2].Take()
			}
		}
	})
	for range 1000 {
		want(t, ask(t, addr), "x")
	}
	close(end)
	taking.Wait()
	if turns.Load() < 1000 {
		t.Errorf("only %d turns", turns.Load())
	}
}

// A generation may be prepared while another is committed and a third is unwound.
func TestGenerationsAreIndependent(t *testing.T) {
	s := open(t)
	run := s.Generation()
	shared := listen(t, run, "tcp", anyPort)
	greet(t, shared, "run")
	run.Take()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 50 {
				g := s.Generation()
				for range 3 {
					ln, err := g.Listen(t.Context(), "tcp", anyPort)
					if err != nil {
						t.Error(err)
						return
					}
					ln.Addr()
				}
				run.Settle()
				g.Close()
			}
		})
	}
	for range 100 {
		want(t, ask(t, shared.Addr()), "run")
	}
	all.Wait()
	want(t, ask(t, shared.Addr()), "run")
}

// failing is a listener that cannot accept for a while.
type failing struct {
	net.Listener
	left atomic.Int64
}

func (f *failing) Accept() (net.Conn, error) {
	if f.left.Add(-1) >= 0 {
		return nil, syscall.EMFILE
	}
	return f.Listener.Accept()
}

func TestAcceptingGoesOnAfterAnError(t *testing.T) {
	ln, err := net.Listen("tcp", anyPort)
	if err != nil {
		t.Fatal(err)
	}
	f := &failing{Listener: ln}
	f.left.Store(3)
	var seen atomic.Int64
	turnstile := sockets.NewTurnstile(f, func(error) { seen.Add(1) })
	defer turnstile.Close()
	seat := turnstile.Seat()
	greet(t, seat, "here")
	turnstile.Give(seat)
	want(t, ask(t, ln.Addr()), "here")
	if seen.Load() != 3 {
		t.Errorf("%d errors were seen", seen.Load())
	}
}

func TestATurnstileEndsWithItsListener(t *testing.T) {
	ln, err := net.Listen("tcp", anyPort)
	if err != nil {
		t.Fatal(err)
	}
	turnstile := sockets.NewTurnstile(ln, nil)
	seat := turnstile.Seat()
	turnstile.Give(seat)
	ln.Close()
	if _, err := seat.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v", err)
	}
	turnstile.Close()
}
