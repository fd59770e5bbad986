// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/status"
)

// shownLevels is a connector over two backends that come and go.
const shownLevels = `
receivers: {otlp: {protocols: {http: {endpoint: "$HOST:4318"}}}}
exporters:
  otlp/primary:
    endpoint: "$PRIMARY"
    tls: {insecure: true}
    timeout: 2s
    sending_queue: {queue_size: 500}
  otlp/secondary: {endpoint: "$SECONDARY", tls: {insecure: true}, timeout: 2s}
connectors:
  failover:
    priority_levels: [[otlp/primary], [otlp/secondary]]
    retry_interval: 2s
    retry_gap: 1500ms
service:
  telemetry: {metrics: {level: none}}
  pipelines:
    traces: {receivers: [otlp], exporters: [failover]}
`

// instance is a running process and the commands that ask it.
type instance struct {
	t     *testing.T
	p     *process
	state string
	hash  string
	host  string
}

func newInstance(t *testing.T, config string, values map[string]string) *instance {
	t.Helper()
	path := writeConfig(t, config, values)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(text)
	i := &instance{t: t, state: filepath.Join(t.TempDir(), "state"), hash: hex.EncodeToString(sum[:]), host: values["HOST"]}
	i.p = start(t, "--config", path, "--implicit-health=off", "--state-dir", i.state)
	i.p.await("Everything is ready")
	return i
}

func (i *instance) ask(args ...string) outcome {
	i.t.Helper()
	return runOnce(i.t, "", nil, append(args, "--state-dir", i.state)...)
}

// awaitStatus waits until the status is as it should be.
func (i *instance) awaitStatus(what string, ok func(*status.Status) bool) *status.Status {
	i.t.Helper()
	var s status.Status
	eventually(i.t, what, func() bool {
		s = status.Status{}
		o := i.ask("status", "--json")
		return json.Unmarshal([]byte(o.stdout), &s) == nil && ok(&s)
	})
	return &s
}

func TestStatusAndFailoverCommandsFollowAnOutage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	primary, secondary := sink(t, dir, "primary"), sink(t, dir, "secondary")
	i := newInstance(t, shownLevels, map[string]string{
		"HOST": ownHost(t), "PRIMARY": primary.GRPCAddr(), "SECONDARY": secondary.GRPCAddr(),
	})
	n := 0
	send := func() {
		n++
		mustPost(t, "http://"+i.host+":4318/v1/traces", protobufType, wire(t, spans(numbered("s"+strings.Repeat("x", n), 3))))
	}
	send()
	s := i.awaitStatus("delivered", func(s *status.Status) bool { return s.Books.Delivered == 3 })
	if s.Verdict != "ok" || s.Books.Difference != 0 || len(s.Failover) != 1 || s.Config.Running.SHA256 != i.hash {
		t.Errorf("at first: %+v", s)
	}
	for _, tc := range []struct {
		name string
		args []string
		code int
		out  string
	}{
		{"status is ok", []string{"status"}, 0, "OK  holdfast "},
		{"it runs what is expected", []string{"status", "--expect", i.hash}, 0, i.hash[:12]},
		{"the first digits will do", []string{"status", "--expect", i.hash[:8]}, 0, ""},
		{"something else is expected", []string{"status", "--expect", strings.Repeat("0", 64)}, 1, ""},
		{"show has the levels", []string{"failover", "show", "failover"}, 0, "data goes to level 0"},
		{"an unknown connector is refused", []string{"failover", "show", "failovr"}, 1, ""},
		{"a level that carries is checked", []string{"failover", "probe", "failover", "0"}, 0, "good; now healthy"},
		{"an unknown level is refused", []string{"failover", "probe", "failover", "7"}, 1, ""},
	} {
		if o := i.ask(tc.args...); o.code != tc.code || !strings.Contains(o.stdout, tc.out) {
			t.Errorf("%s: exit code %d, want %d\n%s%s", tc.name, o.code, tc.code, o.stdout, o.stderr)
		}
	}

	if _, err := os.Lstat(filepath.Join(i.state, "admin.sock")); err != nil {
		t.Error(err)
	}
	rule, err := primary.AddFault("refuse")
	if err != nil {
		t.Fatal(err)
	}
	send()
	s = i.awaitStatus("level 0 is down, and data goes to level 1", func(s *status.Status) bool {
		return s.Failover[0].ActiveLevel == 1 && s.Failover[0].Levels[0].State == "down" && s.Books.Delivered == 6
	})
	m := s.Failover[0].Levels[0].Members[0]
	if s.Verdict != "degraded" || m.Reason == "none" || m.Evidence.Strikes == 0 || m.Evidence.Error == "" || m.ReturnsWhen == "" {
		t.Errorf("in the outage: %s, %+v", s.Verdict, m)
	}
	if o := i.ask("status"); o.code != 1 || !strings.Contains(o.stdout, "level 0 (otlp/primary) is ") {
		t.Errorf("status in the outage: exit code %d\n%s", o.code, o.stdout)
	}
	if o := i.ask("failover", "show"); o.code != 0 || !strings.Contains(o.stdout, "returns with") {
		t.Errorf("show in the outage: exit code %d\n%s%s", o.code, o.stdout, o.stderr)
	}
	if o := i.ask("failover", "probe", "failover", "0"); o.code != 1 || !strings.Contains(o.stdout, "not good: ") {
		t.Errorf("probe in the outage: exit code %d\n%s%s", o.code, o.stdout, o.stderr)
	}

	if !primary.RemoveFault(rule) {
		t.Fatal("the fault is gone by itself")
	}
	if o := i.ask("failover", "probe", "failover", "0", "--json"); o.code != 0 || !strings.Contains(o.stdout, `"good": true`) {
		t.Errorf("probe after it: exit code %d\n%s%s", o.code, o.stdout, o.stderr)
	}
	i.awaitStatus("home again", func(s *status.Status) bool {
		send()
		return s.Failover[0].ActiveLevel == 0
	})
	i.p.await("Failover: level is back")
	for _, tc := range []struct {
		args []string
		code int
		said string
	}{
		{[]string{"hold", "failover", "0", "--for", "30m"}, 0, "held for 30m0s"},
		{[]string{"hold", "failover", "1", "--for", "30m"}, 1, "by force only"},
		{[]string{"show"}, 0, "data goes to level 1"},
		{[]string{"probe", "failover", "0"}, 1, "it is held"},
		{[]string{"release", "failover", "0"}, 0, "released"},
		{[]string{"release", "failover", "0"}, 1, "nothing is held"},
	} {
		if o := i.ask(append([]string{"failover"}, tc.args...)...); o.code != tc.code || !strings.Contains(o.stdout+o.stderr, tc.said) {
			t.Errorf("failover %v: exit code %d, want %d\n%s%s", tc.args, o.code, tc.code, o.stdout, o.stderr)
		}
	}
	i.p.await("Failover: hold")
	i.p.await("Failover: release")
	if code := i.p.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if o := i.ask("status"); o.code != 4 {
		t.Errorf("status without a process: exit code %d\n%s", o.code, o.stderr)
	}
	if _, err := os.Stat(filepath.Join(i.state, "admin.sock")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left in the state directory: %v", err)
	}
}

