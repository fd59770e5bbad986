// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/collector/config/configcompression"
	"go.opentelemetry.io/collector/config/configgrpc"
	"go.opentelemetry.io/collector/config/configoptional"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/wire"
)

// Config is an otlp_grpc block: the keys of the Collector's exporter of that name.
type Config struct {
	Client configgrpc.ClientConfig `mapstructure:",squash"`

	// Timeout bounds one attempt, connecting included; 0 = the caller's deadline alone.
	Timeout time.Duration        `mapstructure:"timeout"`
	Queue   exporter.QueueConfig `mapstructure:"sending_queue"`
	Retry   exporter.RetryConfig `mapstructure:"retry_on_failure"`
}

// Default returns the settings of an empty block. gzip saves the network most people pay for; keepalive is off because
// servers punish pings they did not ask for (what stands in for it is in link.go).
func Default() *Config {
	c := &Config{
		Client:  configgrpc.NewDefaultClientConfig(),
		Timeout: 5 * time.Second,
		Queue:   exporter.DefaultQueue(),
		Retry:   exporter.DefaultRetry(),
	}
	c.Client.Compression = configcompression.TypeGzip
	c.Client.WriteBufferSize = 512 << 10
	c.Client.Keepalive = configoptional.None[configgrpc.KeepaliveClientConfig]()
	return c
}

// Validate implements confmap.Validator.
func (c *Config) Validate() error {
	var errs []error
	if c.Client.Endpoint == "" {
		errs = append(errs, errors.New("`endpoint` is required"))
	}
	if err := checkEndpoint(c.Client.Endpoint); err != nil {
		errs = append(errs, fmt.Errorf("`endpoint` %w", err))
	}
	errs = append(errs, wire.CheckHeaders(c.Client.Headers))
	if c.Timeout < 0 {
		errs = append(errs, errors.New("`timeout` must not be negative"))
	}
	switch c.Client.Compression {
	case "", "none", configcompression.TypeGzip, configcompression.TypeZstd, configcompression.TypeSnappy:
	default:
		errs = append(errs, fmt.Errorf("`compression` %q is none of gzip, zstd, snappy, none", string(c.Client.Compression)))
	}
	return errors.Join(errs...)
}

// checkEndpoint refuses what nobody can be at: every attempt would fail, and say something about a name.
func checkEndpoint(endpoint string) error {
	if strings.ContainsAny(endpoint, " \t\n") {
		return fmt.Errorf("%q has a space in it", endpoint)
	}
	scheme, rest, ok := strings.Cut(endpoint, "://")
	switch {
	case !ok:
		rest = endpoint
	case scheme == "http" || scheme == "https":
	case scheme == "ftp" || scheme == "tcp" || scheme == "grpc" || scheme == "grpcs" || scheme == "udp":
		return fmt.Errorf("%q: the scheme is none of http, https, dns, unix; or write HOST:PORT", endpoint)
	default:
		return nil // a resolver's
	}
	if err := wire.CheckPort(rest); err != nil {
		return fmt.Errorf("%q: %w", endpoint, err)
	}
	return nil
}

// Delivery implements exporter.Deliverer.
func (c *Config) Delivery() exporter.Delivery {
	return exporter.Delivery{Queue: &c.Queue, Retry: &c.Retry, Timeout: c.Timeout}
}

var _ exporter.Deliverer = (*Config)(nil)
