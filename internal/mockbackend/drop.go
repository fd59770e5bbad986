// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package mockbackend

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

const (
	// dropBacklog and openBacklog are what the kernel keeps of connections that nobody has accepted: as few as it can
	// be told, and as many as Go asks for at most.
	dropBacklog, openBacklog = 0, 4096
	// fillers bounds the connections that fill the backlog; the kernel keeps one more than it is told.
	fillers = 16
	// fillWait is how long a handshake on loopback may take before it counts as dropped.
	fillWait = 150 * time.Millisecond
	// parkWait is how long Accept may take to notice.
	parkWait = time.Second
)

// drop lets the kernel drop what knocks while r is in force: nothing is accepted, and the backlog is as short as it can
// be and full, so that a SYN gets no answer at all, as behind a packet filter with DROP. Live connections go silent by
// the gate. The handshake that the door itself tries in vain is the fault's first hit.
func (d *door) drop(r *rule) error {
	d.mu.Lock()
	if d.mu.closed || d.mu.dropping == (r != nil) || d.mu.refused && r != nil {
		d.mu.Unlock()
		return nil
	}
	l, isTCP := d.mu.inner.(*net.TCPListener)
	if !isTCP {
		d.mu.Unlock()
		return nil // in memory there is no SYN; the gate does what can be done
	}
	if r == nil {
		defer d.mu.Unlock()
		return d.undropLocked(l)
	}
	d.mu.dropping = true
	d.mu.opened = make(chan struct{})
	// Accept is woken up, and waits until the door is open again; until it does it might still take a connection.
	parked := make(chan struct{})
	d.mu.parked = parked
	err := errors.Join(l.SetDeadline(time.Unix(1, 0)), backlog(l, dropBacklog))
	d.mu.Unlock()
	if err != nil {
		return fmt.Errorf("drop: %w", err)
	}
	select {
	case <-parked:
	case <-time.After(parkWait): // nobody serves this door yet
	}
	for range fillers {
		c, err := net.DialTimeout(d.addr.Network(), d.addr.String(), fillWait)
		if t := net.Error(nil); errors.As(err, &t) && t.Timeout() {
			r.hit()
			return nil
		}
		if err != nil {
			return fmt.Errorf("drop: %w", err)
		}
		d.mu.Lock()
		d.mu.fill = append(d.mu.fill, c)
		d.mu.Unlock()
	}
	return errors.New("drop: the kernel goes on taking connections")
}

func (d *door) undropLocked(l *net.TCPListener) error {
	d.mu.dropping = false
	for _, c := range d.mu.fill {
		_ = c.Close() // accepted and seen closed by the server
	}
	d.mu.fill = nil
	err := errors.Join(backlog(l, openBacklog), l.SetDeadline(time.Time{}))
	close(d.mu.opened)
	return err
}

// backlog changes how many connections the kernel keeps for a listener.
func backlog(l *net.TCPListener, n int) error {
	raw, err := l.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = syscall.Listen(int(fd), n) }); err != nil {
		return err
	}
	return inner
}
