// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"strings"
	"syscall"
	"testing"
)

// moving is a configuration in which queues come, go and move.
const moving = `
receivers: {otlp: {protocols: {http: {endpoint: "$HOST:4318"}}}}
exporters:
  otlp/a:
    endpoint: "$HOST:14317"
    tls: {insecure: true}
    timeout: 2s
    retry_on_failure: {initial_interval: 100ms, max_interval: 200ms}
    sending_queue: {$QUEUE}
  otlp/b:
    endpoint: "$HOST:24317"
    tls: {insecure: true}
    timeout: 2s
    retry_on_failure: {initial_interval: 100ms, max_interval: 200ms}
    sending_queue: {$QUEUE}
connectors:
  failover/traces: {priority_levels: [[traces/a], [traces/b]], retry_interval: 1s, retry_gap: 200ms}
extensions:
  file_storage/one: {directory: "$DIR/one"}
  file_storage/two: {directory: "$DIR/two"}
service:
  reload: {trial: 200ms, preflight: off}
  extensions: [file_storage/one, file_storage/two]
  telemetry: {metrics: {address: "$HOST:8888"}}
  pipelines: $PIPELINES
`

// mover is one process whose queues move.
type mover struct{ *shift }

func newMover(t *testing.T, pipelines, queue string) *mover {
	t.Helper()
	m := &mover{shift: newShift(t)}
	m.values["PIPELINES"], m.values["QUEUE"] = pipelines, queue
	m.start(moving)
	m.p.await("Config committed")
	return m
}

func (m *mover) to(pipelines, queue string) {
	m.t.Helper()
	m.values["PIPELINES"], m.values["QUEUE"] = pipelines, queue
	m.becomes(moving, 0, `^committed`)
}

func (m *mover) post(names []string) {
	m.t.Helper()
	for i := 0; i < len(names); i += 10 {
		part := names[i:min(i+10, len(names))]
		mustPost(m.t, "http://"+m.host+":4318/v1/traces", protobufType, wire(m.t, spans(part)))
	}
}

func (m *mover) balanced() {
	m.t.Helper()
	scrapeBalanced(m.t, m.host+":8888")
}

// ends waits until nothing waits, and stops the process.
func (m *mover) ends(accepted int64) {
	m.t.Helper()
	eventually(m.t, "nothing waits", func() bool {
		sum := 0.0
		for key, v := range scrapeAt(m.t, m.host+":8888") {
			if strings.HasPrefix(key, "holdfast_ledger_queued_items") || strings.HasPrefix(key, "holdfast_ledger_parked_items") {
				sum += v
			}
		}
		return sum == 0
	})
	m.balanced()
	if code := m.p.stop(); code != 0 {
		m.t.Errorf("exit code %d", code)
	}
	if b := lastLine(m.t, m.p); b.Queued != 0 || b.Parked != 0 || b.Dropped != 0 {
		m.t.Errorf("%+v", b)
	}
}

const (
	toA        = "{traces: {receivers: [otlp], exporters: [otlp/a]}}"
	toB        = "{traces: {receivers: [otlp], exporters: [otlp/b]}}"
	toBoth     = "{traces: {receivers: [otlp], exporters: [otlp/a, otlp/b]}}"
	renamed    = "{traces/new: {receivers: [otlp], exporters: [otlp/b]}}"
	bothLevels = "{traces: {receivers: [otlp], exporters: [failover/traces]}, " +
		"traces/a: {receivers: [failover/traces], exporters: [otlp/a]}, " +
		"traces/b: {receivers: [failover/traces], exporters: [otlp/b]}}"
	one = "storage: file_storage/one"
	two = "storage: file_storage/two"
)

// Fault: C7. What waits for a destination that a reload removes parks, and is delivered when one brings it back.
func TestADestinationRemovedByAReloadParksAndComesBack(t *testing.T) {
	t.Parallel()
	for name, queue := range map[string]string{"disk": one, "memory": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMover(t, toBoth, queue)
			a := startBackend(t, m.host+":14317", nil)
			first, between, last := numbered("first", 50), numbered("between", 20), numbered("last", 10)
			m.post(first)
			a.await(t, first)
			m.to(toA, queue)
			if v := m.value("holdfast_ledger_parked_items", "pipeline", "traces", "destination", "otlp/b"); v != 50 {
				t.Errorf("%v items are parked, want 50", v)
			}
			m.balanced()
			m.post(between)
			a.await(t, between)
			b := startBackend(t, m.host+":24317", nil)
			m.to(toBoth, queue)
			b.await(t, first)
			m.post(last)
			a.await(t, last)
			b.await(t, last)
			if missing := b.missing(between); len(missing) != len(between) {
				t.Errorf("b got %d items that were accepted while it was not configured", len(between)-len(missing))
			}
			if n := b.items("spans"); n != 60 {
				t.Errorf("b got %d spans, want 60", n)
			}
			m.ends(80)
		})
	}
}

