// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package zpages

import (
	"errors"

	"go.opentelemetry.io/collector/config/confighttp"

	"github.com/holdfast-telemetry/holdfast/internal/extension"
)

// Config is the extension's configuration, keys as the Collector's (compat, 4.5).
type Config struct {
	// ServerConfig is named, not embedded: its Unmarshal would be promoted and swallow the keys below.
	ServerConfig confighttp.ServerConfig `mapstructure:",squash"`

	Expvar ExpvarConfig `mapstructure:"expvar"`
}

// ExpvarConfig is expvar.
type ExpvarConfig struct {
	Enabled bool `mapstructure:"enabled"`
}

// Default returns the defaults: loopback, since the pages show names and errors of backends.
func Default() any { return &Config{ServerConfig: extension.ServerDefaults("localhost:55679")} }

// Validate implements confmap.Validator.
func (c *Config) Validate() error {
	if c.ServerConfig.NetAddr.Endpoint == "" {
		return errors.New("`endpoint` must not be empty")
	}
	return nil
}
