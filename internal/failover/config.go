// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package failover

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/confmap"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
)

// Config is a failover block (failover, section 4.1). Keys whose behaviour belongs to a later version are there so
// that a configuration that sets them is told so, not that they are unknown.
type Config struct {
	// PriorityLevels names pipelines or exporters, best first; the members of a level must all deliver.
	PriorityLevels [][]string `mapstructure:"priority_levels"`
	// RetryInterval lies between the probes of a level that is down.
	RetryInterval time.Duration `mapstructure:"retry_interval"`
	// RetryGap is the least time between two recovery probes of a route; EffectiveGap clamps it.
	RetryGap time.Duration `mapstructure:"retry_gap"`
	// MaxRetries probes fail at RetryInterval before they become rarer; 0 = they never do. No level is given up.
	MaxRetries int `mapstructure:"max_retries"`

	Condition     Condition     `mapstructure:"condition"`
	Queue         *QueueConfig  `mapstructure:"sending_queue"` // nil = lifted
	FailoverDelay time.Duration `mapstructure:"failover_delay"`
	OnFailure     string        `mapstructure:"on_failure"` // auto, stay, move
	ShareHealth   bool          `mapstructure:"share_health"`
	// Lift moves the levels' queues above the connector. Without it they stay, and acceptance by them is delivery.
	Lift      bool        `mapstructure:"lift"`
	Detector  Detector    `mapstructure:"detector"`
	Probe     Probe       `mapstructure:"probe"`
	Return    Return      `mapstructure:"return"`
	Throttle  Throttle    `mapstructure:"throttle"`
	AllDown   AllDown     `mapstructure:"all_down"`
	Emergency Emergency   `mapstructure:"emergency"`
	Backfill  Backfill    `mapstructure:"backfill"`
	CatchUp   CatchUp     `mapstructure:"catch_up"`
	Drain     DrainConfig `mapstructure:"drain"`
	Rejected  Rejected    `mapstructure:"rejected"`
	Partition Partition   `mapstructure:"partition"`
}

// Condition narrows which failures count.
type Condition struct {
	Error ErrorCondition `mapstructure:"error"`
}

// ErrorCondition looks at a failure's text and kind.
type ErrorCondition struct {
	Contains  any  `mapstructure:"contains"` // a text or a list of texts; see Texts
	Permanent bool `mapstructure:"permanent"`
}

// QueueConfig is the queue above the levels. What is not written (nil) is lifted from the levels.
type QueueConfig struct {
	Enabled         *bool                                         `mapstructure:"enabled"`
	NumConsumers    *int                                          `mapstructure:"num_consumers"`
	QueueSize       *int64                                        `mapstructure:"queue_size"`
	Sizer           *string                                       `mapstructure:"sizer"`
	BlockOnOverflow *bool                                         `mapstructure:"block_on_overflow"`
	Storage         *string                                       `mapstructure:"storage"`
	Batch           configoptional.Optional[exporter.BatchConfig] `mapstructure:"batch"`
}

// Unmarshal implements confmap.Unmarshaler: batch is on with its defaults when the key is there.
func (q *QueueConfig) Unmarshal(conf *confmap.Conf) error {
	q.Batch = configoptional.Default(exporter.DefaultBatch())
	return conf.Unmarshal(q)
}

// Detector says when a level is down.
type Detector struct {
	Consecutive int           `mapstructure:"consecutive"` // strikes without a delivery
	Startup     int           `mapstructure:"startup"`     // while it has never delivered since start
	Ratio       float64       `mapstructure:"ratio"`       // failed share of Window; 0 = off
	Window      time.Duration `mapstructure:"window"`
	MinAttempts int           `mapstructure:"min_attempts"`
	SlowAfter   any           `mapstructure:"slow_after"` // a duration, 0s = off, or auto = 80 % of the timeout
	SlowRatio   float64       `mapstructure:"slow_ratio"` // slow share of Window
}

// Probe says how a level is asked whether it is back. Kind, URL, Service and Expect are level 0's.
type Probe struct {
	ProbeKind `mapstructure:",squash"`
	// Exporters overrides the keys for one exporter; what is not written there is taken from here.
	Exporters map[string]ProbeKind `mapstructure:"exporters"`
}

// ProbeKind holds the keys that may be overridden; nil and empty = not written.
type ProbeKind struct {
	Kind      string         `mapstructure:"kind"` // auto, empty, grpc_health, tcp, http, live
	URL       string         `mapstructure:"url"`
	Service   string         `mapstructure:"service"`
	Expect    []int          `mapstructure:"expect"`
	Timeout   *time.Duration `mapstructure:"timeout"`
	Successes *int           `mapstructure:"successes"` // confirmations, the canary included
	Every     *time.Duration `mapstructure:"every"`     // checks while healthy
	Trips     bool           `mapstructure:"trips"`
}

