// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package door

import (
	"net"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Listening logs that a listener is open and what it limits, and warns of one that is open to everybody (compat,
// section 7).
func (d *Door) Listening(ln *Listener, tls, auth bool, limits ...zap.Field) {
	log := d.Log().With(zap.String("component", d.set.ID), zap.String("address", ln.Addr().String()))
	log.Info("Listening", zap.Bool("tls", tls), zap.Bool("auth", auth))
	log.Info("Limits in force", append(limits, zap.Int64("connections", maxConnections()))...)
	if a, ok := ln.Addr().(*net.TCPAddr); ok && a.IP.IsUnspecified() && !tls && !auth {
		log.Warn("Listening on all addresses without TLS and without authentication",
			zap.Bool("tls", tls), zap.Bool("auth", auth))
	}
}

// logInterval is how often failed handshakes and attempts to accept are logged: anybody can make them fail.
const logInterval = 10 * time.Second

// HandshakeFailed logs why a TLS handshake failed, every 10 s at most, with the number of those in between.
func (d *Door) HandshakeFailed(peer, cause string) {
	if skipped, ok := d.handshakes.due(time.Now(), logInterval); ok {
		d.Log().Warn("TLS handshake failed", zap.String("peer", peer), zap.String("error", Clean(cause)),
			zap.Int("not_logged", skipped))
	}
}

// thinned lets something happen once per interval. The zero value is ready.
type thinned struct {
	mu struct {
		sync.Mutex
		last    time.Time
		skipped int
	}
}

// due reports whether it is time, and how often it was not since the last time.
func (t *thinned) due(now time.Time, interval time.Duration) (skipped int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.mu.last.IsZero() && now.Sub(t.mu.last) < interval {
		t.mu.skipped++
		return 0, false
	}
	skipped = t.mu.skipped
	t.mu.last, t.mu.skipped = now, 0
	return skipped, true
}
