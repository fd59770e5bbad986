// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc

import (
	"context"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc/resolver"
)

const (
	// lookupLimit bounds one look-up.
	lookupLimit = 3 * time.Second
	// minLookup is the shortest time between two look-ups, however often they are asked for.
	minLookup = time.Second
	// maxLookupBackoff is the longest pause after look-ups that failed.
	maxLookupBackoff = 5 * time.Second
	// defaultPort is the one the library takes for names without a port.
	defaultPort = "443"
)

// names resolves host names. It stands in for the library's own resolver, which looks a moved backend up again after
// 30 seconds at best, and after a name server's outage in two minutes at worst (faults, B14).
type names struct {
	lookup func(ctx context.Context, host string) ([]string, error)
}

// Scheme implements resolver.Builder.
func (*names) Scheme() string { return "dns" }

// Build implements resolver.Builder.
func (n *names) Build(target resolver.Target, cc resolver.ClientConn, opts resolver.BuildOptions) (resolver.Resolver, error) {
	if target.URL.Host != "" { // a name server of the user's choice: the library's business
		return resolver.Get("dns").Build(target, cc, opts)
	}
	host, port, err := net.SplitHostPort(target.Endpoint())
	if err != nil {
		host, port = target.Endpoint(), defaultPort
	}
	if host == "" {
		host = "localhost"
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &nameWatch{
		names: n, host: host, port: port, cc: cc,
		ask: make(chan struct{}, 1), cancel: cancel, done: make(chan struct{}),
	}
	go w.run(ctx)
	return w, nil
}

// nameWatch keeps one name resolved until it is closed.
type nameWatch struct {
	names      *names
	host, port string
	cc         resolver.ClientConn
	ask        chan struct{} // room for one: asking twice is asking once
	cancel     context.CancelFunc
	done       chan struct{}
}

func (w *nameWatch) run(ctx context.Context) {
	defer close(w.done)
	backoff := minLookup
	for {
		ok := w.resolve(ctx)
		pause, ask := minLookup, w.ask
		if ok {
			backoff = minLookup
		} else {
			pause, ask = backoff, nil
			backoff = min(2*backoff, maxLookupBackoff)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		if ask == nil {
			continue
		}
		select {
		case <-ask:
		case <-ctx.Done():
			return
		}
	}
}

// resolve looks the name up and reports whether there is something to connect to.
func (w *nameWatch) resolve(ctx context.Context) bool {
	lctx, cancel := context.WithTimeout(ctx, lookupLimit)
	defer cancel()
	hosts := []string{w.host}
	if net.ParseIP(w.host) == nil {
		var err error
		if hosts, err = w.names.lookup(lctx, w.host); err != nil {
			if ctx.Err() == nil {
				w.cc.ReportError(fmt.Errorf("look up %q: %w", w.host, err))
			}
			return false
		}
	}
	state := resolver.State{}
	for _, h := range hosts {
		state.Addresses = append(state.Addresses, resolver.Address{Addr: net.JoinHostPort(h, w.port)})
	}
	return w.cc.UpdateState(state) == nil
}

// ResolveNow implements resolver.Resolver.
func (w *nameWatch) ResolveNow(resolver.ResolveNowOptions) {
	select {
	case w.ask <- struct{}{}:
	default:
	}
}

// Close implements resolver.Resolver.
func (w *nameWatch) Close() {
	w.cancel()
	<-w.done
}

var _ resolver.Builder = (*names)(nil)