// Return bounds how often a level may come and go.
type Return struct {
	HoldDown    time.Duration `mapstructure:"hold_down"` // 0 = RetryInterval
	HoldDownMax time.Duration `mapstructure:"hold_down_max"`
	FlapWindow  time.Duration `mapstructure:"flap_window"`
	Ramp        time.Duration `mapstructure:"ramp"`       // to all traffic; 0 = at once
	RampStart   float64       `mapstructure:"ramp_start"` // share at first
	Mode        string        `mapstructure:"mode"`       // auto, manual: no live batch before a release
}

// Throttle says how long a level may ask for silence before the next one is used.
type Throttle struct {
	FailoverAfter time.Duration `mapstructure:"failover_after"`
	MaxWait       time.Duration `mapstructure:"max_wait"`
}

// AllDown says what happens when no ordinary level is alive.
type AllDown struct {
	Policy     string        `mapstructure:"policy"` // hold, refuse
	ProbeEvery time.Duration `mapstructure:"probe_every"`
}

// Emergency configures a last level of files.
type Emergency struct {
	Enabled   any     `mapstructure:"enabled"` // auto, true, false; see Mode
	When      string  `mapstructure:"when"`    // all_down, queue_high
	HighWater float64 `mapstructure:"high_water"`
	MaxBytes  int64   `mapstructure:"max_bytes"` // 0 = by rotation
}

// Backfill repays what the emergency level took.
type Backfill struct {
	Enabled bool          `mapstructure:"enabled"`
	After   time.Duration `mapstructure:"after"` // the active level was healthy for so long
}

// CatchUp completes the first level after an outage; later.
type CatchUp struct {
	Enabled  bool          `mapstructure:"enabled"`
	MaxBytes any           `mapstructure:"max_bytes"`
	MaxAge   time.Duration `mapstructure:"max_age"`
	After    time.Duration `mapstructure:"after"`
}

// DrainConfig paces the backlog of an outage, so that it does not cause the next one; see Window.
type DrainConfig struct {
	Start     int     `mapstructure:"start"`      // batches in flight after a return
	LiveShare float64 `mapstructure:"live_share"` // of what a level takes, for fresh data beside a backlog
	Order     string  `mapstructure:"order"`      // relaxed, strict: one batch at a time
}

// Rejected says what becomes of data that every level refused.
type Rejected struct {
	Action string `mapstructure:"action"` // dead_letter, drop
}

// Partition keeps tenants apart; later.
type Partition struct {
	MetadataKeys []string `mapstructure:"metadata_keys"`
	Max          int      `mapstructure:"max"`
}

const (
	defaultProbeTimeout   = 5 * time.Second
	defaultProbeSuccesses = 3
)

// Default returns the defaults.
func Default() any {
	return &Config{
		RetryInterval: 30 * time.Second,
		RetryGap:      10 * time.Second,
		MaxRetries:    10,
		OnFailure:     "auto",
		ShareHealth:   true,
		Lift:          true,
		Detector: Detector{
			Consecutive: 3, Startup: 1, Ratio: 0.5, Window: 30 * time.Second, MinAttempts: 10, SlowRatio: 0.8,
		},
		Return: Return{
			HoldDownMax: 15 * time.Minute, FlapWindow: 10 * time.Minute, Ramp: 30 * time.Second, RampStart: 0.1,
			Mode: "auto",
		},
		Throttle:  Throttle{FailoverAfter: 30 * time.Second, MaxWait: 5 * time.Minute},
		AllDown:   AllDown{Policy: "hold", ProbeEvery: 5 * time.Second},
		Emergency: Emergency{When: "all_down", HighWater: 0.9},
		Backfill:  Backfill{Enabled: true, After: time.Minute},
		CatchUp:   CatchUp{After: time.Minute, MaxAge: 24 * time.Hour},
		Drain:     DrainConfig{Start: 1, LiveShare: 0.5, Order: "relaxed"},
		Rejected:  Rejected{Action: "dead_letter"},
		Partition: Partition{Max: 1000},
	}
}

// EffectiveGap is the gap between two recovery probes of a route with so many ordinary levels: RetryGap, but never
// more than leaves each level a probe per RetryInterval.
func (c *Config) EffectiveGap(ordinary int) time.Duration {
	return min(c.RetryGap, c.RetryInterval/time.Duration(max(ordinary, 1)))
}

