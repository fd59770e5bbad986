// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package nop_test

import (
	"context"
	"testing"

	"go.opentelemetry.io/collector/component/componenttest"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/nop"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

func TestEverySignalIsTakenAndGone(t *testing.T) {
	f := nop.Factory()
	cfg := f.Default()
	if err := cfg.(*nop.Config).Validate(); err != nil {
		t.Fatal(err)
	}
	if _, ok := cfg.(exporter.Deliverer); ok || f.Queue != exporter.QueueIfWritten {
		t.Error("nop asks for a queue")
	}
	e, err := f.New(exporter.Settings{ID: "nop", Telemetry: telemetry.Nop()}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(context.Background(), componenttest.NewNopHost()); err != nil {
		t.Fatal(err)
	}
	for _, s := range f.Signals {
		if v := e.Send(context.Background(), &exporter.Request{Signal: s}); v != exporter.Deliver() {
			t.Errorf("%s: verdict %+v", s, v)
		}
	}
	if len(f.Signals) != len(otlp.Signals) {
		t.Errorf("signals %v", f.Signals)
	}
	if err := e.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
}
