// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

func regexpQuote(text string) string { return regexp.QuoteMeta(text) }

// twoStored has two destinations with queues on disk; a test says which pipelines there are.
const twoStored = `
receivers: {otlp: {protocols: {http: {endpoint: "$HOST:4318"}}}}
exporters:
  otlp_grpc/a:
    endpoint: "$HOST:14317"
    tls: {insecure: true}
    retry_on_failure: {initial_interval: 100ms, max_interval: 200ms}
    sending_queue: {storage: file_storage/one}
  otlp/b:
    endpoint: "$HOST:24317"
    tls: {insecure: true}
    retry_on_failure: {initial_interval: 100ms, max_interval: 200ms}
    sending_queue: {storage: file_storage/one}
extensions:
  file_storage/one: {directory: "$DIR/one"}
  file_storage/two: {directory: "$DIR/two"}
service:
  extensions: [file_storage/one, file_storage/two]
  telemetry: {metrics: {address: "$HOST:8888"}}
  pipelines: $PIPELINES
`

// house runs one configuration after the other on the same directories.
type house struct {
	t         *testing.T
	host, dir string
	p         *process
}

func (h *house) restart(pipelines string, args ...string) {
	h.t.Helper()
	if h.p != nil {
		if code := h.p.stop(); code != 0 {
			h.t.Errorf("exit code %d", code)
		}
		lastLine(h.t, h.p)
	}
	h.p = collector(h.t, twoStored, map[string]string{"HOST": h.host, "DIR": h.dir, "PIPELINES": pipelines}, args...)
}

func (h *house) send(names []string) {
	h.t.Helper()
	mustPost(h.t, "http://"+h.host+":4318/v1/traces", protobufType, wire(h.t, spans(names)))
}

func (h *house) value(name string, labels ...string) float64 {
	h.t.Helper()
	return value(h.t, scrapeBalanced(h.t, h.host+":8888"), name, labels...)
}

const both = "{traces: {receivers: [otlp], exporters: [otlp_grpc/a, otlp/b]}}"

// Fault: C7. What waits for a destination outlives its removal from the configuration, and is delivered when it is back;
// what came in between was never meant for it.
func TestADestinationThatIsTakenOutAndBroughtBackGetsItsBacklog(t *testing.T) {
	t.Parallel()
	h := &house{t: t, host: ownHost(t), dir: t.TempDir()}
	a := startBackend(t, h.host+":14317", nil)
	h.restart(both)
	first, between, last := numbered("first", 50), numbered("between", 20), numbered("last", 10)
	h.send(first)
	a.await(t, first)

	h.restart("{traces: {receivers: [otlp], exporters: [otlp_grpc/a]}}")
	h.p.await(`warn\t.*Queue parked.*"otelcol.pipeline.id": "traces", "destination": "otlp_grpc/b", "items": 50\b`)
	if v := h.value("holdfast_journal_parked_items", "pipeline", "traces", "destination", "otlp_grpc/b"); v != 50 {
		t.Errorf("%v items are shown as parked, want 50", v)
	}
	if v := h.value("holdfast_ledger_parked_items", "pipeline", "traces", "destination", "otlp_grpc/b"); v != 50 {
		t.Errorf("the ledger has %v items parked, want 50", v)
	}
	h.send(between)
	a.await(t, between)

	b := startBackend(t, h.host+":24317", nil)
	h.restart(both)
	b.await(t, first)
	h.send(last)
	a.await(t, last)
	b.await(t, last)
	if missing := b.missing(between); len(missing) != len(between) {
		t.Errorf("b got %d items that were accepted while it was not configured", len(between)-len(missing))
	}
	if code := h.p.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if books := lastLine(t, h.p); books.Queued != 0 || books.Parked != 0 {
		t.Errorf("%+v", books)
	}
}

// Fault: C7. A backlog follows its exporter: into another pipeline of the signal, whatever its queue, out of another
// directory.
func TestABacklogIsDeliveredByWhoeverSendsToItsExporter(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		pipelines string
		args      []string
		heir      string
	}{
		"another pipeline with a queue on disk": {
			"{traces/new: {receivers: [otlp], exporters: [otlp/b]}}", nil, "traces/new:otlp/b"},
		"another pipeline with a queue in memory": {
			"{traces/new: {receivers: [otlp], exporters: [otlp/b]}}",
			[]string{"--set", "exporters::otlp/b::sending_queue::storage="}, "traces/new:otlp/b"},
		"the same pipeline in another storage": {
			"{traces: {receivers: [otlp], exporters: [otlp/b]}}",
			[]string{"--set", "exporters::otlp/b::sending_queue::storage=file_storage/two"}, "traces:otlp/b"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := &house{t: t, host: ownHost(t), dir: filepath.Join(t.TempDir(), "q")}
			h.restart("{traces: {receivers: [otlp], exporters: [otlp/b]}}")
			old, live := numbered("old", 300), numbered("live", 30)
			for i := 0; i < len(old); i += 10 {
				h.send(old[i : i+10])
			}
			h.restart(c.pipelines, c.args...)
			h.p.await(`info\t.*Queue: backlog is inherited\t.*"items": 300,.*"heir": "` + regexpQuote(c.heir) + `"`)
			h.send(live)
			b := startBackend(t, h.host+":24317", nil)
			b.await(t, old)
			b.await(t, live)
			eventually(t, "nothing waits", func() bool {
				return h.value("holdfast_ledger_parked_items")+h.value("holdfast_ledger_queued_items") == 0
			})
			if n := b.items("spans"); n != len(old)+len(live) {
				t.Errorf("%d spans arrived, %d were sent", n, len(old)+len(live))
			}
			began := time.Now()
			if code := h.p.stop(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			if took := time.Since(began); took > idleStop {
				t.Errorf("who had served the backlog took %s to stop", took)
			}
			h.p = nil
			h.restart(c.pipelines, c.args...)
			if n := h.p.said("is inherited"); n != 0 {
				t.Error("a backlog that was delivered is inherited again")
			}
			if code := h.p.stop(); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
}
