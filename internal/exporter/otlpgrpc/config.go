// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc

import (
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/config/configcompression"
	"go.opentelemetry.io/collector/config/configgrpc"
	"go.opentelemetry.io/collector/config/configoptional"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
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

// Delivery implements exporter.Deliverer.
func (c *Config) Delivery() exporter.Delivery {
	return exporter.Delivery{Queue: &c.Queue, Retry: &c.Retry, Timeout: c.Timeout}
}

var _ exporter.Deliverer = (*Config)(nil)
