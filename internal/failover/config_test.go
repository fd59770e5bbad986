// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package failover_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/failover"
)

func config(change func(*failover.Config)) *failover.Config {
	c := failover.Default().(*failover.Config)
	c.PriorityLevels = [][]string{{"otlp/a"}, {"otlp/b"}}
	if change != nil {
		change(c)
	}
	return c
}

func TestDefaultsAreValidOnceThereAreLevels(t *testing.T) {
	if err := config(nil).Validate(); err != nil {
		t.Error(err)
	}
	if err := failover.Default().(*failover.Config).Validate(); err == nil || !strings.Contains(err.Error(), "priority_levels") {
		t.Errorf("without levels: %v", err)
	}
}

// The figures of both seeds (failover, section 4.2).
func TestTimersOfTheSeeds(t *testing.T) {
	a := config(func(c *failover.Config) {
		c.RetryInterval, c.RetryGap, c.MaxRetries = 15*time.Second, 30*time.Second, 5
	})
	if gap := a.EffectiveGap(2); gap != 7500*time.Millisecond {
		t.Errorf("A: gap %s", gap)
	}
	if rare := a.RareInterval(); rare != 150*time.Second {
		t.Errorf("A: after five failures every %s", rare)
	}
	b := config(func(c *failover.Config) { c.MaxRetries = 0 })
	if gap := b.EffectiveGap(2); gap != 10*time.Second {
		t.Errorf("B: gap %s", gap)
	}
	if rare := b.RareInterval(); rare != 30*time.Second {
		t.Errorf("B: 0 retries means every %s", rare)
	}
	slow := config(func(c *failover.Config) { c.RetryInterval = 20 * time.Minute })
	if rare := slow.RareInterval(); rare != 20*time.Minute {
		t.Errorf("never more often than retry_interval, never rarer than it or ten minutes: %s", rare)
	}
}

func TestADelayBeforeFailoverMakesBatchesStay(t *testing.T) {
	for _, c := range []struct {
		onFailure  string
		delay      time.Duration
		stay, move bool
	}{
		{"auto", 0, false, false}, {"auto", time.Second, true, false}, {"stay", 0, true, false},
		{"move", time.Second, false, true},
	} {
		stay, move := config(func(f *failover.Config) { f.OnFailure, f.FailoverDelay = c.onFailure, c.delay }).Stays()
		if stay != c.stay || move != c.move {
			t.Errorf("%+v: stay %v, move %v", c, stay, move)
		}
	}
}

func TestProbesOfLevelZeroAreItsOwn(t *testing.T) {
	five, six := 5*time.Second, 6
	c := config(func(c *failover.Config) {
		c.Probe.Kind, c.Probe.URL, c.Probe.Successes, c.Probe.Trips = "http", "https://a.test/health", &six, true
		c.Probe.Exporters = map[string]failover.ProbeKind{"otlp/b": {Kind: "tcp", Timeout: &five}}
	})
	first := c.For("otlp/a", true)
	if first.Kind != "http" || first.URL == "" || *first.Every != 30*time.Second || *first.Timeout != 5*time.Second ||
		!slices.Equal(first.Expect, []int{200}) || *first.Successes != 6 {
		t.Errorf("level 0: %+v", first)
	}
	other := c.For("otlp/c", false)
	if other.Kind != "auto" || other.URL != "" || *other.Every != 0 || *other.Successes != 6 || !other.Trips {
		t.Errorf("level 1: %+v", other)
	}
	if own := c.For("otlp/b", false); own.Kind != "tcp" || *own.Every != 30*time.Second || own.URL != "" {
		t.Errorf("an override: %+v", own)
	}
	if over := c.For("otlp/b", true); over.Kind != "tcp" || over.URL != "" {
		t.Errorf("an override of level 0 keeps what belongs to another kind: %+v", over)
	}
}

func TestConditionsAreTextsInAnyCase(t *testing.T) {
	for _, c := range []struct {
		contains any
		want     []string
	}{{nil, nil}, {"Refused, really", []string{"refused, really"}}, {[]any{"A", "b"}, []string{"a", "b"}}} {
		got, err := (&failover.ErrorCondition{Contains: c.contains}).Texts()
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, %v", c.contains, got, err)
		}
	}
	for _, bad := range []any{5, "", []any{1}, []any{""}, map[string]any{}} {
		if _, err := (&failover.ErrorCondition{Contains: bad}).Texts(); err == nil {
			t.Errorf("%v is taken for texts", bad)
		}
	}
}

func TestWrongValuesAreRefusedByName(t *testing.T) {
	refused := func(want string, change func(*failover.Config)) {
		t.Helper()
		if err := config(change).Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to name %s", err, want)
		}
	}
	refused("`retry_gap`", func(c *failover.Config) { c.RetryGap = -1 })
	refused("`failover_delay`", func(c *failover.Config) { c.FailoverDelay = 2 * time.Hour })
	refused("`detector::ratio`", func(c *failover.Config) { c.Detector.Ratio = 2 })
	refused("`detector::slow_after`", func(c *failover.Config) { c.Detector.SlowAfter = "slowly" })
	refused("`probe::kind`", func(c *failover.Config) { c.Probe.Kind = "ping" })
	refused("`probe::url`", func(c *failover.Config) { c.Probe.URL = "https://a.test" })
	refused("is not an http or https URL", func(c *failover.Config) { c.Probe.Kind, c.Probe.URL = "http", "a.test" })
	refused("`return::hold_down_max`", func(c *failover.Config) { c.Return.HoldDown = time.Hour })
	refused("`all_down::policy`", func(c *failover.Config) { c.AllDown.Policy = "drop" })
	refused("`emergency::high_water`", func(c *failover.Config) { c.Emergency.HighWater = 0 })
	refused("`catch_up::enabled` is not available", func(c *failover.Config) { c.CatchUp.Enabled = true })
	refused("`drain::order`", func(c *failover.Config) { c.Drain.Order = "loose" })
	refused("`drain::start`", func(c *failover.Config) { c.Drain.Start = 0 })
	refused("`drain::live_share`", func(c *failover.Config) { c.Drain.LiveShare = 1.5 })
	refused("`return::ramp`", func(c *failover.Config) { c.Return.Ramp = 2 * time.Hour })
	refused("`return::ramp_start`", func(c *failover.Config) { c.Return.RampStart = -0.1 })
	refused("`return::mode`", func(c *failover.Config) { c.Return.Mode = "never" })
	refused("`detector::slow_ratio`", func(c *failover.Config) { c.Detector.SlowRatio = 0 })
	refused("`partition::metadata_keys` is not available", func(c *failover.Config) { c.Partition.MetadataKeys = []string{"t"} })
	refused("`rejected::action`", func(c *failover.Config) { c.Rejected.Action = "ignore" })
	if err := config(func(c *failover.Config) { c.Detector.SlowAfter, c.Emergency.Enabled = "0s", "auto" }).Validate(); err != nil {
		t.Errorf("values of this version: %v", err)
	}
}
