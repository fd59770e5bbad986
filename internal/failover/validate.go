// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package failover

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
)

// Validate implements confmap.Validator. What depends on other parts of the configuration, the resolution of
// priority_levels, is checked where the plan is made.
func (c *Config) Validate() error {
	errs := []error{c.validateLevels()}
	add := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	add(c.RetryInterval <= 0, "`retry_interval` must be positive")
	add(c.RetryGap < 0, "`retry_gap` must not be negative")
	add(c.MaxRetries < 0, "`max_retries` must not be negative; 0 = always at `retry_interval`")
	add(c.FailoverDelay < 0 || c.FailoverDelay > time.Hour, "`failover_delay` must be between 0s and 1h")
	errs = append(errs, oneOf("on_failure", c.OnFailure, "auto", "stay", "move"))
	if _, err := c.Condition.Error.Texts(); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, c.Detector.validate(), c.Return.validate(), c.Drain.validate(), c.validateProbes())
	add(c.Throttle.FailoverAfter < 0 || c.Throttle.MaxWait < 0,
		"`throttle::failover_after` and `throttle::max_wait` must not be negative")
	errs = append(errs, oneOf("all_down::policy", c.AllDown.Policy, "hold", "refuse"))
	add(c.AllDown.ProbeEvery <= 0, "`all_down::probe_every` must be positive")
	if _, err := c.Emergency.Mode(); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, oneOf("emergency::when", c.Emergency.When, "all_down", "queue_high"))
	add(c.Emergency.HighWater <= 0 || c.Emergency.HighWater > 1, "`emergency::high_water` must be above 0, at most 1")
	add(c.Emergency.MaxBytes < 0, "`emergency::max_bytes` must not be negative")
	add(c.Backfill.After < 0, "`backfill::after` must not be negative")
	errs = append(errs, oneOf("rejected::action", c.Rejected.Action, "dead_letter", "drop"))
	return errors.Join(append(errs, c.validateLater())...)
}

func (c *Config) validateLevels() error {
	if len(c.PriorityLevels) == 0 {
		return errors.New("`priority_levels` needs at least one level")
	}
	var errs []error
	for i, level := range c.PriorityLevels {
		if len(level) == 0 {
			errs = append(errs, fmt.Errorf("`priority_levels`: level %d is empty", i))
		}
		for _, entry := range level {
			if entry == "" {
				errs = append(errs, fmt.Errorf("`priority_levels`: level %d has an empty entry", i))
			}
		}
	}
	return errors.Join(errs...)
}

func (d *Detector) validate() error {
	var errs []error
	if d.Consecutive < 1 || d.Consecutive > 100 || d.Startup < 1 || d.Startup > 100 {
		errs = append(errs, errors.New("`detector::consecutive` and `detector::startup` must be between 1 and 100"))
	}
	if d.Ratio < 0 || d.Ratio > 1 {
		errs = append(errs, errors.New("`detector::ratio` must be between 0 (off) and 1"))
	}
	if d.Window < 5*time.Second || d.Window > 10*time.Minute {
		errs = append(errs, errors.New("`detector::window` must be between 5s and 10m"))
	}
	if d.MinAttempts < 1 {
		errs = append(errs, errors.New("`detector::min_attempts` must be at least 1"))
	}
	if _, _, err := d.slow(); err != nil {
		errs = append(errs, err)
	}
	if d.SlowRatio <= 0 || d.SlowRatio > 1 {
		errs = append(errs, errors.New("`detector::slow_ratio` must be above 0, at most 1"))
	}
	return errors.Join(errs...)
}

func (r *Return) validate() error {
	errs := []error{oneOf("return::mode", r.Mode, "auto", "manual")}
	if r.Ramp < 0 || r.Ramp > time.Hour {
		errs = append(errs, errors.New("`return::ramp` must be between 0s (all at once) and 1h"))
	}
	if r.RampStart < 0 || r.RampStart > 1 {
		errs = append(errs, errors.New("`return::ramp_start` must be between 0 and 1"))
	}
	if r.HoldDown < 0 || r.FlapWindow <= 0 {
		errs = append(errs, errors.New("`return::hold_down` must not be negative, `return::flap_window` must be positive"))
	}
	if r.HoldDownMax <= 0 || r.HoldDownMax < r.HoldDown {
		errs = append(errs, errors.New("`return::hold_down_max` must be positive and not below `return::hold_down`"))
	}
	return errors.Join(errs...)
}

func (d *DrainConfig) validate() error {
	errs := []error{oneOf("drain::order", d.Order, "relaxed", "strict")}
	if d.Start < 1 {
		errs = append(errs, errors.New("`drain::start` must be at least 1"))
	}
	if d.LiveShare < 0 || d.LiveShare > 1 {
		errs = append(errs, errors.New("`drain::live_share` must be between 0 and 1"))
	}
	return errors.Join(errs...)
}

func (c *Config) validateProbes() error {
	errs := []error{c.Probe.ProbeKind.validate("probe")}
	for _, id := range slices.Sorted(maps.Keys(c.Probe.Exporters)) {
		p := c.Probe.Exporters[id]
		errs = append(errs, p.validate("probe::exporters::"+id))
	}
	return errors.Join(errs...)
}

func (p *ProbeKind) validate(key string) error {
	var errs []error
	if p.Kind != "" {
		errs = append(errs, oneOf(key+"::kind", p.Kind, "auto", "empty", "grpc_health", "tcp", "http", "live"))
	}
	if (p.Kind == "http") != (p.URL != "") {
		errs = append(errs, fmt.Errorf("`%s::url` belongs to `%s::kind` http, and http needs it", key, key))
	}
	if p.URL != "" {
		if u, err := url.Parse(p.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			errs = append(errs, fmt.Errorf("`%s::url` is not an http or https URL", key))
		}
	}
	for _, code := range p.Expect {
		if code < 100 || code > 599 {
			errs = append(errs, fmt.Errorf("`%s::expect` %d is not a status code", key, code))
		}
	}
	if p.Timeout != nil && *p.Timeout <= 0 {
		errs = append(errs, fmt.Errorf("`%s::timeout` must be positive", key))
	}
	if p.Successes != nil && (*p.Successes < 1 || *p.Successes > 20) {
		errs = append(errs, fmt.Errorf("`%s::successes` must be between 1 and 20", key))
	}
	if p.Every != nil && *p.Every < 0 {
		errs = append(errs, fmt.Errorf("`%s::every` must not be negative", key))
	}
	return errors.Join(errs...)
}

// validateLater refuses keys that only a later version heeds, unless they ask for what this one does.
func (c *Config) validateLater() error {
	var errs []error
	later := func(set bool, key, now string) {
		if set {
			errs = append(errs, fmt.Errorf("`%s` is not available in this version: it is %s", key, now))
		}
	}
	later(c.CatchUp.Enabled, "catch_up::enabled", "false")
	later(len(c.Partition.MetadataKeys) > 0, "partition::metadata_keys", "[]")
	return errors.Join(errs...)
}

// Validate implements confmap.Validator.
func (q *QueueConfig) Validate() error {
	if q.Enabled != nil && !*q.Enabled {
		return nil
	}
	full := exporter.DefaultQueue()
	if q.NumConsumers != nil {
		full.NumConsumers = *q.NumConsumers
	}
	if q.QueueSize != nil {
		full.QueueSize = *q.QueueSize
	}
	if q.Sizer != nil {
		full.Sizer = *q.Sizer
	}
	return full.Validate()
}
