// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"net"
	"os"
	"strings"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
	"github.com/holdfast-telemetry/holdfast/internal/loadgen"
)

// Fault: C1, C2, C9. What cannot be read, checked or built changes nothing: it is said where it is wrong, it is counted,
// and what ran runs on.
func TestWhatIsRefusedChangesNothing(t *testing.T) {
	t.Parallel()
	s := newJudged(t, alone, onDisk)
	s.with("TRIAL", "1s")
	s.start(judged)
	s.p.await("Config committed")
	s.values["$"] = "$" // $$ is one
	s.values["CONFIG"] = s.config
	taken, err := net.Listen("tcp", s.host+":7777")
	must(t, err)
	t.Cleanup(func() { _ = taken.Close() })
	stop := s.send(loadgen.Options{Run: "refused", Signals: []item.Signal{item.Traces}, Producers: 2, Items: 10, ItemBytes: 50,
		Rate: 500})
	in := func(from, to string) string {
		t.Helper()
		if !strings.Contains(judged, from) {
			t.Fatalf("there is no %q", from)
		}
		return strings.Replace(judged, from, to, 1)
	}
	for _, c := range []struct{ name, text, reason, words string }{
		{"syntax", judged + "  : [", "invalid", `config\.yaml:\d+`},
		{"unknown key", judged + "  nonsense: true\n", "invalid", `config\.yaml:\d+: error: service: unknown key .{1,2}nonsense`},
		{"half of it", judged[:len(judged)/2], "invalid", `config\.yaml`},
		{"empty", "\n", "empty", `is empty`},
		{"no UTF-8", judged + "# \xff\n", "invalid", `not UTF-8`},
		{"missing", "", "unread", `no such file`},
		{"unknown exporter", in("$PIPELINES", "{traces: {receivers: [otlp], exporters: [otlp/c]}}"), "invalid", `otlp/c`},
		{"file of a variable that is missing", in("\"$TOKEN\"", "\"$${file:"+s.base+"/none}\""), "invalid", `none`},
		{"port taken by another process", in(`grpc: {endpoint: "$HOST:4317"}`, `grpc: {endpoint: "$HOST:7777"}`), "prepare",
			`7777.*(in use|taken)`},
		{"certificate that is not there", in(`grpc: {endpoint: "$HOST:4317"}`,
			`grpc: {endpoint: "$HOST:4317", tls: {cert_file: "$DIR/none.crt", key_file: "$DIR/none.key"}}`), "invalid",
			`none\.crt`},
		{"directory that cannot be made", in(`directory: "$DIR/queue"`, `directory: "$CONFIG/queue"`), "prepare",
			`file_storage: directory .*/config\.yaml/queue.*not a directory`},
	} {
		if c.name == "missing" {
			must(t, os.Remove(s.config))
		} else {
			s.write(c.text)
		}
		o := s.tell("reload", "--wait", "--timeout", "60s")
		if o.code != 1 || !strings.HasPrefix(o.stdout, "rejected") {
			t.Errorf("%s: exit code %d: %s%s", c.name, o.code, o.stdout, o.stderr)
			continue
		}
		s.p.await(`error\t.*Config rejected\t.*"source": "reload", "reason": "` + c.reason + `.*` + c.words)
		if c.reason != "" {
			if v := s.value("holdfast_config_reloads_total", "result", "rejected", "reason", c.reason); v < 1 {
				t.Errorf("%s: %v are counted", c.name, v)
			}
		}
		if v := s.value("holdfast_config_drift"); v != 1 {
			t.Errorf("%s: holdfast_config_drift is %v", c.name, v)
		}
		had := s.stored()
		eventually(t, c.name+": it delivers on", func() bool { return s.stored() > had+50 })
	}
	s.becomes(judged, 0, `^unchanged`)
	if _, failed := stop(); len(failed) > 0 {
		t.Errorf("failed: %q", failed)
	}
	bound := int64(0)
	s.passes(ledger.Options{MaxDuplicates: &bound})
}

// Fault: C8. A limit that is set below what waits deletes nothing: new data is refused until there is room.
func TestALowerLimitDeletesNothing(t *testing.T) {
	t.Parallel()
	for name, queue := range map[string]string{"disk": one + ", ", "memory": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMover(t, toB, queue+"queue_size: 1000")
			old := numbered("old", 200)
			m.post(old) // 20 requests
			m.to(toB, queue+"queue_size: 5")
			a, err := post(t.Context(), nil, "http://"+m.host+":4318/v1/traces", protobufType,
				strings.NewReader(string(wire(t, spans(numbered("new", 1))))))
			if err != nil || a.status != 503 && a.status != 429 {
				t.Errorf("%v %+v, want a refusal", err, a)
			}
			m.balanced()
			b := startBackend(t, m.host+":24317", nil)
			b.await(t, old)
			m.ends(200)
		})
	}
}
