// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package shown_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/app/shown"
	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/extension"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/reload"
	"github.com/holdfast-telemetry/holdfast/internal/status"
)

func TestSourcesAreNamedWithoutWhatMayBeSecretInThem(t *testing.T) {
	got := shown.Sources(&config.Config{Sources: []config.Source{
		{URI: "/etc/holdfast.yaml"}, {URI: "yaml:exporters::otlp::headers::api-key: hidden"}, {URI: "https://me:hidden@host/c.yaml"},
	}})
	if !slices.Equal(got, []string{"/etc/holdfast.yaml", "yaml:…", "https://me:xxxxx@host/c.yaml"}) {
		t.Errorf("named %q", got)
	}
}

func TestADestinationsTroubleIsShownEscapedAndOnlyWhileItLasts(t *testing.T) {
	now := time.Now()
	failing := extension.Failing{Threshold: 2, Interval: time.Minute}
	d := pipeline.Shown{Label: "otlp", Queued: true, Fill: queue.Fill{Items: 3, Size: 1, Capacity: 10},
		Counts: queue.Counts{Accepted: 9, Delivered: 2, Queued: 3, Dropped: map[string]uint64{"overflow": 3, "operator": 1}}}
	d.Health.Failed, d.Health.LastFailure, d.Health.LastError = 5, now, "refused\x1b[2J"
	got := shown.Destination("traces", &d, failing, now)
	if !got.Fails || got.Failed != 5 || strings.ContainsRune(got.LastError, 0x1b) || !strings.Contains(got.LastError, "refused") {
		t.Errorf("while it fails: %+v", got)
	}
	if got.Books.Dropped != 4 || got.Queue == nil || got.Queue.Items != 3 || got.Queue.State != "ok" {
		t.Errorf("books and queue: %+v, %+v", got.Books, got.Queue)
	}
	if got = shown.Destination("traces", &d, failing, now.Add(time.Hour)); got.Fails || got.Failed != 0 || got.LastError != "" {
		t.Errorf("an hour later: %+v", got)
	}
}

func TestPipelinesThatShareARouteAreAddedUp(t *testing.T) {
	id := failover.RouteID{Connector: "failover", Signal: otlp.Traces}
	r := shown.NewRoute(&failover.RouteStatus{RouteID: id, Active: 1}, 2*time.Second)
	var counts shown.Counts
	for _, size := range []int64{10, 30} {
		d := pipeline.Shown{Label: "failover", Fill: queue.Fill{Items: size, Size: size, Capacity: 100, Oldest: time.Duration(size) * time.Second},
			Route: &pipeline.ShownRoute{ID: id, InHand: pipeline.Hand{Waiting: 4}, Delivered: []int64{7, 8}}}
		r.Add(&d)
		counts.Add("traces", &d)
	}
	if r.Queue.Items != 40 || r.Queue.Share != 0.2 || r.Queue.OldestSeconds != 30 || r.InHand.Waiting != 8 || r.OverdueSeconds != 2 {
		t.Errorf("%+v", r.Route)
	}
	if flows := counts.Levels(); len(flows) != 2 || len(counts.Destinations) != 2 { // the counters are the route's, not each pipeline's
		t.Errorf("%+v of %d destinations", flows, len(counts.Destinations))
	}
}

func TestAConfigurationThatDriftsIsDegradedAndSaysWhy(t *testing.T) {
	for _, c := range []struct {
		name string
		x    reload.Snapshot
		want string
	}{
		{"all is well", reload.Snapshot{}, ""},
		{"refused", reload.Snapshot{Drift: true, Attempts: []reload.Entry{{Text: "line 3: no such key\nand more"}}},
			"the configuration that runs is not the one that is offered: line 3: no such key"},
		{"offered", reload.Snapshot{Drift: true}, "the configuration that runs is not the one that is offered"},
		{"no way back", reload.Snapshot{Drift: true, Alarm: "nothing is delivered"}, "the configuration: nothing is delivered"},
		{"not kept", reload.Snapshot{Unsaved: true},
			"the state directory cannot be written: a restart would not know the good configuration"},
	} {
		var s status.Status
		shown.Config(&s, &c.x)
		if got := strings.Join(s.Degraded, "; "); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
