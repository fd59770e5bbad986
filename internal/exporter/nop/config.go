// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package nop

// Config is a nop block; it has no keys.
type Config struct{}

// Default returns the settings of an empty block.
func Default() *Config { return &Config{} }

// Validate implements confmap.Validator; there is nothing to be wrong.
func (*Config) Validate() error { return nil }
