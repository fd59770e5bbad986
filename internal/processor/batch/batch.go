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

// Batching tells the delivery side what is asked for: enough items to go at once, the most that may go, how long the
// oldest may wait, and which request metadata keeps batches apart.
func (c *Config) Batching() (size, maxSize uint32, timeout time.Duration, metadataKeys []string) {
	return c.SendBatchSize, c.SendBatchMaxSize, c.Timeout, c.MetadataKeys
}
