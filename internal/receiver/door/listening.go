// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package door

import (
	"net"

	"go.uber.org/zap"
)

// Listening logs that a listener is open, and warns of one that is open to everybody (compat, section 7).
func (d *Door) Listening(ln net.Listener, tls, auth bool) {
	log := d.Log().With(zap.String("component", d.set.ID), zap.String("address", ln.Addr().String()),
		zap.Bool("tls", tls), zap.Bool("auth", auth))
	log.Info("Listening")
	if a, ok := ln.Addr().(*net.TCPAddr); ok && a.IP.IsUnspecified() && !tls && !auth {
		log.Warn("Listening on all addresses without TLS and without authentication")
	}
}
