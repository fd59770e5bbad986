// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package door

import (
	"context"
	"crypto/tls"
	"time"

	"go.opentelemetry.io/collector/config/configtls"
	"go.uber.org/zap"
)

// BufferSize is the capacity of a buffer for n bytes.
func BufferSize(n int) int { return bufferSize(n) }

// NewBuffer returns a buffer's slice and what gives it back.
func NewBuffer(n int) ([]byte, func()) {
	b := newBuffer(n)
	return b.b, b.free
}

// MaxConnections is the cap of a listener.
func MaxConnections() int64 { return maxConnections() }

// Watched is a certificate that is watched with a clock of one's own.
type Watched struct{ c *certificates }

// Watch starts to watch.
func Watch(cfg configtls.ServerConfig, log *zap.Logger, now func() time.Time) (*Watched, error) {
	c := &certificates{cfg: cfg, protos: []string{"h2"}, log: log, now: now}
	c.mu.seen = c.digest()
	loaded, notAfter, err := c.load(context.Background())
	if err != nil {
		return nil, err
	}
	c.use(loaded, notAfter)
	return &Watched{c}, nil
}

// Get is the configuration for the next handshake.
func (w *Watched) Get() *tls.Config { return w.c.get() }
