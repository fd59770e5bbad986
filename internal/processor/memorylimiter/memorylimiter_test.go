// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package memorylimiter_test

import (
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/collector/confmap"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/processor/memorylimiter"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const mib = 1 << 20

// memory is a heap that a test fills. A collection leaves what is live.
type memory struct {
	mu          sync.Mutex
	limit       int64
	used, live  int64
	collections []time.Time
}

func (m *memory) Limit() int64 { return m.limit }

func (m *memory) Used() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used
}

func (m *memory) Collect() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used = min(m.used, m.live)
	m.collections = append(m.collections, time.Now())
}

func (m *memory) set(usedMiB, liveMiB int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used, m.live = usedMiB*mib, liveMiB*mib
}

// gaps are the times between collections, in seconds.
func (m *memory) gaps() (out []float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := 1; i < len(m.collections); i++ {
		out = append(out, m.collections[i].Sub(m.collections[i-1]).Seconds())
	}
	return out
}

func (m *memory) collected() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.collections)
}

// config has a limit of 100 MiB, a soft limit of 80 MiB, a check every second.
func config() *memorylimiter.Config {
	c := memorylimiter.Default().(*memorylimiter.Config)
	c.MemoryLimitMiB = 100
	return c
}

// run runs a limiter in virtual time until f returns.
func run(t *testing.T, cfg *memorylimiter.Config, m *memory, f func(*memorylimiter.Limiter, *observer.ObservedLogs)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		tel := &telemetry.Telemetry{Logger: zap.New(core), Metrics: telemetry.NewRegistry()}
		l, err := memorylimiter.NewWithMemory(cfg, "memory_limiter", tel, m)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := l.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		f(l, logs)
		for range 2 {
			if err := l.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if l.Refusing() {
			t.Error("refuses after stop")
		}
	})
}

// after lets d of virtual time pass, and the loop see it.
func after(d time.Duration) {
	time.Sleep(d) // virtual: the bubble's clock jumps
	synctest.Wait()
}

func words(logs *observer.ObservedLogs) (out []string) {
	for _, e := range logs.TakeAll() {
		if e.Message != "Limits in force" {
			out = append(out, e.Level.String()+" "+e.Message)
		}
	}
	return out
}

func TestDataIsRefusedAboveTheSoftLimitAndTakenAgainBelow(t *testing.T) {
	m := &memory{limit: 1000 * mib}
	m.set(50, 50)
	run(t, config(), m, func(l *memorylimiter.Limiter, logs *observer.ObservedLogs) {
		after(3 * time.Second)
		if l.Refusing() || m.collected() != 0 {
			t.Errorf("below the limit: refusing %t, %d collections", l.Refusing(), m.collected())
		}
		m.set(81, 81)
		after(time.Second)
		if !l.Refusing() {
			t.Error("81 MiB of 80 are not refused")
		}
		after(10 * time.Second)
		m.set(80, 80)
		after(time.Second)
		if l.Refusing() {
			t.Error("80 MiB of 80 are refused")
		}
		got := words(logs)
		want := []string{"warn Memory usage is above soft limit. Refusing data.",
			"info Memory usage back within limits. Resuming normal operation."}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("logged %q, want one line per transition", got)
		}
	})
}

func TestGarbageAloneRefusesNothing(t *testing.T) {
	m := &memory{limit: 1000 * mib}
	m.set(99, 30)
	run(t, config(), m, func(l *memorylimiter.Limiter, logs *observer.ObservedLogs) {
		if l.Refusing() || m.collected() != 1 {
			t.Errorf("refusing %t after %d collections, want false after the first look's", l.Refusing(), m.collected())
		}
		if got := words(logs); got != nil {
			t.Errorf("logged %q", got)
		}
	})
}

func TestAFullHeapIsSeenBeforeStartReturns(t *testing.T) {
	m := &memory{limit: 1000 * mib}
	m.set(90, 90)
	run(t, config(), m, func(l *memorylimiter.Limiter, _ *observer.ObservedLogs) {
		if !l.Refusing() {
			t.Error("lets in before the first tick")
		}
	})
}

