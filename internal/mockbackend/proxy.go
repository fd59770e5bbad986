// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package mockbackend

import (
	"context"
	"errors"
	"fmt"
	"io"
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

// pair is a connection through the proxy.
type pair struct {
	client, server net.Conn
	done           chan struct{}
	once           sync.Once
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
		list = append(list, c)
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

// chunk is what was read, and when it may go on.
type chunk struct {
	b   []byte
	due time.Time
}

// pass carries one direction: one goroutine reads and stamps, this one writes when the time has come.
func (p *Proxy) pass(c *pair, d Direction, from, to net.Conn) {
	fault := &p.up
	if d == Down {
		fault = &p.down
	}
	queue := make(chan chunk, proxyQueue)
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(queue)
		var turn int64
		for {
			b := make([]byte, proxyChunk)
			n, err := from.Read(b)
			if n > 0 {
				f := fault.Load()
				due := time.Now().Add(f.Delay)
				if f.Jitter > 0 {
					turn++
					due = due.Add(time.Duration(turn*7919%101) * f.Jitter / 100)
				}
				select {
				case queue <- chunk{b[:n], due}:
				case <-c.done:
					return
				}
			}
			if err != nil {
				if !errors.Is(err, io.EOF) {
					c.cut()
				}
				return
			}
		}
	})
	defer reader.Wait()
	var written int64
	for item := range queue {
		ended, err := p.put(c, d, fault, to, item, &written)
		if err != nil {
			c.cut()
			return
		}
		if ended {
			break
		}
	}
	closeWrite(to)
	// The other direction may go on; what still comes on this one has nowhere to go.
	for range queue {
	}
}

// put writes a chunk as the fault in force says; ended says that this direction is over.
func (p *Proxy) put(c *pair, d Direction, fault *atomic.Pointer[ProxyFault], to net.Conn, k chunk, written *int64) (ended bool, err error) {
	if wait := time.Until(k.due); wait > 0 {
		p.hits.Add(1)
		if !c.sleep(wait) {
			return false, net.ErrClosed
		}
	}
	b := k.b
	for len(b) > 0 {
		change := p.next()
		f := fault.Load()
		if f.Silent {
			p.hits.Add(1)
			select {
			case <-change:
				continue
			case <-c.done:
				return false, net.ErrClosed
			}
		}
		n := int64(len(b))
		if f.Rate > 0 {
			n = min(n, max(1, f.Rate/rateSlice))
		}
		if f.CutAt > 0 {
			n = min(n, max(0, f.CutAt-*written))
		}
		if f.HalfEnd > 0 {
			n = min(n, max(0, f.HalfEnd-*written))
		}
		m, err := to.Write(b[:n])
		*written += int64(m)
		p.passed[d>>1].Add(int64(m))
		b = b[m:]
		if err != nil {
			return false, err
		}
		switch {
		case f.CutAt > 0 && *written >= f.CutAt:
			p.hits.Add(1)
			return false, net.ErrClosed
		case f.HalfEnd > 0 && *written >= f.HalfEnd:
			p.hits.Add(1)
			return true, nil
		case f.Rate > 0:
			p.hits.Add(1)
			if !c.sleep(time.Duration(float64(m) / float64(f.Rate) * float64(time.Second))) {
				return false, net.ErrClosed
			}
		}
	}
	return false, nil
}

// cut resets both sides.
func (c *pair) cut() { c.end(rst) }

func (c *pair) end(how func(net.Conn)) {
	c.once.Do(func() {
		close(c.done)
		how(c.client)
		how(c.server)
	})
}

func (c *pair) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.done:
		return false
	}
}

// rst closes with a RST where there is such a thing.
func rst(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // if it is gone already, that is what we want
	}
	_ = c.Close() // as above
}

// closeWrite ends one direction; where connections cannot be half-closed nothing happens until the other side ends.
func closeWrite(c net.Conn) {
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		_ = h.CloseWrite() // as above
	}
}
