// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package memorylimiter

import (
	"runtime"
	"runtime/metrics"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// A collection that frees less than this share, in percent, is not worth its time: what fills the heap is in use
// (queues of a dead backend), and collecting again at once would only take the CPU that delivering needs.
const worthwhile = 5

// check looks once. Above the soft limit garbage is collected if its time has come, since what is counted may be
// dead already, and what is left decides.
func (l *Limiter) check(now time.Time) {
	used := l.memory.Used()
	if used > l.limits.Soft {
		used = l.collect(now, used)
	}
	short := used > l.limits.Soft
	if !short {
		l.softPace.reset()
		l.hardPace.reset()
	}
	if l.refusing.Swap(short) == short {
		return
	}
	if short {
		l.log.Warn("Memory usage is above soft limit. Refusing data.", l.fields(used)...)
		return
	}
	l.log.Info("Memory usage back within limits. Resuming normal operation.", l.fields(used)...)
}

// collect frees what it can if the pace allows it, and returns what is used then.
func (l *Limiter) collect(now time.Time, used int64) int64 {
	p := &l.softPace
	if used > l.limits.Hard {
		p = &l.hardPace
	}
	if !l.lastCollection.IsZero() && now.Sub(l.lastCollection) < p.interval {
		return used
	}
	l.memory.Collect()
	after := l.memory.Used()
	l.lastCollection = now
	p.collected(used, after)
	l.log.Debug("Memory usage after a forced collection",
		append(l.fields(after), zap.Int64("before_mib", used/bytesPerMiB), zap.Duration("next_after", p.interval))...)
	return after
}

func (l *Limiter) fields(used int64) []zap.Field {
	return []zap.Field{
		zap.Int64("cur_mem_mib", used/bytesPerMiB),
		zap.Int64("soft_limit_mib", l.limits.Soft/bytesPerMiB),
		zap.Int64("limit_mib", l.limits.Hard/bytesPerMiB),
	}
}

// pace says how far apart forced collections are: the minimum while they help, twice as far after each that does
// not, up to the maximum.
type pace struct {
	minInterval, maxInterval time.Duration // maxInterval 0 = never further apart than the minimum
	first                    time.Duration // what is doubled first; almost a check, so that a tick a little early still counts
	interval                 time.Duration // now
}

func newPace(minInterval, maxInterval, checkInterval time.Duration) pace {
	return pace{
		minInterval: minInterval, maxInterval: maxInterval,
		first: max(minInterval, checkInterval/20*19), interval: minInterval,
	}
}

func (p *pace) reset() { p.interval = p.minInterval }

func (p *pace) collected(before, after int64) {
	if p.maxInterval == 0 || before-after >= before/100*worthwhile {
		p.reset()
		return
	}
	p.interval = max(min(max(p.interval, p.first)*2, p.maxInterval), p.minInterval)
}

// heap is this process's memory.
type heap struct{}

func (heap) Limit() int64 { return telemetry.MemoryLimit() }

func (heap) Used() int64 {
	sample := [1]metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample[:])
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return int64(sample[0].Value.Uint64())
}

func (heap) Collect() { runtime.GC() }