func TestCollectionsThatFreeNothingMoveApart(t *testing.T) {
	m := &memory{limit: 1000 * mib}
	m.set(150, 150) // above the hard limit, all of it in use: the queues of a dead backend
	run(t, config(), m, func(l *memorylimiter.Limiter, _ *observer.ObservedLogs) {
		after(3 * time.Minute)
		gaps := m.gaps()
		if len(gaps) < 5 {
			t.Fatalf("gaps are %v", gaps)
		}
		for i, want := range []float64{2, 4, 8, 16, 30, 30} {
			if i < len(gaps) && gaps[i] != want {
				t.Errorf("gap %d is %v s, want %v (%v)", i, gaps[i], want, gaps)
			}
		}
		if !l.Refusing() {
			t.Error("takes data above the hard limit")
		}
		// Once they free something, every check may collect again.
		m.set(150, 120)
		after(30 * time.Second)
		m.mu.Lock()
		m.collections, m.live = m.collections[len(m.collections)-1:], 0
		m.mu.Unlock()
		for range 3 {
			m.set(150, 120)
			after(time.Second)
		}
		for _, gap := range m.gaps() {
			if gap != 1 {
				t.Errorf("gaps are %v, want a second each", m.gaps())
				break
			}
		}
		if len(m.gaps()) < 2 {
			t.Errorf("gaps are %v", m.gaps())
		}
	})
}

func TestBetweenTheLimitsCollectionsKeepTheSoftMinimumApart(t *testing.T) {
	m := &memory{limit: 1000 * mib}
	m.set(90, 85) // helps a little over 5 percent each time, and is not enough
	run(t, config(), m, func(l *memorylimiter.Limiter, _ *observer.ObservedLogs) {
		for range 45 {
			m.set(90, 85)
			after(time.Second)
			if !l.Refusing() {
				t.Fatal("takes data above the soft limit")
			}
		}
		for _, gap := range m.gaps() {
			if gap != 10 {
				t.Errorf("gaps are %v, want 10 s each", m.gaps())
				break
			}
		}
		if n := m.collected(); n != 5 {
			t.Errorf("%d collections in 45 s, want 5", n)
		}
	})
}

func TestAMaximumOfZeroKeepsCollectionsAtTheMinimum(t *testing.T) {
	cfg := config()
	cfg.MaxGCIntervalWhenHardLimited = 0
	m := &memory{limit: 1000 * mib}
	m.set(150, 150)
	run(t, cfg, m, func(*memorylimiter.Limiter, *observer.ObservedLogs) {
		after(20 * time.Second)
		if n := m.collected(); n != 21 {
			t.Errorf("%d collections in 20 s and at start, want 21", n)
		}
	})
}

func TestLimitsFollowFromMiBPercentOrTheMemoryThereIs(t *testing.T) {
	check := func(name string, totalMiB, soft, hard int64, change func(*memorylimiter.Config)) {
		t.Helper()
		cfg := memorylimiter.Default().(*memorylimiter.Config)
		change(cfg)
		if err := cfg.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		total := totalMiB * mib
		if totalMiB == 0 {
			total = math.MaxInt64
		}
		l, err := memorylimiter.NewWithMemory(cfg, "memory_limiter", telemetry.Nop(), &memory{limit: total})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		near := func(got, want int64) bool { return got > want-100*100 && got <= want }
		if got := l.Limits(); !near(got.Soft, soft) || !near(got.Hard, hard) {
			t.Errorf("%s: soft %d, hard %d, want %d, %d", name, got.Soft, got.Hard, soft, hard)
		}
	}
	check("neither", 1000, 640*mib, 800*mib, func(*memorylimiter.Config) {})
	check("neither, nothing known", 0, math.MaxInt64, math.MaxInt64, func(*memorylimiter.Config) {})
	check("A-02: 1536 MiB, spike 384", 4096, 1152*mib, 1536*mib, func(c *memorylimiter.Config) {
		c.MemoryLimitMiB, c.MemorySpikeLimitMiB = 1536, 384
	})
	check("MiB without spike", 0, 80*mib, 100*mib, func(c *memorylimiter.Config) { c.MemoryLimitMiB = 100 })
	check("percent", 1000, 500*mib, 750*mib, func(c *memorylimiter.Config) {
		c.MemoryLimitPercentage, c.MemorySpikePercentage = 75, 25
	})
	check("percent without spike", 1000, 400*mib, 500*mib, func(c *memorylimiter.Config) { c.MemoryLimitPercentage = 50 })
	check("MiB go before percent", 1000, 80*mib, 100*mib, func(c *memorylimiter.Config) {
		c.MemoryLimitMiB, c.MemoryLimitPercentage = 100, 50
	})
	check("MiB with a spike in percent", 1000, 250*mib, 300*mib, func(c *memorylimiter.Config) {
		c.MemoryLimitMiB, c.MemorySpikePercentage = 300, 5
	})
}