// With all levels down it is unhealthy, for delivery; the process is well, and says what it holds.
func TestStatusIsUnhealthyWithAllLevelsDown(t *testing.T) {
	t.Parallel()
	host := ownHost(t)
	i := newInstance(t, shownLevels, map[string]string{"HOST": host, "PRIMARY": host + ":1", "SECONDARY": host + ":2"})
	mustPost(t, "http://"+host+":4318/v1/traces", protobufType, wire(t, spans(numbered("s", 5))))
	s := i.awaitStatus("all levels down", func(s *status.Status) bool { return s.Failover[0].AllDown })
	if s.Verdict != "unhealthy" || s.Failover[0].ActiveLevel != -1 || s.Books.Queued != 5 {
		t.Errorf("%s, level %d, books %+v", s.Verdict, s.Failover[0].ActiveLevel, s.Books)
	}
	if o := i.ask("status"); o.code != 2 || !strings.Contains(o.stdout, "all levels are down, data is held: 5 items") {
		t.Errorf("exit code %d\n%s%s", o.code, o.stdout, o.stderr)
	}
}

func TestASecondProcessLeavesTheSocketToTheFirst(t *testing.T) {
	t.Parallel()
	host := ownHost(t)
	first := newInstance(t, shownLevels, map[string]string{"HOST": host, "PRIMARY": host + ":1", "SECONDARY": host + ":2"})
	other := ownHost(t)
	path := writeConfig(t, shownLevels, map[string]string{"HOST": other, "PRIMARY": other + ":1", "SECONDARY": other + ":2"})
	second := start(t, "--config", path, "--implicit-health=off", "--state-dir", first.state)
	second.await("Everything is ready")
	second.await("Admin socket not served: commands reach the other process")
	if code := second.stop(); code != 0 {
		t.Errorf("exit code of the second %d", code)
	}
	s := first.awaitStatus("the first one answers", func(*status.Status) bool { return true })
	if s.PID != first.p.cmd.Process.Pid {
		t.Errorf("process %d answers, want %d", s.PID, first.p.cmd.Process.Pid)
	}
}

func TestASocketOfAKilledProcessIsReplaced(t *testing.T) {
	t.Parallel()
	host := ownHost(t)
	values := map[string]string{"HOST": host, "PRIMARY": host + ":1", "SECONDARY": host + ":2"}
	first := newInstance(t, shownLevels, values)
	first.p.signal(syscall.SIGKILL)
	<-first.p.done
	if o := first.ask("status"); o.code != 4 || !strings.Contains(o.stderr, "has ended") {
		t.Errorf("asking a killed process: exit code %d\n%s", o.code, o.stderr)
	}
	again := start(t, "--config", writeConfig(t, shownLevels, values), "--implicit-health=off", "--state-dir", first.state)
	again.await("Everything is ready")
	if o := first.ask("status", "--json"); o.code == 4 {
		t.Errorf("asking its successor: exit code %d\n%s", o.code, o.stderr)
	}
}