// What a trial that is superseded was given is the next one's: nothing that its destinations are owed is forgotten.
func TestADestinationOfASupersededTrialIsOwedWhatItTook(t *testing.T) {
	t.Parallel()
	for name, queue := range map[string]string{"disk": one, "memory": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMover(t, toA, queue)
			a := startBackend(t, m.host+":14317", nil)
			long := strings.Replace(moving, "trial: 200ms", "trial: 4s", 1)
			m.becomes(long, 0, `^committed`) // what governs from now on
			first, second := numbered("first", 30), numbered("second", 30)
			m.values["PIPELINES"] = toBoth
			m.write(long)
			m.p.signal(syscall.SIGHUP)
			m.p.await(`Config switched, trial begins.*"source": "SIGHUP"`)
			m.post(first)
			a.await(t, first)
			m.becomes(strings.Replace(long, "timeout: 2s", "timeout: 3s", 1), 0, `^committed`)
			m.p.await(`Config superseded`)
			m.post(second)
			b := startBackend(t, m.host+":24317", nil)
			for _, x := range []*backend{a, b} {
				x.await(t, first)
				x.await(t, second)
			}
			m.ends(60)
		})
	}
}

// A trial that replaced a destination, and is taken back: what it delivered stays at the new one, and the old one gets all of
// it too. It is counted.
func TestWhatATrialDeliveredElsewhereIsDeliveredAgainAndCounted(t *testing.T) {
	t.Parallel()
	for name, queue := range map[string]string{"disk": one, "memory": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMover(t, toA, queue)
			a, b := startBackend(t, m.host+":14317", nil), startBackend(t, m.host+":24317", nil)
			if v := m.value("holdfast_config_redelivered_items_total", "reason", "rollback"); v != 0 {
				t.Errorf("%v items are counted at the start", v)
			}
			before, trial, after := numbered("before", 20), numbered("trial", 30), numbered("after", 10)
			m.post(before)
			a.await(t, before)
			m.values["PIPELINES"] = toB
			m.write(moving)
			if o := m.tell("reload", "--confirm", "60s"); o.code != 0 {
				t.Fatalf("reload: %+v", o)
			}
			m.post(trial)
			b.await(t, trial)
			if n := a.items("spans"); n != 20 {
				t.Errorf("a got %d spans while it was removed, want 20", n)
			}
			if o := m.tell("config", "rollback"); o.code != 0 {
				t.Fatalf("rollback: %+v", o)
			}
			a.await(t, trial)
			m.post(after)
			a.await(t, after)
			eventually(t, "what arrives twice is counted", func() bool {
				return m.value("holdfast_config_redelivered_items_total", "reason", "rollback") == 30
			})
			if x, y := a.items("spans"), b.items("spans"); x != 60 || y != 30 {
				t.Errorf("a got %d spans and b %d, want 60 and 30", x, y)
			}
			m.ends(60)
		})
	}
}

// What a trial took in a pipeline that the rollback takes away is delivered by whoever sends to its exporter now.
func TestWhatATrialTookInAPipelineOfItsOwnIsNotLostAtARollback(t *testing.T) {
	t.Parallel()
	m := newMover(t, toB, one)
	m.becomes(strings.Replace(moving, "trial: 200ms", "trial: 20s", 1), 0, `^committed`)
	long := strings.Replace(moving, "trial: 200ms", "trial: 20s", 1)
	m.values["PIPELINES"] = renamed
	m.write(long)
	m.p.signal(syscall.SIGHUP)
	m.p.await(`Config switched, trial begins.*"source": "SIGHUP"`)
	names := numbered("trial", 50)
	m.post(names)
	m.values["PIPELINES"] = toB
	m.becomes(long, 0, `^committed.*runs again`)
	later := numbered("later", 20)
	m.post(later)
	b := startBackend(t, m.host+":24317", nil)
	b.await(t, names)
	b.await(t, later)
	if n := b.items("spans"); n != 70 {
		t.Errorf("%d spans arrived, 70 were sent", n)
	}
	m.ends(70)
}

// bothArrive sends what is live behind a backlog, brings the backend back, and ends: it has got everything once.
func (m *mover) bothArrive(old, live []string) {
	m.t.Helper()
	m.balanced()
	m.post(live)
	b := startBackend(m.t, m.host+":24317", nil)
	b.await(m.t, old)
	b.await(m.t, live)
	if n := b.items("spans"); n != len(old)+len(live) {
		m.t.Errorf("%d spans arrived, %d were sent", n, len(old)+len(live))
	}
	m.ends(int64(len(old) + len(live)))
}