func TestLimitsThatCannotHoldAreErrors(t *testing.T) {
	refuse := func(totalMiB int64, want string, change func(*memorylimiter.Config)) {
		t.Helper()
		cfg := memorylimiter.Default().(*memorylimiter.Config)
		change(cfg)
		total := totalMiB * mib
		if totalMiB == 0 {
			total = math.MaxInt64
		}
		_, err := memorylimiter.NewWithMemory(cfg, "memory_limiter", telemetry.Nop(), &memory{limit: total})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
		}
	}
	refuse(0, "`limit_percentage`", func(c *memorylimiter.Config) { c.MemoryLimitPercentage = 50 })
	refuse(100, "`spike_limit`", func(c *memorylimiter.Config) { c.MemorySpikeLimitMiB = 90 })

	invalid := func(want string, change func(*memorylimiter.Config)) {
		t.Helper()
		cfg := memorylimiter.Default().(*memorylimiter.Config)
		change(cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
		}
	}
	invalid("`check_interval`", func(c *memorylimiter.Config) { c.CheckInterval = 0 })
	invalid("`spike_limit_mib`", func(c *memorylimiter.Config) { c.MemoryLimitMiB, c.MemorySpikeLimitMiB = 10, 10 })
	invalid("above 100", func(c *memorylimiter.Config) { c.MemoryLimitPercentage = 101 })
	invalid("`spike_limit_percentage`", func(c *memorylimiter.Config) {
		c.MemoryLimitPercentage, c.MemorySpikePercentage = 20, 20
	})
	invalid("negative", func(c *memorylimiter.Config) { c.MinGCIntervalWhenHardLimited = -1 })
	invalid("`min_gc_interval_when_soft_limited`", func(c *memorylimiter.Config) {
		c.MinGCIntervalWhenHardLimited = time.Minute
	})
	invalid("`max_gc_interval_when_soft_limited`", func(c *memorylimiter.Config) {
		c.MaxGCIntervalWhenSoftLimited = time.Second
	})
}

func TestItemsAreCountedPerSignalFromZero(t *testing.T) {
	tel := telemetry.Nop()
	l, err := memorylimiter.NewWithMemory(config(), "memory_limiter/x", tel, &memory{limit: mib})
	if err != nil {
		t.Fatal(err)
	}
	if got := len(tel.Metrics.Snapshot()); got != 8 {
		t.Errorf("%d series before the first item, want 8", got)
	}
	l.Accepted(otlp.Traces, 5)
	l.Accepted(otlp.Logs, 7)
	l.Refused(otlp.Metrics, 1)
	l.Refused(otlp.Signal(99), 1)
	got := map[string]int64{}
	for _, s := range tel.Metrics.Snapshot() {
		if strings.Join(s.Labels, "=") != "processor=memory_limiter/x" {
			t.Errorf("labels of %s are %v", s.Name, s.Labels)
		}
		if s.Value != 0 {
			got[s.Name] = int64(s.Value)
		}
	}
	const prefix = "otelcol_processor_memory_limiter_"
	if len(got) != 3 || got[prefix+"accepted_spans"] != 5 || got[prefix+"accepted_log_records"] != 7 ||
		got[prefix+"refused_metric_points"] != 1 {
		t.Errorf("counted %v", got)
	}
}

func TestTheRealHeapIsRead(t *testing.T) {
	cfg := memorylimiter.Default().(*memorylimiter.Config)
	cfg.MemoryLimitMiB = 1
	l, err := memorylimiter.New(cfg, "memory_limiter", telemetry.Nop())
	if err != nil {
		t.Fatal(err)
	}
	held := make([]byte, 8*mib)
	if err := l.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !l.Refusing() {
		t.Error("8 MiB held, 1 MiB allowed, and not refusing")
	}
	if held[0] != 0 {
		t.Error("not zero")
	}
	if err := l.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestConfigurationIsReadByTheCollectorsKeys(t *testing.T) {
	cfg := memorylimiter.Default()
	err := confmap.NewFromStringMap(map[string]any{
		"check_interval": "2s", "limit_mib": 1536, "spike_limit_mib": 384, "limit_percentage": 80,
		"spike_limit_percentage": 20, "min_gc_interval_when_soft_limited": "11s",
		"min_gc_interval_when_hard_limited": "1s", "max_gc_interval_when_soft_limited": "40s",
		"max_gc_interval_when_hard_limited": "39s",
	}).Unmarshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	want := memorylimiter.Config{
		CheckInterval: 2 * time.Second, MemoryLimitMiB: 1536, MemorySpikeLimitMiB: 384, MemoryLimitPercentage: 80,
		MemorySpikePercentage: 20, MinGCIntervalWhenSoftLimited: 11 * time.Second,
		MinGCIntervalWhenHardLimited: time.Second, MaxGCIntervalWhenSoftLimited: 40 * time.Second,
		MaxGCIntervalWhenHardLimited: 39 * time.Second,
	}
	if got := *cfg.(*memorylimiter.Config); got != want {
		t.Errorf("got %+v", got)
	}
}
