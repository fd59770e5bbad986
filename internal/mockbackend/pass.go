// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package mockbackend

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// pair is a connection through the proxy.
type pair struct {
	client, server net.Conn
	done           chan struct{}
	once           sync.Once
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
func (p *Proxy) put(c *pair, d Direction, fault *atomic.Pointer[ProxyFault], to net.Conn, k chunk, written *int64) (ended bool,
	err error) {
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
