// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/admission"
	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

func direct(t *testing.T, backends map[string]*backend) *pipeline.Pipeline {
	t.Helper()
	var dests []plan.Destination
	exporters := map[string]exporter.Exporter{}
	for id, b := range backends {
		d := dest(id)
		d.Wait = true
		dests = append(dests, d)
		exporters[id] = b
	}
	set := pipeline.Settings{
		Plan:      plan.Pipeline{ID: "traces", Signal: otlp.Traces, Destinations: dests},
		Telemetry: telemetry.Nop(), Gate: admission.New(0), Exporters: exporters,
		Jitter: func() float64 { return 0.5 },
	}
	stop := under(&set)
	p, err := pipeline.New(set)
	if err != nil {
		t.Fatal(err)
	}
	p.Start()
	t.Cleanup(func() {
		p.Stop(context.Background())
		stop()
	})
	return p
}

func TestAnswerWaitsForDestinationsWithoutAQueue(t *testing.T) {
	verdicts := map[string]struct {
		verdict exporter.Verdict
		code    receiver.Code
	}{
		"rejected data is refused for good": {exporter.Verdict{Kind: exporter.Rejected, Err: errors.New("bad")}, receiver.Denied},
		"an outage is retryable":            {retryVerdict(), receiver.Unavailable},
		"wrong credentials are retryable":   {exporter.Verdict{Kind: exporter.Misconfigured}, receiver.Unavailable},
		"a delay is passed on":              {exporter.Verdict{Kind: exporter.RetryAfter, After: time.Minute}, receiver.Unavailable},
	}
	for name, c := range verdicts {
		t.Run(name, func(t *testing.T) {
			b := &backend{answer: func(int, *exporter.Request) exporter.Verdict { return c.verdict }}
			p := direct(t, map[string]*backend{"otlp": b})
			payload := &otlp.Payload{Signal: otlp.Traces, Items: 1, Size: 1, Body: []byte("x")}
			_, err := p.Entry().Accept(context.Background(), payload)
			var refusal *receiver.Refusal
			if !errors.As(err, &refusal) || refusal.Code != c.code {
				t.Fatalf("got %v, want code %d", err, c.code)
			}
			if refusal.After < c.verdict.After {
				t.Errorf("hint %s is shorter than the backend's %s", refusal.After, c.verdict.After)
			}
		})
	}
	t.Run("a partial success is passed on", func(t *testing.T) {
		b := &backend{answer: func(int, *exporter.Request) exporter.Verdict {
			return exporter.Verdict{Kind: exporter.Delivered, Rejected: 2, Message: "two are too old"}
		}}
		freed := atomic.Int64{}
		p := direct(t, map[string]*backend{"otlp": b, "debug": {}})
		res, err := p.Entry().Accept(context.Background(), &otlp.Payload{
			Signal: otlp.Traces, Items: 5, Size: 1, Body: []byte("x"), Free: func() { freed.Add(1) }})
		if err != nil || res.Rejected != 2 || res.Message != "two are too old" {
			t.Errorf("got %+v, %v", res, err)
		}
		if freed.Load() != 1 {
			t.Errorf("payload freed %d times", freed.Load())
		}
	})
}
