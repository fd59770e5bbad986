// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package evidence

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

// Listeners connects to every address of a generation once a second while it is on trial (reload, section 8, S2), and
// leaves at once: nothing is said on these connections.
type Listeners struct {
	addresses func() []net.Addr
	dial      func(ctx context.Context, network, address string) error
	stop      context.CancelFunc
	done      chan struct{}
	mu        sync.Mutex
	failed    map[string]int // in a row, by address; guarded by mu
}

// Watch begins to look at the addresses there are each time, by dial, which is Knock but in tests; Stop ends it.
func Watch(addresses func() []net.Addr, dial func(ctx context.Context, network, address string) error) *Listeners {
	ctx, stop := context.WithCancel(context.Background())
	l := &Listeners{addresses: addresses, dial: dial, stop: stop, done: make(chan struct{}), failed: map[string]int{}}
	go l.run(ctx)
	return l
}

// Knock connects and leaves.
func Knock(ctx context.Context, network, address string) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		return err
	}
	return c.Close()
}

func (l *Listeners) run(ctx context.Context) {
	defer close(l.done)
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			l.look(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// look checks every address at the same time.
func (l *Listeners) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, checkEvery)
	defer cancel()
	var all sync.WaitGroup
	for _, a := range l.addresses() {
		all.Go(func() {
			err := l.dial(ctx, a.Network(), a.String())
			l.mu.Lock()
			defer l.mu.Unlock()
			if l.failed[a.String()]++; err == nil {
				l.failed[a.String()] = 0
			}
		})
	}
	all.Wait()
}

// Cancel ends it without waiting: what is known stays known. It may be called again.
func (l *Listeners) Cancel() { l.stop() }

// Stop ends it and waits for the goroutine. It may be called again.
func (l *Listeners) Stop() {
	l.stop()
	<-l.done
}

// Sample is how the addresses fare; nothing for a nil Listeners, which were never watched.
func (l *Listeners) Sample() (out []reload.Listener) {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for address, n := range l.failed {
		out = append(out, reload.Listener{Address: address, FailedChecks: n})
	}
	slices.SortFunc(out, func(a, b reload.Listener) int { return strings.Compare(a.Address, b.Address) })
	return out
}
