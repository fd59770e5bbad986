// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc

import (
	"errors"
	"fmt"
	"math"
	"time"

	"go.opentelemetry.io/collector/config/configgrpc"
	"go.opentelemetry.io/collector/config/confignet"
	"go.opentelemetry.io/collector/config/configoptional"
)

// DefaultConfig returns the Collector's settings with our defaults (compat, 4.4; faults, part C). The size of a
// request stays 0: its default follows the admission budget, which the configuration does not know.
func DefaultConfig() configgrpc.ServerConfig {
	cfg := configgrpc.NewDefaultServerConfig()
	cfg.NetAddr = confignet.AddrConfig{Transport: confignet.TransportTypeTCP, Endpoint: "localhost:4317"}
	cfg.ReadBufferSize = 512 << 10
	cfg.MaxConcurrentStreams = 256
	server := configgrpc.NewDefaultKeepaliveServerParameters()
	// A dead peer is noticed by a ping; who answers may stay, since exporters that send once a minute should not
	// have to shake hands each time.
	server.Time, server.Timeout = time.Minute, 20*time.Second
	server.MaxConnectionIdle = 5 * time.Minute
	policy := configgrpc.NewDefaultKeepaliveEnforcementPolicy()
	// Clients that ping every 10 s with nothing to send are common and cost nothing.
	policy.MinTime, policy.PermitWithoutStream = 10*time.Second, true
	keepalive := configgrpc.NewDefaultKeepaliveServerConfig()
	keepalive.ServerParameters = configoptional.Some(server)
	keepalive.EnforcementPolicy = configoptional.Some(policy)
	cfg.Keepalive = configoptional.Some(keepalive)
	return cfg
}

// Validate checks what the settings' own validation does not.
func Validate(cfg *configgrpc.ServerConfig) error {
	if cfg.NetAddr.Endpoint == "" {
		return errors.New("`endpoint` must not be empty")
	}
	if mib := cfg.MaxRecvMsgSizeMiB; mib < 0 || mib > math.MaxInt32>>20 {
		return fmt.Errorf("`max_recv_msg_size_mib` %d is not between 0 and %d", mib, math.MaxInt32>>20)
	}
	return nil
}
