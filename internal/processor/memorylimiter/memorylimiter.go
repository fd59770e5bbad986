// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package memorylimiter says when memory is short, so that the doors refuse before a body is read.
//
// It is a second threshold on the admission gate (faults, part C), wherever the processor stands in a pipeline. It
// holds no data and touches none: one loop looks at the heap, asks the runtime to collect while that helps, and
// keeps one flag that every request reads. One limiter may serve several pipelines. It knows no pipeline and no door.
package memorylimiter

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// Shares of what is not configured, in percent.
const (
	defaultLimitShare = 80 // of the memory there is
	defaultSpikeShare = 20 // of the limit
)

const bytesPerMiB = 1 << 20

// Memory is the runtime's heap.
type Memory interface {
	// Limit is the memory this process may use, in bytes; math.MaxInt64 = unknown.
	Limit() int64
	// Used is the size of allocated heap objects in bytes, garbage that was not swept yet included.
	Used() int64
	// Collect runs a garbage collection and returns when it is over.
	Collect()
}

// Limiter watches memory. Refusing, Accepted and Refused may be called from any goroutine, before Start and after
// Stop too.
type Limiter struct {
	memory   Memory
	log      *zap.Logger
	interval time.Duration
	limits   Limits
	refusing atomic.Bool

	softPace, hardPace pace      // the loop's
	lastCollection     time.Time // the loop's

	accepted, refused [otlp.Profiles + 1]*telemetry.Counter // by signal

	mu struct {
		sync.Mutex
		cancel context.CancelFunc
		done   chan struct{}
	}
}

// Limits are the two thresholds, in bytes: above Soft data is refused, above Hard the runtime is pressed harder.
type Limits struct{ Soft, Hard int64 }

// New returns a limiter that does not look yet. id is the processor's as written, the label of its metrics. An error
// names the key.
func New(cfg *Config, id string, tel *telemetry.Telemetry) (*Limiter, error) {
	return NewWithMemory(cfg, id, tel, heap{})
}

// NewWithMemory is New for another Memory than this process's.
func NewWithMemory(cfg *Config, id string, tel *telemetry.Telemetry, memory Memory) (*Limiter, error) {
	limits, err := cfg.limits(memory.Limit())
	if err != nil {
		return nil, err
	}
	l := &Limiter{
		memory: memory, log: telemetry.Always(tel.Logger), interval: cfg.CheckInterval, limits: limits,
		softPace: newPace(cfg.MinGCIntervalWhenSoftLimited, cfg.MaxGCIntervalWhenSoftLimited, cfg.CheckInterval),
		hardPace: newPace(cfg.MinGCIntervalWhenHardLimited, cfg.MaxGCIntervalWhenHardLimited, cfg.CheckInterval),
	}
	for _, s := range otlp.Signals {
		l.accepted[s] = tel.Metrics.Counter("otelcol_processor_memory_limiter_accepted_"+s.ItemName(),
			"Items accepted while memory was within its limit.", "processor", id)
		l.refused[s] = tel.Metrics.Counter("otelcol_processor_memory_limiter_refused_"+s.ItemName(),
			"Items refused for memory; 1 per request refused unread.", "processor", id)
	}
	return l, nil
}

// limits works out the thresholds where total bytes of memory may be used.
func (c *Config) limits(total int64) (Limits, error) {
	share := func(percent uint32) int64 { return total / 100 * int64(percent) }
	known := total != math.MaxInt64
	if !known && c.MemoryLimitMiB == 0 && c.MemoryLimitPercentage == 0 {
		return Limits{Soft: math.MaxInt64, Hard: math.MaxInt64}, nil // nothing to go by: refuse nothing
	}
	hard := share(defaultLimitShare)
	switch {
	case c.MemoryLimitMiB > 0:
		hard = int64(c.MemoryLimitMiB) * bytesPerMiB
	case c.MemoryLimitPercentage > 0 && !known:
		return Limits{}, fmt.Errorf("`limit_percentage`: the memory of this machine is not known; use `limit_mib`")
	case c.MemoryLimitPercentage > 0:
		hard = share(c.MemoryLimitPercentage)
	}
	spike := hard / 100 * defaultSpikeShare
	switch {
	case c.MemorySpikeLimitMiB > 0:
		spike = int64(c.MemorySpikeLimitMiB) * bytesPerMiB
	case c.MemorySpikePercentage > 0 && known:
		spike = share(c.MemorySpikePercentage)
	}
	if spike >= hard {
		return Limits{}, fmt.Errorf("`spike_limit`: %d MiB leave nothing of a limit of %d MiB",
			spike/bytesPerMiB, hard/bytesPerMiB)
	}
	return Limits{Soft: hard - spike, Hard: hard}, nil
}

// Limits are what the configuration came to.
func (l *Limiter) Limits() Limits { return l.limits }

// Refusing reports whether new data is to be refused now.
func (l *Limiter) Refusing() bool { return l.refusing.Load() }

// Accepted counts items that were accepted.
func (l *Limiter) Accepted(s otlp.Signal, items int64) { count(&l.accepted, s, items) }

// Refused counts items that were refused, or requests where nobody knows their items.
func (l *Limiter) Refused(s otlp.Signal, n int64) { count(&l.refused, s, n) }

func count(by *[otlp.Profiles + 1]*telemetry.Counter, s otlp.Signal, n int64) {
	if int(s) < len(by) && by[s] != nil {
		by[s].Add(n)
	}
}

// Start looks once, so that nothing is let in on a heap that is full already, and then every check_interval.
// Starting twice is one start.
func (l *Limiter) Start(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.cancel != nil {
		return nil
	}
	l.log.Info("Limits in force", zap.Int64("memory_limit_mib", l.limits.Hard/bytesPerMiB),
		zap.Int64("memory_soft_limit_mib", l.limits.Soft/bytesPerMiB), zap.Duration("check_interval", l.interval))
	l.check(time.Now())
	// The loop outlives the start; Stop ends it.
	ctx, l.mu.cancel = context.WithCancel(context.WithoutCancel(ctx))
	l.mu.done = make(chan struct{})
	go l.run(ctx, l.mu.done)
	return nil
}

func (l *Limiter) run(ctx context.Context, done chan<- struct{}) {
	defer close(done)
	ticker := time.NewTicker(l.interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			l.check(now)
		}
	}
}

// Stop ends the loop and waits for it; a collection that runs is not cut short. Nothing is refused afterwards.
func (l *Limiter) Stop(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.cancel == nil {
		return nil
	}
	l.mu.cancel()
	<-l.mu.done
	l.mu.cancel = nil
	l.refusing.Store(false)
	return nil
}

var _ Memory = heap{}
