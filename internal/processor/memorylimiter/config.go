// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package memorylimiter

import (
	"errors"
	"fmt"
	"time"
)

// Config is the processor's configuration, keys as the Collector's (compat, 4.5). Limits in MiB go before limits in
// percent of the memory there is (telemetry.MemoryLimit); without either, the limit is 80 % of it. The spike is what
// may be used up between two checks; without one it is 20 % of the limit.
type Config struct {
	CheckInterval         time.Duration `mapstructure:"check_interval"`
	MemoryLimitMiB        uint32        `mapstructure:"limit_mib"`
	MemorySpikeLimitMiB   uint32        `mapstructure:"spike_limit_mib"`
	MemoryLimitPercentage uint32        `mapstructure:"limit_percentage"`
	MemorySpikePercentage uint32        `mapstructure:"spike_limit_percentage"`

	// Forced collections above a limit are at least the minimum apart. While they free little, the time between
	// them doubles up to the maximum; a maximum of 0 keeps it at the minimum.
	MinGCIntervalWhenSoftLimited time.Duration `mapstructure:"min_gc_interval_when_soft_limited"`
	MinGCIntervalWhenHardLimited time.Duration `mapstructure:"min_gc_interval_when_hard_limited"`
	MaxGCIntervalWhenSoftLimited time.Duration `mapstructure:"max_gc_interval_when_soft_limited"`
	MaxGCIntervalWhenHardLimited time.Duration `mapstructure:"max_gc_interval_when_hard_limited"`
}

// Default returns the defaults.
func Default() any {
	return &Config{
		CheckInterval:                time.Second,
		MinGCIntervalWhenSoftLimited: 10 * time.Second,
		MaxGCIntervalWhenSoftLimited: 30 * time.Second,
		MaxGCIntervalWhenHardLimited: 30 * time.Second,
	}
}

// Validate implements confmap.Validator.
func (c *Config) Validate() error {
	var errs []error
	if c.CheckInterval <= 0 {
		errs = append(errs, errors.New("`check_interval` must be positive"))
	}
	if c.MemoryLimitMiB > 0 && c.MemorySpikeLimitMiB >= c.MemoryLimitMiB {
		errs = append(errs, errors.New("`spike_limit_mib` must be smaller than `limit_mib`"))
	}
	if c.MemoryLimitPercentage > 100 || c.MemorySpikePercentage > 100 {
		errs = append(errs, errors.New("`limit_percentage` and `spike_limit_percentage` must not be above 100"))
	}
	if c.MemoryLimitMiB == 0 && c.MemoryLimitPercentage > 0 && c.MemorySpikePercentage >= c.MemoryLimitPercentage {
		errs = append(errs, errors.New("`spike_limit_percentage` must be smaller than `limit_percentage`"))
	}
	return errors.Join(append(errs, c.validateIntervals())...)
}

// Bounds says in words what is refused and when; `explain` prints it.
func (c *Config) Bounds() string {
	switch {
	case c.MemoryLimitMiB > 0:
		spike := c.MemorySpikeLimitMiB
		if spike == 0 {
			spike = c.MemoryLimitMiB / 5
		}
		return fmt.Sprintf("refuses new data above %d MiB, collects garbage by force above %d MiB",
			c.MemoryLimitMiB-spike, c.MemoryLimitMiB)
	case c.MemoryLimitPercentage > 0:
		spike := fmt.Sprintf("less %d %% of it", c.MemorySpikePercentage)
		if c.MemorySpikePercentage == 0 {
			spike = "less a fifth of that"
		}
		return fmt.Sprintf("limit %d %% of the memory there is; refuses new data above that %s", c.MemoryLimitPercentage,
			spike)
	}
	return "limit 80 % of the memory there is; refuses new data above four fifths of that"
}

func (c *Config) validateIntervals() error {
	minSoft, maxSoft := c.MinGCIntervalWhenSoftLimited, c.MaxGCIntervalWhenSoftLimited
	minHard, maxHard := c.MinGCIntervalWhenHardLimited, c.MaxGCIntervalWhenHardLimited
	var errs []error
	if min(minSoft, maxSoft, minHard, maxHard) < 0 {
		errs = append(errs, errors.New("GC intervals must not be negative"))
	}
	if minSoft < minHard {
		errs = append(errs, errors.New("`min_gc_interval_when_soft_limited` must not be below "+
			"`min_gc_interval_when_hard_limited`: the hard limit is the more urgent"))
	}
	if maxSoft > 0 && maxSoft < minSoft {
		errs = append(errs, errors.New("`max_gc_interval_when_soft_limited` must be 0 or not below its minimum"))
	}
	if maxHard > 0 && maxHard < minHard {
		errs = append(errs, errors.New("`max_gc_interval_when_hard_limited` must be 0 or not below its minimum"))
	}
	if maxSoft > 0 && maxHard > 0 && maxSoft < maxHard {
		errs = append(errs, errors.New("`max_gc_interval_when_soft_limited` must not be below "+
			"`max_gc_interval_when_hard_limited`"))
	}
	return errors.Join(errs...)
}
