// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pprof

import (
	"errors"

	"go.opentelemetry.io/collector/config/confignet"
)

// Config is the extension's configuration, keys as the Collector's (compat, 4.5).
type Config struct {
	confignet.AddrConfig `mapstructure:",squash"`

	// BlockProfileFraction is the rate of runtime.SetBlockProfileRate, in ns; 0 = off.
	BlockProfileFraction int `mapstructure:"block_profile_fraction"`
	// MutexProfileFraction is the fraction of runtime.SetMutexProfileFraction; 0 = off.
	MutexProfileFraction int `mapstructure:"mutex_profile_fraction"`
	// SaveToFile is where a CPU profile of the whole run is written; empty = nowhere.
	SaveToFile string `mapstructure:"save_to_file"`
}

// Default returns the defaults: loopback, since profiles show memory and command lines.
func Default() any {
	return &Config{AddrConfig: confignet.AddrConfig{Endpoint: "localhost:1777", Transport: confignet.TransportTypeTCP}}
}

// Writes are the files that Start opens, by key.
func (c *Config) Writes() map[string]string {
	if c.SaveToFile == "" {
		return nil
	}
	return map[string]string{"save_to_file": c.SaveToFile}
}

// Validate implements confmap.Validator.
func (c *Config) Validate() error {
	var errs []error
	if c.Endpoint == "" {
		errs = append(errs, errors.New("`endpoint` must not be empty"))
	}
	if c.BlockProfileFraction < 0 || c.MutexProfileFraction < 0 {
		errs = append(errs, errors.New("`block_profile_fraction` and `mutex_profile_fraction` must not be negative"))
	}
	return errors.Join(errs...)
}
