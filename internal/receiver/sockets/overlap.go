// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package sockets

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Sockets of ours may stand in each other's way: `localhost:4317` that becomes `0.0.0.0:4317` is a common change, and
// the system lets one port be bound once. It makes an exception for sockets that both have SO_REUSEPORT. Ours get it
// when it comes to that and not before: with it, a second process of the same user that asks for it too would be let
// in and share the connections, instead of being told that the port is taken. The system gives connections to the
// socket with the more specific address, and routeLocked gives them to whom the current generation says.

// place is an address as the system sees it.
type place struct {
	ip   netip.Addr // unspecified = all
	port uint16
}

// placeOf is where a listener is bound; false = not a TCP port.
func placeOf(addr net.Addr) (place, bool) {
	a, ok := addr.(*net.TCPAddr)
	if !ok {
		return place{}, false
	}
	ip, _ := netip.AddrFromSlice(a.IP)
	return place{ip.Unmap().WithZone(a.Zone), uint16(a.Port)}, true
}

// resolve is the place net.Listen would choose for an address.
func resolve(ctx context.Context, network, address string) (place, error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return place{}, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, network, service)
	if err != nil {
		return place{}, err
	}
	p := place{netip.IPv6Unspecified(), uint16(port)}
	if host == "" {
		return p, nil
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip"+strings.TrimPrefix(network, "tcp"), host)
	if err != nil {
		return place{}, err
	}
	for i, ip := range ips { // the first of IPv4, else the first
		if ip = ip.Unmap(); i == 0 || ip.Is4() && !p.ip.Is4() {
			p.ip = ip
		}
	}
	return p, nil
}

// same reports whether two places cannot be told apart; "all" is one place for IPv4 and IPv6, as it is for net.Listen.
func (p place) same(q place) bool {
	return p.port == q.port && (p.ip == q.ip || p.ip.IsUnspecified() && q.ip.IsUnspecified())
}

// covers reports whether p is all addresses, and q one of them.
func (p place) covers(q place) bool {
	return p.port == q.port && p.ip.IsUnspecified() && !q.ip.IsUnspecified()
}

// among looks for a place that is taken among our own sockets: the one that is the same under another name, else those
// that are in its way.
func (s *Sockets) among(p place, network string) (same key, found bool, inTheWay []net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, t := range s.mu.open {
		q, ok := placeOf(t.Addr())
		switch {
		case !ok:
		case p.same(q) && p.ip.IsUnspecified() && k.network != network: // of one family and of both: taken
			return key{}, false, nil
		case p.same(q):
			return k, true, nil
		case p.covers(q) || q.covers(p):
			inTheWay = append(inTheWay, t.ln)
		}
	}
	return key{}, false, inTheWay
}

// bind opens a socket, also where sockets of ours are in its way. If the address is one of ours under another name, it
// returns its key and no listener.
func (s *Sockets) bind(ctx context.Context, k key) (key, net.Listener, error) {
	var lc net.ListenConfig
	if k.network == "unix" {
		if err := clearPath(ctx, k.address); err != nil {
			return k, nil, err
		}
	}
	ln, err := lc.Listen(ctx, k.network, k.address)
	if err == nil || !errors.Is(err, syscall.EADDRINUSE) || !strings.HasPrefix(k.network, "tcp") {
		return k, ln, err
	}
	p, resolveErr := resolve(ctx, k.network, k.address)
	if resolveErr != nil {
		return k, nil, err
	}
	same, found, inTheWay := s.among(p, k.network)
	if found {
		return same, nil, nil
	}
	if len(inTheWay) == 0 {
		return k, nil, err // another process's
	}
	for _, other := range inTheWay {
		share(other)
	}
	// By number, since a name might mean something else by now.
	address := net.JoinHostPort(p.ip.String(), strconv.Itoa(int(p.port)))
	lc.Control = func(_, _ string, raw syscall.RawConn) error { return setReusePort(raw) }
	if ln, second := lc.Listen(ctx, k.network, address); second == nil {
		return k, ln, nil
	}
	return k, nil, err
}

// clearPath makes the directory of a unix socket, and takes away what a process left there that was killed: nobody
// answers at it.
func clearPath(ctx context.Context, path string) error {
	if strings.HasPrefix(path, "@") {
		return nil // abstract: it is in no directory, and goes with its process
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make the directory of socket %q: %w", path, err)
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode()&fs.ModeSocket == 0 {
		return nil // whatever else is there stays, and is in the way
	}
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err == nil {
		return c.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return nil // binding will say what is wrong
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove socket %q, at which nobody answers: %w", path, err)
	}
	return nil
}

// share lets others bind beside a listener. Where the system does not let it, binding fails.
func share(ln net.Listener) {
	if sc, ok := ln.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			_ = setReusePort(raw)
		}
	}
}

func setReusePort(raw syscall.RawConn) error {
	var err error
	if controlErr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}); controlErr != nil {
		return controlErr
	}
	return err
}

// coverLocked is the seat of the current generation on all addresses of a socket's port, nil if there is none.
func (s *Sockets) coverLocked(t *Turnstile) *Seat {
	p, ok := placeOf(t.Addr())
	if !ok || s.mu.current == nil {
		return nil
	}
	for _, seat := range s.mu.current.seats {
		if q, ok := placeOf(seat.Addr()); ok && q.covers(p) && !seat.isClosed() {
			return seat
		}
	}
	return nil
}