// RareInterval lies between probes once MaxRetries have failed.
func (c *Config) RareInterval() time.Duration {
	if c.MaxRetries == 0 {
		return c.RetryInterval
	}
	return min(10*c.RetryInterval, max(10*time.Minute, c.RetryInterval))
}

// Stays reports whether a failed batch stays at its level until patience ends, and whether it always moves at once.
// Neither means that it depends on what else the level delivers.
func (c *Config) Stays() (stay, move bool) {
	if c.OnFailure == "auto" {
		return c.FailoverDelay > 0, false
	}
	return c.OnFailure == "stay", c.OnFailure == "move"
}

// Texts are the texts of which a failure must contain one to count, in lower case; none = every failure counts.
func (c *ErrorCondition) Texts() ([]string, error) {
	var texts []string
	switch v := c.Contains.(type) {
	case nil:
	case string:
		texts = []string{v}
	case []any:
		for _, e := range v {
			s, ok := e.(string)
			if !ok {
				return nil, errors.New("`condition::error::contains` must be a text or a list of texts")
			}
			texts = append(texts, s)
		}
	default:
		return nil, errors.New("`condition::error::contains` must be a text or a list of texts")
	}
	for i, s := range texts {
		if s == "" {
			return nil, errors.New("`condition::error::contains` must not be empty: every failure contains that")
		}
		texts[i] = strings.ToLower(s)
	}
	return texts, nil
}

// slowAfter is what an attempt with that timeout may take before it is a slow one; 0 = any time.
func (d *Detector) slowAfter(timeout time.Duration) time.Duration {
	after, auto, _ := d.slow()
	if auto {
		return timeout * 4 / 5
	}
	return after
}

// slow reads slow_after.
func (d *Detector) slow() (after time.Duration, auto bool, err error) {
	switch v := d.SlowAfter.(type) {
	case nil:
		return 0, false, nil
	case time.Duration:
		after = v
	case int:
		if v != 0 {
			err = errors.New("a number without a unit")
		}
	case string:
		if v == "auto" {
			return 0, true, nil
		}
		after, err = time.ParseDuration(v)
	default:
		err = errors.New("neither a duration nor auto")
	}
	if err != nil || after < 0 {
		return 0, false, fmt.Errorf("`detector::slow_after` %v must be a duration, 0s (off), or auto", d.SlowAfter)
	}
	return after, false, nil
}

// Mode is auto, true or false.
func (c *Emergency) Mode() (string, error) {
	switch v := c.Enabled.(type) {
	case nil:
		return "auto", nil
	case bool:
		return fmt.Sprint(v), nil
	case string:
		if v == "auto" || v == "true" || v == "false" {
			return v, nil
		}
	}
	return "", fmt.Errorf("`emergency::enabled` %v is none of auto, true, false", c.Enabled)
}

// For returns the probe of one exporter with every key filled in; first says that it belongs to level 0.
func (c *Config) For(exporterID string, first bool) ProbeKind {
	p := ProbeKind{Kind: "auto", Timeout: c.Probe.Timeout, Successes: c.Probe.Successes, Every: c.Probe.Every,
		Trips: c.Probe.Trips}
	if first {
		p = c.Probe.ProbeKind
	}
	if o, ok := c.Probe.Exporters[exporterID]; ok {
		p = p.over(o)
	}
	if p.Kind == "" {
		p.Kind = "auto"
	}
	if len(p.Expect) == 0 {
		p.Expect = []int{200}
	}
	timeout, successes, every := defaultProbeTimeout, defaultProbeSuccesses, time.Duration(0)
	if p.Kind == "http" || p.Kind == "grpc_health" || p.Kind == "tcp" {
		every = c.RetryInterval
	}
	if p.Timeout == nil {
		p.Timeout = &timeout
	}
	if p.Successes == nil {
		p.Successes = &successes
	}
	if p.Every == nil {
		p.Every = &every
	}
	return p
}

func (p ProbeKind) over(o ProbeKind) ProbeKind {
	if o.Kind != "" {
		p.Kind, p.URL, p.Service, p.Expect = o.Kind, "", "", nil
	}
	if o.URL != "" {
		p.URL = o.URL
	}
	if o.Service != "" {
		p.Service = o.Service
	}
	if len(o.Expect) > 0 {
		p.Expect = o.Expect
	}
	if o.Timeout != nil {
		p.Timeout = o.Timeout
	}
	if o.Successes != nil {
		p.Successes = o.Successes
	}
	if o.Every != nil {
		p.Every = o.Every
	}
	p.Trips = p.Trips || o.Trips
	return p
}

func oneOf(key, word string, words ...string) error {
	if slices.Contains(words, word) {
		return nil
	}
	return fmt.Errorf("`%s` %q is none of %s", key, word, strings.Join(words, ", "))
}
