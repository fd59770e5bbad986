// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

const gateway = `receivers: {otlp: {protocols: {grpc: {endpoint: "localhost:0"}}}}
processors: {batch: {send_batch_size: 1024, timeout: 5s}}
exporters:
  otlp/a: {endpoint: "a:1", timeout: 10s, sending_queue: {queue_size: 1000}, retry_on_failure: {max_elapsed_time: 30s}}
  otlp/b: {endpoint: "b:1", timeout: 30s, sending_queue: {queue_size: 5000, num_consumers: 5, storage: file_storage}}
  file/c: {path: ./c.jsonl}
  debug:
extensions: {file_storage: {directory: ./q}}
connectors:
  failover/x:
    %s
service:
  extensions: [file_storage]
  telemetry: {metrics: {level: none}}
  pipelines:
    %s
`

// failover plans a connector's block and pipelines, a line each.
func failover(t *testing.T, block, pipelines string) (*plan.Plan, []string) {
	t.Helper()
	indent := func(s string) string { return strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n    ") }
	return build(t, fmt.Sprintf(gateway, indent(block), indent(pipelines)))
}

// route returns the only destination.
func route(t *testing.T, p *plan.Plan, said []string) *plan.Destination {
	t.Helper()
	if len(p.Pipelines) != 1 || len(p.Pipelines[0].Destinations) != 1 {
		t.Fatalf("plan %+v, said %s", p.Pipelines, said)
	}
	return &p.Pipelines[0].Destinations[0]
}

const input = "traces/in: {receivers: [otlp], processors: [batch], exporters: [failover/x]}\n"

func TestLevelsByExporterArePipelinesAndTheirSettingsAreLifted(t *testing.T) {
	p, said := failover(t, "priority_levels: [[otlp/a], [otlp/b], [file/c]]\nretry_interval: 15s\nretry_gap: 30s\nmax_retries: 5",
		input+`
traces/a: {receivers: [failover/x], exporters: [otlp/a]}
traces/b: {receivers: [failover/x], exporters: [otlp/b]}`)
	d := route(t, p, said)
	if d.Name != "failover/x" || !slices.Equal(d.Exporters, []string{"otlp_grpc/a", "otlp_grpc/b", "file/c"}) {
		t.Errorf("destination %s of %s", d.Name, d.Exporters)
	}
	if !d.Stored || d.Storage != "file_storage" || p.Pipelines[0].Storage != "file_storage" {
		t.Errorf("storage %q, stored %v", d.Storage, d.Stored)
	}
	if d.Limit != (queue.Limit{Sizer: queue.Requests, Max: 6000, BatchItems: 1024}) {
		t.Errorf("limit %+v", d.Limit)
	}
	if d.Want.Min != 1024 || d.Want.Linger != 5*time.Second || d.Want.MaxBytes != 4<<20 {
		t.Errorf("want %+v", d.Want)
	}
	if d.Route.RetryGap != 7500*time.Millisecond || d.Route.RetryInterval != 15*time.Second || d.Route.MaxRetries != 5 {
		t.Errorf("route %+v", d.Route)
	}
	if len(d.Levels) != 3 || d.Workers != 10+5+4 {
		t.Fatalf("levels %+v, %d at once", d.Levels, d.Workers)
	}
	l := d.Levels
	if l[0].Workers != 10 || l[0].Timeout != 10*time.Second || l[0].Retry.MaxElapsedTime != 30*time.Second || l[0].Emergency {
		t.Errorf("level 0 %+v", l[0])
	}
	if l[1].Workers != 5 || l[1].Retry.MaxElapsedTime != 5*time.Minute {
		t.Errorf("level 1 %+v", l[1])
	}
	if !l[2].Emergency || !slices.Equal(l[2].Pipelines, []string{"traces/failover.x.file.c"}) {
		t.Errorf("level 2 %+v", l[2])
	}
	for _, want := range []string{
		"11: note: connectors/failover/x: level 0: otlp/a is served by pipeline traces/a",
		"11: note: connectors/failover/x: level 2: file/c is served by pipeline traces/failover.x.file.c",
		"13: note: connectors/failover/x: retry_gap is 7.5s: 15s / 2 ordinary levels",
		"14: note: connectors/failover/x: 5 failed probes every 15s, then one every 2m30s; no level is ever given up",
		"4: note: exporters/otlp/a: queue and retry settings of otlp/a belong to failover/x",
	} {
		says(t, said, want)
	}
}

func TestLevelsByPipelineAreTakenForTheirSignal(t *testing.T) {
	p, said := failover(t, "priority_levels: [[traces/a, logs/a], [logs/b, traces/b]]", input+`
logs/in: {receivers: [otlp], exporters: [failover/x]}
traces/a: {receivers: [failover/x], exporters: [otlp/a]}
traces/b: {receivers: [failover/x], processors: [batch], exporters: [otlp/b, debug]}
logs/a: {receivers: [failover/x], exporters: [otlp/b]}
logs/b: {receivers: [failover/x], exporters: [otlp/a]}`)
	if len(p.Pipelines) != 2 {
		t.Fatalf("pipelines %+v, said %s", p.Pipelines, said)
	}
	traces, logs := p.Pipelines[0].Destinations[0], p.Pipelines[1].Destinations[0]
	if !slices.Equal(traces.Levels[1].Exporters, []string{"otlp/b", "debug"}) || traces.Levels[1].MaxItems != 0 {
		t.Errorf("traces %+v", traces.Levels)
	}
	if !slices.Equal(logs.Exporters, []string{"otlp_grpc/b", "otlp_grpc/a"}) || logs.Want.Min != 0 || logs.Want.MaxBytes != 1<<20 {
		t.Errorf("logs %s, want %+v", logs.Exporters, logs.Want)
	}
}

func TestWrongLevelsAreErrorsWithAPlaceAndAWayOut(t *testing.T) {
	refused := func(levels, pipelines, want string) {
		t.Helper()
		_, said := failover(t, "priority_levels: "+levels, input+pipelines)
		says(t, said, want)
	}
	const fed = "traces/a: {receivers: [failover/x], exporters: [otlp/a]}\ntraces/b: {receivers: [failover/x], exporters: [otlp/b]}\n"
	refused("[[otlp/aa]]", fed, `11: error: connectors/failover/x: level 0: "otlp/aa" is neither a pipeline nor an exporter`)
	refused("[[traces/a], [traces/in]]", fed, "11: error: connectors/failover/x: level 1: pipeline traces/in does not receive from failover/x")
	refused("[[otlp/a], [traces/a]]", fed, "11: error: connectors/failover/x: otlp/a is in level 0 and again in level 1")
	refused("[[otlp/a]]", fed+"traces/c: {receivers: [failover/x], exporters: [otlp/a]}",
		"11: error: connectors/failover/x: level 0: otlp/a is served by traces/a and traces/c")
	refused("[[logs/a], [otlp/a]]", fed+"logs/a: {receivers: [failover/x], exporters: [otlp/a]}\nlogs/in: {receivers: [otlp], exporters: [failover/x]}",
		"11: error: connectors/failover/x: level 0 has no entry for traces")
	refused("[[traces/c]]", "traces/c: {receivers: [failover/x], exporters: [failover/x]}",
		"17: error: connectors/failover/x: level 0: traces/c leads to another failover, failover/x")
	refused("[[otlp/a]]\nemergency: {enabled: true}", fed,
		"12: error: connectors/failover/x: emergency: the last level is not one: it must hold only file exporters, below another level")
	refused("[[otlp/a]]\nlift: false", fed, "12: error: connectors/failover/x: lift: false is not available in this version")
	refused("[[otlp/a]]\nprobe: {exporters: {otlp/bb: {kind: tcp}}}", fed,
		"12: error: connectors/failover/x: probe::exporters: otlp/bb is in no level")
	refused("[[otlp/a]]", "metrics/a: {receivers: [failover/x], exporters: [otlp/a]}",
		"17: error: connectors/failover/x: no metrics pipeline exports to failover/x, so metrics/a would receive nothing")
}

func TestAPipelineThatIsFedAndInNoLevelIsAWarning(t *testing.T) {
	_, said := failover(t, "priority_levels: [[otlp/a]]", input+"traces/b: {receivers: [failover/x], exporters: [otlp/b]}")
	says(t, said, "17: warning: connectors/failover/x: pipeline traces/b receives from failover/x but is in none of its levels")
}

func TestTheConnectorsOwnQueueWins(t *testing.T) {
	p, said := failover(t, `priority_levels: [[otlp/a], [otlp/b]]
sending_queue: {num_consumers: 3, queue_size: 70, sizer: items, batch: {min_size: 11}}`, input)
	d := route(t, p, said)
	if d.Workers != 3 || d.Limit.Max != 70 || d.Limit.Sizer != queue.Items || d.Want.Min != 11 || d.Storage != "file_storage" {
		t.Errorf("workers %d, limit %+v, want %+v, storage %q", d.Workers, d.Limit, d.Want, d.Storage)
	}
	if d.Levels[0].Workers != 10 {
		t.Errorf("level 0 %+v", d.Levels[0])
	}
	p, said = failover(t, "priority_levels: [[otlp/a], [otlp/b]]\nsending_queue: {enabled: false}", input)
	if d := route(t, p, said); !d.Wait || d.Storage != "" || p.Pipelines[0].Queued() {
		t.Errorf("a switched-off queue: %+v", d)
	}
}

func TestLevelsOfFilesAloneHaveTheQueueTheyImply(t *testing.T) {
	p, said := failover(t, "priority_levels: [[file/c]]", input)
	d := route(t, p, said)
	if d.Wait || d.Limit.Max != 1000 || d.Levels[0].Emergency || d.Storage != "" {
		t.Errorf("destination %+v", d)
	}
	p, said = failover(t, "priority_levels: [[debug]]", input)
	if d := route(t, p, said); !d.Wait {
		t.Errorf("debug implies no queue: %+v", d)
	}
}

func TestMembersOfALevelShareTheMostCarefulSettings(t *testing.T) {
	p, said := failover(t, "priority_levels: [[otlp/a, otlp/b]]", input)
	l := route(t, p, said).Levels[0]
	if l.Workers != 5 || l.Retry.MaxElapsedTime != 5*time.Minute || l.Timeout != 30*time.Second {
		t.Errorf("level %+v", l)
	}
}

func TestOneReceiverReachingAnExporterTwiceIsAWarning(t *testing.T) {
	_, said := failover(t, "priority_levels: [[otlp/a]]", input+"traces: {receivers: [otlp], exporters: [otlp/a, otlp/b]}")
	says(t, said, "16: warning: exporters/otlp/a: each span of otlp reaches otlp/a twice: by traces and by traces/in")
	_, said = failover(t, "priority_levels: [[otlp/a]]", "logs: {receivers: [otlp], exporters: [otlp/a, failover/x]}")
	says(t, said, "15: warning: exporters/otlp/a: each log record of otlp reaches otlp/a twice: by logs and by failover/x")
}

func TestAMemoryLimiterBelowAConnectorIsSaidToDoNothing(t *testing.T) {
	_, said := failover(t, "priority_levels: [[otlp/a]]", input+
		"traces/a: {receivers: [failover/x], processors: [memory_limiter], exporters: [otlp/a]}")
	says(t, said, "17: note: processors/memory_limiter: memory_limiter has no effect below failover/x: what arrives here is accepted already")
}
