// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package mockbackend

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
)

// Direction is a way bytes go through a Proxy.
type Direction int

// The directions; as a set they are added: Up | Down.
const (
	Up   Direction = 1 << iota // from the client to the server
	Down                       // from the server to the client
)

const (
	// proxyChunk is the most that is passed at once, in bytes.
	proxyChunk = 32 << 10
	// proxyQueue is how many chunks a delay may hold back per direction; more are not read until some have left.
	proxyQueue = 256
	// proxyDial is how long the target may take to be reached.
	proxyDial = 10 * time.Second
)

// ProxyOptions say between whom a proxy stands.
type ProxyOptions struct {
	Name     string // in faults.jsonl
	Listen   string // address; empty: 127.0.0.1:0
	Listener net.Listener
	Target   string
	// Dial replaces the network towards the target.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	Dir  string // where faults.jsonl is; empty: none is written
}

// ProxyFault is what a proxy does to bytes. The zero value passes them on.
type ProxyFault struct {
	Dir     Direction     // 0: both
	Delay   time.Duration // every byte arrives so much later
	Jitter  time.Duration // plus up to so much, by turns; the order stays
	Rate    int64         // bytes per second; 0: no limit
	Silent  bool          // nothing arrives until the fault ends, then all of it: packets are lost and sent again
	CutAt   int64         // the connection is reset after so many bytes in this direction; 0: never
	HalfEnd int64         // the direction is closed after so many bytes, the other goes on; 0: never
}

// Proxy passes bytes between two processes and spoils what it is told to. Its methods may be called by many goroutines at
// once.
type Proxy struct {
	o    ProxyOptions
	l    net.Listener
	stop chan struct{}
	once sync.Once
	wg   sync.WaitGroup

	up, down atomic.Pointer[ProxyFault]
	passed   [2]atomic.Int64 // bytes that came out, up and down
	hits     atomic.Uint64

	mu struct {
		sync.Mutex
		pairs map[*pair]struct{}
		since time.Time // of the fault in force
		text  string
		err   error

		changed chan struct{} // closed by the next Set
	}
}

// StartProxy starts a proxy: it listens when StartProxy returns.
func StartProxy(o ProxyOptions) (*Proxy, error) {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	l := o.Listener
	if l == nil {
		var err error
		if l, err = net.Listen("tcp", o.Listen); err != nil { //nolint:noctx // returns at once
			return nil, fmt.Errorf("proxy %s: %w", o.Name, err)
		}
	}
	if o.Dial == nil {
		o.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		}
	}
	p := &Proxy{o: o, l: l, stop: make(chan struct{})}
	p.mu.pairs = make(map[*pair]struct{})
	p.mu.changed = make(chan struct{})
	p.up.Store(&ProxyFault{})
	p.down.Store(&ProxyFault{})
	p.wg.Go(p.accept)
	return p, nil
}

// Addr is the address clients connect to.
func (p *Proxy) Addr() string { return p.l.Addr().String() }

// Hits is how often faults did something: chunks that were held up or vanished, connections that were cut.
func (p *Proxy) Hits() uint64 { return p.hits.Load() }

// Passed is how many bytes came out of a direction.
func (p *Proxy) Passed(d Direction) int64 { return p.passed[d>>1].Load() }

// Set puts a fault into force, for new connections and live ones; it ends the one before, whose line goes to
// faults.jsonl. Clear ends it.
func (p *Proxy) Set(f ProxyFault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endLocked()
	p.mu.text, p.mu.since = f.text(), time.Now()
	for d, at := range map[Direction]*atomic.Pointer[ProxyFault]{Up: &p.up, Down: &p.down} {
		if f.Dir == 0 || f.Dir&d != 0 {
			at.Store(&f)
		} else {
			at.Store(&ProxyFault{})
		}
	}
	close(p.mu.changed)
	p.mu.changed = make(chan struct{})
}

// next is closed when the fault changes. It must be asked for before the fault is read.
func (p *Proxy) next() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.changed
}

// Clear lets bytes pass unspoilt. What was held back arrives.
func (p *Proxy) Clear() { p.Set(ProxyFault{}) }

// Reset cuts all live connections with a RST on both sides, and returns how many there were.
func (p *Proxy) Reset() int {
	p.mu.Lock()
	var list []*pair
	for c := range p.mu.pairs {
		select {
		case <-c.done: // it has ended, and is being taken off the list
		default:
			list = append(list, c)
		}
	}
	p.mu.Unlock()
	for _, c := range list {
		p.hits.Add(1)
		c.cut()
	}
	return len(list)
}

// Stop closes the proxy and all its connections, and writes the line of a fault that is in force. It is idempotent.
func (p *Proxy) Stop() error {
	p.once.Do(func() {
		close(p.stop)
		_ = p.l.Close() // it was open
		p.mu.Lock()
		p.endLocked()
		var list []*pair
		for c := range p.mu.pairs {
			list = append(list, c)
		}
		p.mu.Unlock()
		for _, c := range list {
			c.cut()
		}
		p.wg.Wait()
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.err
}

func (p *Proxy) endLocked() {
	if p.mu.text == "" {
		return
	}
	if p.o.Dir != "" {
		err := ledger.AppendFault(p.o.Dir, ledger.Fault{T0: p.mu.since.UnixMicro(), T1: time.Now().UnixMicro(), Where: p.o.Name,
			Fault: p.mu.text, Hits: p.hits.Load()})
		p.mu.err = errors.Join(p.mu.err, err)
	}
	p.hits.Store(0)
	p.mu.text = ""
}

// text names a fault in faults.jsonl; empty for none.
func (f ProxyFault) text() string {
	dir := map[Direction]string{Up: ",dir=up", Down: ",dir=down"}[f.Dir]
	switch {
	case f.Silent:
		return "silence" + dir
	case f.CutAt > 0:
		return fmt.Sprintf("cut:%d%s", f.CutAt, dir)
	case f.HalfEnd > 0:
		return fmt.Sprintf("half_close:%d%s", f.HalfEnd, dir)
	case f.Rate > 0:
		return fmt.Sprintf("rate:%d%s", f.Rate, dir)
	case f.Delay+f.Jitter > 0:
		return fmt.Sprintf("delay:%s..%s%s", f.Delay, f.Delay+f.Jitter, dir)
	}
	return ""
}

func (p *Proxy) accept() {
	for {
		c, err := p.l.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.carry(c) })
	}
}

// carry joins a client to the target until both directions have ended.
func (p *Proxy) carry(client net.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), proxyDial)
	p.wg.Go(func() {
		select {
		case <-p.stop:
			cancel()
		case <-ctx.Done():
		}
	})
	server, err := p.o.Dial(ctx, p.o.Target)
	cancel()
	if err != nil {
		rst(client)
		return
	}
	c := &pair{client: client, server: server, done: make(chan struct{})}
	p.mu.Lock()
	p.mu.pairs[c] = struct{}{}
	p.mu.Unlock()
	select {
	case <-p.stop:
		c.cut()
	default:
	}
	var wg sync.WaitGroup
	wg.Go(func() { p.pass(c, Up, client, server) })
	wg.Go(func() { p.pass(c, Down, server, client) })
	wg.Wait()
	c.end(func(c net.Conn) { _ = c.Close() }) // both directions have ended
	p.mu.Lock()
	delete(p.mu.pairs, c)
	p.mu.Unlock()
}
