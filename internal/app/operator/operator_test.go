// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/admin"
	"github.com/holdfast-telemetry/holdfast/internal/app/operator"
	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline/switchroom"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// ask calls one of some routes.
func ask(t *testing.T, routes []admin.Route, path, body string) (any, error) {
	t.Helper()
	for _, r := range routes {
		if r.Path == path {
			return r.Handle(t.Context(), &admin.Request{Body: []byte(body)})
		}
	}
	t.Fatalf("nothing answers %s", path)
	return nil, nil
}

// room is that of one connector with two levels, for traces and logs.
func room(t *testing.T) *switchroom.Room {
	t.Helper()
	plan := &failover.SwitchPlan{}
	for _, s := range []otlp.Signal{otlp.Traces, otlp.Logs} {
		var levels []failover.PlannedLevel
		for _, id := range []string{"otlp/a", "otlp/b"} {
			levels = append(levels, failover.PlannedLevel{Timeout: time.Second, Retry: exporter.DefaultRetry(),
				Members: []failover.PlannedMember{{Exporter: id, OwnProbe: "empty"}}})
		}
		id := failover.RouteID{Connector: "failover/main", Signal: s}
		plan.Routes = append(plan.Routes, failover.Default().(*failover.Config).Plan(id, levels))
	}
	r := switchroom.New(switchroom.Settings{Plan: plan, Telemetry: telemetry.Nop(),
		Probe: func(context.Context, *failover.ProbeOrder) exporter.Verdict {
			return exporter.Verdict{Kind: exporter.Delivered}
		}})
	r.Start()
	t.Cleanup(func() {
		if err := r.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return r
}

func TestAWishThatNobodyCanGrantIsRefusedWithItsReason(t *testing.T) {
	there := room(t)
	with := operator.Levels{Room: func() *switchroom.Room { return there }}
	without := operator.Levels{Room: func() *switchroom.Room { return nil }}
	configs := operator.Configs{}
	for _, c := range []struct {
		name, path, body string
		routes           []admin.Route
		code             int
		text             string
	}{
		{"no levels", "/failover/hold", `{"connector":"failover/main","level":0}`, without.Routes(), http.StatusNotFound, "no levels"},
		{"another connector", "/failover/hold", `{"connector":"failover/mian","level":0}`, with.Routes(), http.StatusNotFound,
			`did you mean "failover/main"?`},
		{"a signal it has not", "/failover/probe", `{"connector":"failover/main","signal":"metrics","level":0}`, with.Routes(),
			http.StatusNotFound, "has no metrics"},
		{"no signal", "/failover/release", `{"connector":"failover/main","signal":"smoke","level":0}`, with.Routes(),
			http.StatusBadRequest, `"smoke" is none of`},
		{"an unknown key", "/failover/release", `{"conector":"failover/main"}`, with.Routes(), http.StatusBadRequest, "conector"},
		{"no driver", "/reload", `{"wait":true}`, configs.Routes(), http.StatusConflict, "does not reload"},
		{"no driver to go back", "/config/rollback", `{"to":3}`, configs.Routes(), http.StatusConflict, "does not reload"},
		{"no driver to confirm", "/config/confirm", `{}`, configs.Routes(), http.StatusConflict, "does not reload"},
	} {
		_, err := ask(t, c.routes, c.path, c.body)
		var refused *admin.Error
		if !errors.As(err, &refused) || refused.Code != c.code || !strings.Contains(refused.Text, c.text) {
			t.Errorf("%s: %v, want %d and %q", c.name, err, c.code, c.text)
		}
	}
}

func TestAHoldIsForEverySignalOfItsConnectorAndItsRefusalIsPassedOn(t *testing.T) {
	there := room(t)
	levels := operator.Levels{Room: func() *switchroom.Room { return there }}
	hold := func(body string) []operator.RouteAnswer {
		t.Helper()
		out, err := ask(t, levels.Routes(), "/failover/hold", body)
		if err != nil {
			t.Fatal(err)
		}
		return out.([]operator.RouteAnswer)
	}
	if got := hold(`{"connector":"failover/main","level":0,"for_seconds":60}`); len(got) != 2 || got[0].Error != "" || got[1].Error != "" {
		t.Errorf("of both signals: %+v", got)
	}
	held, _ := there.Status(t.Context())
	for i := range held {
		if held[i].Active != 1 {
			t.Errorf("%s goes to level %d while level 0 is held", held[i].Signal, held[i].Active)
		}
	}
	if got := hold(`{"connector":"failover/main","signal":"logs","level":7,"for_seconds":60}`); len(got) != 1 || got[0].Signal != "logs" || got[0].Error == "" {
		t.Errorf("of a level that is not there: %+v", got)
	}
}