// Fault: C7. A backlog follows its exporter, wherever a reload moves it, and what comes meanwhile is delivered too.
func TestABacklogFollowsItsExporterThroughAReload(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, from, fromQueue, to, toQueue string }{
		{"into a failover connector", toB, one, bothLevels, one},
		{"out of a failover connector", bothLevels, one, toB, one},
		{"pipeline renamed", toB, one, renamed, one},
		{"storage moved", toB, one, toB, two},
		{"disk to memory", toB, one, toB, ""},
		{"memory to disk", toB, "", toB, one},
		{"pipeline renamed, in memory", toB, "", renamed, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newMover(t, c.from, c.fromQueue)
			old, live := numbered("old", 100), numbered("live", 30)
			m.post(old)
			m.to(c.to, c.toQueue)
			m.bothArrive(old, live)
		})
	}
}

// What was parked before a trial brought its destination back is parked again when the trial is taken back: it owes what it
// owed, what the trial took included, and nothing that comes afterwards.
func TestAParkedDestinationParksAgainWhenATrialIsTakenBack(t *testing.T) {
	t.Parallel()
	for name, queue := range map[string]string{"disk": one, "memory": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMover(t, toBoth, queue)
			a := startBackend(t, m.host+":14317", nil)
			first, trial, later := numbered("first", 50), numbered("trial", 30), numbered("later", 20)
			m.post(first)
			a.await(t, first)
			m.to(toA, queue)
			long := strings.Replace(moving, "trial: 200ms", "trial: 8s", 1)
			m.becomes(long, 0, `^committed`) // what governs from now on
			m.values["PIPELINES"] = toBoth
			m.write(long)
			m.p.signal(syscall.SIGHUP)
			m.p.await(`Config switched, trial begins.*"source": "SIGHUP"`)
			m.post(trial)
			a.await(t, trial)
			m.values["PIPELINES"] = toA
			m.becomes(long, 0, `^committed.*runs again`)
			m.post(later)
			a.await(t, later)
			eventually(t, "what b is owed is parked", func() bool {
				return m.value("holdfast_ledger_parked_items", "pipeline", "traces", "destination", "otlp/b") == 80 && m.owed() == 0
			})
			m.balanced()
			b := startBackend(t, m.host+":24317", nil)
			m.to(toBoth, queue)
			b.await(t, first)
			b.await(t, trial)
			m.ends(100)
			if n := b.items("spans"); n != 80 {
				t.Errorf("b got %d spans, want 80", n)
			}
		})
	}
}

// Fault: C7. An heir keeps what it inherited through the reloads that follow, and hands it on when it goes itself.
func TestAnInheritedBacklogOutlivesTheNextReloads(t *testing.T) {
	t.Parallel()
	again := strings.ReplaceAll(renamed, "traces/new", "traces/newer")
	for _, c := range []struct{ name, queue, to, toQueue string }{
		{"unchanged pipeline, disk", one, renamed, one},
		{"unchanged pipeline, memory", "", renamed, ""},
		{"renamed again, disk", one, again, one},
		{"renamed again, memory", "", again, ""},
		{"to a failover connector", one, bothLevels, one},
		{"to a failover connector, memory", "", bothLevels, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newMover(t, toB, c.queue)
			old, live := numbered("old", 100), numbered("live", 30)
			m.post(old)
			m.to(renamed, c.queue)
			m.values["PIPELINES"], m.values["QUEUE"] = c.to, c.toQueue
			m.becomes(strings.Replace(moving, "timeout: 2s", "timeout: 3s", 1), 0, `^committed`)
			m.bothArrive(old, live)
		})
	}
}

// Fault: C7. What waits in memory for a pipeline that a reload removes parks when it cannot be delivered, is shown, and is
// delivered when the pipeline is back; a process that ends first says what it drops.
func TestAPipelineInMemoryThatIsRemovedParksAndComesBack(t *testing.T) {
	t.Parallel()
	const elsewhere = "{traces/a: {receivers: [otlp], exporters: [otlp/a]}}"
	for _, back := range []bool{true, false} {
		t.Run(map[bool]string{true: "comes back", false: "the process ends"}[back], func(t *testing.T) {
			t.Parallel()
			m := newMover(t, toB, "")
			a := startBackend(t, m.host+":14317", nil)
			old, live := numbered("old", 50), numbered("live", 20)
			m.post(old)
			m.to(elsewhere, "")
			m.post(live)
			a.await(t, live)
			eventually(t, "it is parked", func() bool {
				return m.value("holdfast_ledger_parked_items", "pipeline", "traces", "destination", "otlp/b") == 50
			})
			m.balanced()
			if o := m.tell("status", "--json"); !strings.Contains(o.stdout, `"parked": 50`) {
				t.Errorf("the status does not show what is parked: %s", o.stdout)
			}
			if !back {
				if code := m.p.stop(); code != 3 {
					t.Errorf("exit code %d, want 3: something is dropped", code)
				}
				if b := lastLine(t, m.p); b.Dropped != 50 {
					t.Errorf("%+v", b)
				}
				return
			}
			m.to(toB, "")
			b := startBackend(t, m.host+":24317", nil)
			b.await(t, old)
			if n := b.items("spans"); n != 50 {
				t.Errorf("b got %d spans, want 50", n)
			}
			m.ends(70)
		})
	}
}
