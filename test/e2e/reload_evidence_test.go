// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"strings"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
	"github.com/holdfast-telemetry/holdfast/internal/loadgen"
)

// judged is a configuration whose exporter a is changed; $EXPORTERS are those of the one pipeline.
const judged = `
receivers: {otlp: {protocols: {grpc: {endpoint: "$HOST:4317"}, http: {endpoint: "$HOST:4318"}}}}
exporters:
  otlp/a:
    endpoint: "$HOST:$PORT"
    tls: {insecure: $INSECURE}
    timeout: 2s
    headers: {authorization: "$TOKEN"}
    retry_on_failure: {initial_interval: 100ms, max_interval: 500ms}
    sending_queue: {$QUEUE}
  otlp/b:
    endpoint: "$HOST:$PORTB"
    tls: {insecure: true}
    retry_on_failure: {initial_interval: 100ms, max_interval: 500ms}
    sending_queue: {$QUEUE}
connectors:
  failover/traces: {priority_levels: [[traces/a], [traces/b]], retry_interval: 1s, retry_gap: 200ms}
extensions: {file_storage: {directory: "$DIR/queue"}}
service:
  reload: {trial: $TRIAL, preflight: $PREFLIGHT}
  extensions: [file_storage]
  telemetry: {metrics: {address: "$HOST:8888"}}
  pipelines: $PIPELINES
`

const (
	alone   = "{traces: {receivers: [otlp], exporters: [otlp/a]}}"
	fanned  = "{traces: {receivers: [otlp], exporters: [otlp/a, otlp/b]}}"
	leveled = "{traces: {receivers: [otlp], exporters: [failover/traces]}, " +
		"traces/a: {receivers: [failover/traces], exporters: [otlp/a]}, " +
		"traces/b: {receivers: [failover/traces], exporters: [otlp/b]}}"
	onDisk = "storage: file_storage"
)

// newJudged is a shift with a good text of judged; change is what is bad in another.
func newJudged(t *testing.T, pipelines, queue string) *shift {
	s := newShift(t)
	for k, v := range map[string]string{"PORT": "14317", "PORTB": "24317", "INSECURE": "true", "TOKEN": "right", "QUEUE": queue, "TRIAL": "30s",
		"PREFLIGHT": "auto", "PIPELINES": pipelines} {
		s.values[k] = v
	}
	s.sink("a", "14317")
	return s
}

// with changes a value and says how it was.
func (s *shift) with(key, value string) (before string) {
	before, s.values[key] = s.values[key], value
	return before
}

// Fault: C3. A configuration that starts and delivers nothing is taken back if the one before delivered: by the
// preflight, or by what the trial shows. What the trial took is delivered by the old one, once.
func TestAConfigurationThatDeliversNothingIsTakenBack(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, pipelines, queue string
		key, bad               string
		preflight              string
		code                   int
		words                  string
	}{
		{"wrong port, preflight, disk", alone, onDisk, "PORT", "1", "auto", 1, `^rejected.*otlp/a does not answer`},
		{"wrong port, preflight, memory", alone, "", "PORT", "1", "auto", 1, `^rejected.*otlp/a does not answer`},
		{"TLS mismatch, preflight", alone, onDisk, "INSECURE", "false", "auto", 1, `^rejected.*otlp/a does not answer`},
		{"wrong token, preflight", alone, onDisk, "PORT", "34317", "auto", 1, `^rejected.*otlp/a does not answer`},
		{"wrong port of a level that stands by, preflight", leveled, onDisk, "PORTB", "1", "auto", 1, `^rejected.*otlp/b does not answer`},
		{"wrong port, evidence, disk", alone, onDisk, "PORT", "1", "off", 2, `^rolled_back.*otlp/a: no delivery`},
		{"wrong port, evidence, memory", alone, "", "PORT", "1", "off", 2, `^rolled_back.*otlp/a: no delivery`},
		{"TLS mismatch, evidence", alone, onDisk, "INSECURE", "false", "off", 2, `^rolled_back.*otlp/a`},
		{"wrong token, evidence", alone, onDisk, "PORT", "34317", "off", 2, `^rolled_back.*otlp/a.*misconfigured`},
		{"wrong port, fan-out", fanned, onDisk, "PORT", "1", "off", 2, `^rolled_back.*otlp/a: no delivery`},
		{"wrong port, fan-out in memory", fanned, "", "PORT", "1", "off", 2, `^rolled_back.*otlp/a: no delivery`},
		{"wrong port, hidden by failover", leveled, onDisk, "PORT", "1", "off", 2, `^rolled_back.*otlp/a: no delivery`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newJudged(t, c.pipelines, c.queue)
			s.values["PREFLIGHT"] = c.preflight
			if c.pipelines != alone {
				s.sink("b", "24317")
			}
			sealed := startSink(t, t.TempDir(), "sealed", s.host+":34317") // takes nobody's token
			must(t, sealed.SetFaults("status:UNAUTHENTICATED"))
			s.start(judged)
			want := "any"
			if c.pipelines == fanned {
				want = "each:a,b"
			}
			stop := s.send(loadgen.Options{Run: "judged", Signals: []item.Signal{item.Traces}, Producers: 2, Items: 10,
				ItemBytes: 50, Rate: 100, Want: want})
			eventually(t, "the good one delivers", func() bool { return s.sinks[0].State().Stored["traces"] > 100 })

			was := s.with(c.key, c.bad)
			s.becomes(judged, c.code, c.words)
			if v := s.value("holdfast_config_drift"); v != 1 {
				t.Errorf("holdfast_config_drift is %v", v)
			}
			if o := s.tell("status"); o.code == 0 || c.code == 1 && o.code != 1 { // after a trial there is a backlog too
				t.Errorf("status: exit code %d, want 1: degraded", o.code)
			}
			if c.code == 2 {
				s.becomes(judged, 1, `^rejected held until`)
				if v := s.value("holdfast_config_reloads_total", "result", "rolled_back"); v != 1 {
					t.Errorf("%v rollbacks are counted", v)
				}
			}
			s.with(c.key, was)
			s.becomes(judged, 0, `^unchanged`)
			if v := s.value("holdfast_config_drift"); v != 0 {
				t.Errorf("holdfast_config_drift is %v when the file is good again", v)
			}
			if _, failed := stop(); len(failed) > 0 {
				t.Errorf("failed: %q", failed)
			}
			bound := int64(0)
			s.passes(ledger.Options{MaxDuplicates: &bound})
		})
	}
}

