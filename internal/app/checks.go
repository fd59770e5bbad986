// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/reload"
)

const checkEvery = time.Second

// checks connects to every address of a generation once a second while it is on trial (reload, section 8, S2), and
// leaves at once: nothing is said on these connections.
type checks struct {
	addresses func() []net.Addr
	dial      func(ctx context.Context, network, address string) error
	stop      context.CancelFunc
	done      chan struct{}
	mu        sync.Mutex
	failed    map[string]int // in a row, by address; guarded by mu
}

// startChecks begins; end ends it.
func startChecks(addresses func() []net.Addr, dial func(ctx context.Context, network, address string) error) *checks {
	ctx, stop := context.WithCancel(context.Background())
	c := &checks{addresses: addresses, dial: dial, stop: stop, done: make(chan struct{}), failed: map[string]int{}}
	go c.run(ctx)
	return c
}

// knock connects and leaves.
func knock(ctx context.Context, network, address string) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		return err
	}
	return c.Close()
}

func (c *checks) run(ctx context.Context) {
	defer close(c.done)
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			c.look(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// look checks every address at the same time.
func (c *checks) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, checkEvery)
	defer cancel()
	var all sync.WaitGroup
	for _, a := range c.addresses() {
		all.Go(func() {
			err := c.dial(ctx, a.Network(), a.String())
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.failed[a.String()]++; err == nil {
				c.failed[a.String()] = 0
			}
		})
	}
	all.Wait()
}

// end waits for the goroutine. It may be called again.
func (c *checks) end() {
	c.stop()
	<-c.done
}

// sample is how the addresses fare; nil for checks that were never begun.
func (c *checks) sample() (out []reload.Listener) {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for address, n := range c.failed {
		out = append(out, reload.Listener{Address: address, FailedChecks: n})
	}
	slices.SortFunc(out, func(a, b reload.Listener) int { return strings.Compare(a.Address, b.Address) })
	return out
}
