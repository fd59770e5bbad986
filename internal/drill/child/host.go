// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package child

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// guardPort marks a loopback address as taken by one room.
const guardPort = "65001"

// OwnHost finds a loopback address that no other room uses while the guard is open. There nobody takes the port of a
// backend that is away, or of a collector between two lives.
func OwnHost() (string, net.Listener, error) {
	var err error
	for range 100 {
		host := fmt.Sprintf("127.%d.%d.%d", 10+rand.IntN(90), rand.IntN(256), 1+rand.IntN(254)) //nolint:gosec // no secret
		var guard net.Listener
		if guard, err = net.Listen("tcp", net.JoinHostPort(host, guardPort)); err == nil { //nolint:noctx // at once
			return host, guard, nil
		}
	}
	return "", nil, fmt.Errorf("no loopback address is free: %w", err)
}