// Fault: C3. An outage is no reason: where the one before did not deliver either, the new one stays.
func TestAnOutageRollsNothingBack(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, pipelines, queue, trial string }{
		{"disk", alone, onDisk, "25s"},
		{"memory", alone, "", "2s"},
		{"fan-out", fanned, onDisk, "2s"},
		{"failover", leveled, onDisk, "2s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newJudged(t, c.pipelines, c.queue)
			s.values["TRIAL"] = c.trial
			want := "any"
			if c.pipelines != alone {
				s.sink("b", "24317")
			}
			if c.pipelines == fanned {
				want = "each:a,b"
			}
			s.start(judged)
			stop := s.send(loadgen.Options{Run: "outage", Signals: []item.Signal{item.Traces}, Producers: 2, Items: 10,
				ItemBytes: 50, Rate: 100, Want: want})
			eventually(t, "the backend delivers", func() bool { return s.sinks[0].State().Stored["traces"] > 0 })
			heal := faultyAt(t, s.sinks[0], "refuse")
			s.p.await(`Exporting failed|Failover: level is down`)
			s.with("TOKEN", "new")
			s.becomes(judged, 0, `^committed`)
			heal()
			if _, failed := stop(); len(failed) > 0 {
				t.Errorf("failed: %q", failed)
			}
			s.passes(ledger.Options{})
		})
	}
}

// What serves a changed exporter begins with nobody's failures: who sends to the address from before has ended before the
// new one counts as well, and no attempt there is held against it. Else the backlog would wait for the next probe.
func TestAChangedAddressIsNotChargedWithTheOldOne(t *testing.T) {
	t.Parallel()
	s := newJudged(t, alone, onDisk)
	s.values["TRIAL"], s.values["PREFLIGHT"] = "500ms", "off"
	s.sink("b", "24317")
	trips := func() (n float64) {
		for key, v := range scrapeAt(t, s.host+":8888") {
			if strings.HasPrefix(key, "holdfast_failover_transitions_total") && strings.Contains(key, `to="down"`) {
				n += v
			}
		}
		return n
	}
	s.start(judged)
	stop := s.send(loadgen.Options{Run: "address", Signals: []item.Signal{item.Traces}, Producers: 2, Items: 10, ItemBytes: 50,
		Rate: 1000, Want: "any"})
	for round, port := range []string{"24317", "14317", "24317", "14317", "24317", "14317"} {
		old, next := s.sinks[round%2], s.sinks[1-round%2]
		before := old.State().Stored["traces"]
		eventually(t, "it delivers", func() bool { return old.State().Stored["traces"] > before })
		heal := faultyAt(t, old, "status:UNAUTHENTICATED")
		eventually(t, "the level is down", func() bool { return trips() == float64(round+1) })
		eventually(t, "there is a backlog", func() bool { return s.owed() > 500 })
		s.with("PORT", port)
		before = next.State().Stored["traces"]
		s.becomes(judged, 0, `^committed`)
		eventually(t, "the new address is sent to", func() bool { return next.State().Stored["traces"] > before+500 })
		if n := trips(); n != float64(round+1) {
			t.Errorf("round %d: %v times a level went down, want %d: the new address was charged with an attempt at the old one", round, n, round+1)
		}
		heal()
	}
	if _, failed := stop(); len(failed) > 0 {
		t.Errorf("failed: %q", failed)
	}
	s.passes(ledger.Options{})
}
