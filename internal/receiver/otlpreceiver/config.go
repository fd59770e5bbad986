// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpreceiver

import (
	"errors"

	"go.opentelemetry.io/collector/config/configgrpc"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/confmap"

	"github.com/holdfast-telemetry/holdfast/internal/receiver/otlpgrpc"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/otlphttp"
)

// Config is the configuration of an otlp receiver.
type Config struct {
	Protocols Protocols `mapstructure:"protocols"`
}

// Protocols says what runs: each protocol whose key is there, null included.
type Protocols struct {
	GRPC configoptional.Optional[configgrpc.ServerConfig] `mapstructure:"grpc"`
	HTTP configoptional.Optional[otlphttp.Config]         `mapstructure:"http"`
}

// Default returns a *Config with our defaults. Neither protocol runs until Unmarshal has seen the document: without
// protocols both do.
func Default() any {
	return &Config{Protocols: Protocols{
		GRPC: configoptional.Default(otlpgrpc.DefaultConfig()),
		HTTP: configoptional.Default(otlphttp.DefaultConfig()),
	}}
}

// Unmarshal implements confmap.Unmarshaler.
func (c *Config) Unmarshal(conf *confmap.Conf) error {
	if conf == nil || !conf.IsSet("protocols") {
		c.Protocols.GRPC.GetOrInsertDefault()
		c.Protocols.HTTP.GetOrInsertDefault()
	}
	if conf == nil {
		return nil
	}
	return conf.Unmarshal(c)
}

// Validate implements confmap.Validator.
func (c *Config) Validate() error {
	grpc, http := c.Protocols.GRPC.Get(), c.Protocols.HTTP.Get()
	if grpc == nil && http == nil {
		return errors.New("`protocols` names none of grpc, http; without the key both run")
	}
	if grpc != nil {
		return otlpgrpc.Validate(grpc)
	}
	return nil
}

var (
	_ confmap.Unmarshaler = (*Config)(nil)
	_ confmap.Validator   = (*Config)(nil)
)
