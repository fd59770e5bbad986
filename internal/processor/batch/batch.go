// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package batch holds the settings of the batch processor.
//
// The processor itself never holds data: its settings are applied by the delivery side of the queue below it
// (decision D4), so that nothing that was acknowledged can be lost between the answer and the queue.
package batch

import (
	"errors"
	"fmt"
	"time"
)

// Config is the processor's configuration, keys and defaults as the Collector's.
type Config struct {
	Timeout                  time.Duration `mapstructure:"timeout"`
	SendBatchSize            uint32        `mapstructure:"send_batch_size"`     // items
	SendBatchMaxSize         uint32        `mapstructure:"send_batch_max_size"` // items; 0 = no bound
	MetadataKeys             []string      `mapstructure:"metadata_keys"`
	MetadataCardinalityLimit uint32        `mapstructure:"metadata_cardinality_limit"`
}

// Default returns the defaults.
func Default() any {
	return &Config{Timeout: 200 * time.Millisecond, SendBatchSize: 8192, MetadataCardinalityLimit: 1000}
}

// Validate implements confmap.Validator.
func (c *Config) Validate() error {
	var errs []error
	if c.SendBatchMaxSize > 0 && c.SendBatchMaxSize < c.SendBatchSize {
		errs = append(errs, fmt.Errorf("`send_batch_max_size` %d is below `send_batch_size` %d",
			c.SendBatchMaxSize, c.SendBatchSize))
	}
	if c.Timeout < 0 {
		errs = append(errs, errors.New("`timeout` must not be negative"))
	}
	return errors.Join(errs...)
}
