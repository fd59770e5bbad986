// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/collector/component"

	"github.com/holdfast-telemetry/holdfast/internal/admission"
	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/queue/memory"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// quick is an exporter that takes everything; wire is how long its answers take, as a network's would.
type quick struct{ wire time.Duration }

func (q *quick) Start(context.Context, component.Host) error { return nil }
func (q *quick) Stop(context.Context) error                  { return nil }
func (q *quick) Send(context.Context, *exporter.Request) exporter.Verdict {
	if q.wire > 0 {
		<-time.After(q.wire)
	}
	return exporter.Deliver()
}

// spent is the processor time of the process: what other processes do meanwhile is not in it.
func spent() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkDeliveredBatch is one record through a healthy plain destination per iteration, as a batch of its own: from
// the queue over the router to an exporter and back. outstanding records are on the way at once.
func BenchmarkDeliveredBatch(b *testing.B) {
	for _, c := range []struct {
		outstanding int
		wire        time.Duration
	}{{1, 0}, {8, 0}, {256, 0}, {256, 100 * time.Microsecond}} {
		b.Run(fmt.Sprintf("outstanding=%d/wire=%s", c.outstanding, c.wire), func(b *testing.B) {
			b.ReportAllocs()
			d := dest("otlp")
			d.Workers, d.Levels[0].Workers, d.Levels[0].Timeout = 10, 10, 5*time.Second
			d.Want, d.Limit.Max = queue.Want{Sizer: queue.Items, Max: 1}, 1<<20
			q := memory.New(memory.Settings{})
			if err := q.Prepare(d.Destination); err != nil {
				b.Fatal(err)
			}
			pl := plan.Pipeline{ID: "traces", Signal: otlp.Traces, Destinations: []plan.Destination{d}}
			set := pipeline.Settings{
				Plan: pl, Telemetry: telemetry.Nop(), Gate: admission.New(0), Queue: q,
				Exporters: map[string]exporter.Exporter{"otlp": &quick{c.wire}}, Jitter: func() float64 { return 0.5 },
			}
			stop := under(&set)
			p, err := pipeline.New(set)
			if err != nil {
				b.Fatal(err)
			}
			p.Start()
			room := make(chan struct{}, c.outstanding)
			var left atomic.Int64
			left.Store(int64(b.N))
			done := make(chan struct{})
			free := func() {
				<-room
				if left.Add(-1) == 0 {
					close(done)
				}
			}
			body := []byte("request")
			began := spent()
			b.ResetTimer()
			for range b.N {
				room <- struct{}{}
				if err := q.Append(context.Background(), queue.Record{Tag: uint8(otlp.Traces), Items: 1, Size: 7, Body: body, Free: free}); err != nil {
					b.Fatal(err)
				}
			}
			<-done
			b.StopTimer()
			b.ReportMetric(float64(spent()-began)/float64(b.N), "cpu-ns/op")
			p.Stop(context.Background())
			stop()
		})
	}
}
