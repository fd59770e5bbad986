// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package otlpgrpc

import (
	"net"
	"time"
)

// setUserTimeout does nothing here: the option is Linux's.
func setUserTimeout(net.Conn, time.Duration) {}
