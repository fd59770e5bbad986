// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package statuspage

import (
	"errors"
	"fmt"

	"go.opentelemetry.io/collector/config/confighttp"

	"github.com/holdfast-telemetry/holdfast/internal/extension"
	"github.com/holdfast-telemetry/holdfast/internal/status"
)

// Bounds of `history`.
const (
	minHistory = 10
	maxHistory = 10000
)

// Config is the extension's configuration (compat, 4.5).
type Config struct {
	// ServerConfig is named, not embedded: its Unmarshal would be promoted and swallow the keys below.
	ServerConfig confighttp.ServerConfig `mapstructure:",squash"`

	// Hosts are names under which the page may be asked for, besides its address; any other is refused, so that no web
	// page elsewhere can read it through a name that it points here.
	Hosts []string `mapstructure:"hosts"`
	// History is how many events are kept.
	History int `mapstructure:"history"`
}

// Default returns the defaults: loopback, since whoever asks learns names and errors of backends.
func Default() any {
	return &Config{ServerConfig: extension.ServerDefaults("localhost:13134"), History: status.DefaultHistory}
}

// Validate implements confmap.Validator.
func (c *Config) Validate() error {
	var errs []error
	if c.ServerConfig.NetAddr.Endpoint == "" {
		errs = append(errs, errors.New("`endpoint` must not be empty"))
	}
	if c.ServerConfig.CORS.HasValue() {
		errs = append(errs, errors.New("`cors`: no other page may read this one"))
	}
	if c.History < minHistory || c.History > maxHistory {
		errs = append(errs, fmt.Errorf("`history` must be between %d and %d", minHistory, maxHistory))
	}
	return errors.Join(errs...)
}
