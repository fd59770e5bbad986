// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package exporter

import (
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/config/configoptional"
)

// Delivery is what an exporter's configuration says of the queue and the retries in front of it. A configuration
// that has any of it implements Deliverer.
type Delivery struct {
	Queue   *QueueConfig // nil = the keys do not exist or are not written
	Retry   *RetryConfig // nil = the defaults
	Timeout time.Duration
}

// Deliverer is implemented by pointers to exporter configurations with queue, retry or timeout keys.
type Deliverer interface{ Delivery() Delivery }

// QueueConfig is the sending_queue block.
type QueueConfig struct {
	Enabled         bool   `mapstructure:"enabled"`
	NumConsumers    int    `mapstructure:"num_consumers"`
	QueueSize       int64  `mapstructure:"queue_size"`
	Sizer           string `mapstructure:"sizer"`
	BlockOnOverflow bool   `mapstructure:"block_on_overflow"`
	Storage         string `mapstructure:"storage"`
	WaitForResult   bool   `mapstructure:"wait_for_result"`
	// Batch is on when the key is there, null included.
	Batch configoptional.Optional[BatchConfig] `mapstructure:"batch"`
}

// BatchConfig is sending_queue::batch; it is on when present.
type BatchConfig struct {
	FlushTimeout time.Duration   `mapstructure:"flush_timeout"`
	MinSize      int64           `mapstructure:"min_size"`
	MaxSize      int64           `mapstructure:"max_size"`
	Sizer        string          `mapstructure:"sizer"`
	Partition    PartitionConfig `mapstructure:"partition"`
}

// PartitionConfig keeps batches of different metadata apart.
type PartitionConfig struct {
	MetadataKeys []string      `mapstructure:"metadata_keys"`
	CacheSize    int           `mapstructure:"cache_size"`
	IdleTimeout  time.Duration `mapstructure:"idle_timeout"`
}

// RetryConfig is the retry_on_failure block. MaxElapsedTime is patience at one destination, never a reason to
// delete; 0 = no end.
type RetryConfig struct {
	Enabled             bool          `mapstructure:"enabled"`
	InitialInterval     time.Duration `mapstructure:"initial_interval"`
	RandomizationFactor float64       `mapstructure:"randomization_factor"`
	Multiplier          float64       `mapstructure:"multiplier"`
	MaxInterval         time.Duration `mapstructure:"max_interval"`
	MaxElapsedTime      time.Duration `mapstructure:"max_elapsed_time"`
}

// DefaultQueue returns the block's defaults, as the Collector's.
func DefaultQueue() QueueConfig {
	return QueueConfig{
		Enabled: true, NumConsumers: 10, QueueSize: 1000, Sizer: "requests",
		Batch: configoptional.Default(DefaultBatch()),
	}
}

// DefaultBatch returns the defaults of sending_queue::batch, as the Collector's.
func DefaultBatch() BatchConfig {
	return BatchConfig{FlushTimeout: 200 * time.Millisecond, MinSize: 8192, Sizer: "items"}
}

// DefaultRetry returns the block's defaults, as the Collector's.
func DefaultRetry() RetryConfig {
	return RetryConfig{
		Enabled: true, InitialInterval: 5 * time.Second, RandomizationFactor: 0.5, Multiplier: 1.5,
		MaxInterval: 30 * time.Second, MaxElapsedTime: 5 * time.Minute,
	}
}

// Validate implements confmap.Validator.
func (c *QueueConfig) Validate() error {
	if !c.Enabled {
		return nil
	}
	var errs []error
	if c.NumConsumers <= 0 {
		errs = append(errs, errors.New("`num_consumers` must be positive"))
	}
	if c.QueueSize <= 0 {
		errs = append(errs, errors.New("`queue_size` must be positive"))
	}
	if c.Sizer != "requests" && c.Sizer != "items" && c.Sizer != "bytes" {
		errs = append(errs, fmt.Errorf("`sizer` %q is none of requests, items, bytes", c.Sizer))
	}
	if c.WaitForResult && c.Storage != "" {
		errs = append(errs, errors.New("`wait_for_result` is not supported with `storage`"))
	}
	return errors.Join(errs...)
}

// Validate implements confmap.Validator.
func (c *BatchConfig) Validate() error {
	var errs []error
	if c.FlushTimeout <= 0 {
		errs = append(errs, errors.New("`flush_timeout` must be positive"))
	}
	if c.MinSize < 0 || c.MaxSize < 0 {
		errs = append(errs, errors.New("`min_size` and `max_size` must not be negative"))
	}
	if c.MaxSize > 0 && c.MaxSize < c.MinSize {
		errs = append(errs, fmt.Errorf("`max_size` %d is below `min_size` %d", c.MaxSize, c.MinSize))
	}
	if c.Sizer != "items" && c.Sizer != "bytes" {
		errs = append(errs, fmt.Errorf("`sizer` %q is none of items, bytes", c.Sizer))
	}
	return errors.Join(errs...)
}

// Validate implements confmap.Validator.
func (c *RetryConfig) Validate() error {
	if !c.Enabled {
		return nil
	}
	var errs []error
	if c.InitialInterval < 0 || c.MaxInterval < 0 || c.MaxElapsedTime < 0 {
		errs = append(errs, errors.New("`initial_interval`, `max_interval` and `max_elapsed_time` must not be negative"))
	}
	if c.RandomizationFactor < 0 || c.RandomizationFactor > 1 {
		errs = append(errs, errors.New("`randomization_factor` must be within [0, 1]"))
	}
	if c.Multiplier < 0 {
		errs = append(errs, errors.New("`multiplier` must not be negative"))
	}
	if c.MaxElapsedTime > 0 && c.MaxElapsedTime < c.InitialInterval {
		errs = append(errs, errors.New("`max_elapsed_time` must not be less than `initial_interval`"))
	}
	return errors.Join(errs...)
}
