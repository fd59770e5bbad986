// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
	"github.com/holdfast-telemetry/holdfast/internal/loadgen"
)

// committed starts a shift and waits until its text is the good one on disk.
func committed(t *testing.T) *shift {
	t.Helper()
	s := newJudged(t, alone, onDisk)
	s.with("TRIAL", "1s")
	s.start(judged)
	s.p.await("Config committed")
	return s
}

func (s *shift) restart() {
	s.t.Helper()
	s.begin()
	s.p.await("Everything is ready")
}

func (s *shift) deliversSome(run string) {
	s.t.Helper()
	sum, failed := s.send(loadgen.Options{Run: run, Signals: []item.Signal{item.Traces}, Producers: 1, Requests: 5, Items: 10,
		ItemBytes: 50})()
	if len(failed) > 0 || sum.Acked != 50 {
		s.t.Fatalf("%+v %q", sum, failed)
	}
}

// Fault: C6. A process that is killed twice during a trial starts for the third time with what ran before, says why, and
// goes on with it until another text is offered.
func TestTwoKillsInATrialAreARollback(t *testing.T) {
	t.Parallel()
	s := committed(t)
	s.with("TRIAL", "100s") // its own wish; what governs its trial is the one before
	s.with("TOKEN", "new")
	s.deliversSome("kills")
	s.write(judged)
	s.p.signal(syscall.SIGHUP)
	for _, source := range []string{"SIGHUP", "start"} {
		s.p.await(`Config switched, trial begins.*"source": "` + source + `"`)
		s.deliversSome("kills")
		s.p.signal(syscall.SIGKILL)
		s.p.exit()
		s.begin()
	}
	s.p.await("Everything is ready")
	s.p.await(`error\t.*Config rolled back\t.*"reason": "crash_loop".*the process ended twice while it was on trial`)
	s.deliversSome("kills")
	if v := s.value("holdfast_config_drift"); v != 1 {
		t.Errorf("holdfast_config_drift is %v", v)
	}
	if o := s.tell("config", "history"); !strings.Contains(o.stdout, "crash_loop") {
		t.Errorf("config history: %s", o.stdout)
	}
	if o := s.tell("status"); o.code != 1 || !strings.Contains(o.stdout, "ended twice") {
		t.Errorf("status: exit code %d: %s", o.code, o.stdout)
	}
	s.becomes(judged, 1, `^rejected held until another text is offered`)
	s.p.signal(syscall.SIGKILL) // of a good configuration: no crash is held against it
	s.p.exit()
	s.restart()
	s.with("TOKEN", "newer")
	s.becomes(judged, 0, `^committed`)
	bound := int64(200) // whatever was sent when it was killed
	s.passes(ledger.Options{MaxDuplicates: &bound})
}

// Fault: C1. A file that is broken while the process is down keeps it from nothing, if there is a good one.
func TestABrokenFileAtBootRunsTheGoodOne(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, add, words string }{
		{"syntax", "  : [", `config.yaml:\d+`},
		{"unknown key", "  nonsense: true\n", `nonsense`},
		{"cannot start", "  extensions: [file_storage, pprof]\nextensions: {file_storage: {directory: \"$DIR/queue\"}, pprof: {endpoint: \"256.0.0.1:1\"}}\n", `.`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := committed(t)
			if code := s.p.stop(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			bad := judged + c.add
			if c.name == "cannot start" {
				bad = strings.Replace(judged, "14317\"", "14317\"", 1)
				bad = strings.Replace(bad, "extensions: {file_storage: {directory: \"$DIR/queue\"}}",
					"extensions: {file_storage: {directory: \"$DIR/queue\"}, pprof: {endpoint: \"192.0.2.1:1\"}}", 1)
				bad = strings.Replace(bad, "extensions: [file_storage]", "extensions: [file_storage, pprof]", 1)
			}
			s.write(bad)
			s.restart()
			s.p.await(`error\t.*Config rejected\t.*"source": "start".*` + c.words)
			s.deliversSome("broken")
			if v := s.value("holdfast_config_drift"); v != 1 {
				t.Errorf("holdfast_config_drift is %v", v)
			}
			if o := s.tell("status"); o.code != 1 {
				t.Errorf("status: exit code %d", o.code)
			}
			s.becomes(judged, 0, `^unchanged`)
			if v := s.value("holdfast_config_drift"); v != 0 {
				t.Errorf("holdfast_config_drift is %v when the file is mended", v)
			}
			s.passes(ledger.Options{})
		})
	}
}

func TestABrokenFileAtBootWithoutAGoodOneEndsTheProcess(t *testing.T) {
	t.Parallel()
	s := newJudged(t, alone, onDisk)
	s.write(judged + "  nonsense: true\n")
	o := runOnce(t, "", nil, "--config", s.config, "--state-dir", s.state, "--implicit-health=off")
	if o.code != 1 || !strings.Contains(o.stderr, "nonsense") {
		t.Errorf("exit code %d: %s", o.code, o.stderr)
	}
}

// A good configuration may ask for the old ways.
func TestABrokenFileAtBootEndsTheProcessIfAskedTo(t *testing.T) {
	t.Parallel()
	s := newJudged(t, alone, onDisk)
	text := strings.Replace(judged, "reload: {", "reload: {on_bad_boot: fail, ", 1)
	s.with("TRIAL", "1s")
	s.start(text)
	s.p.await("Config committed")
	s.p.stop()
	s.write(text + "  nonsense: true\n")
	o := runOnce(t, "", nil, "--config", s.config, "--state-dir", s.state, "--implicit-health=off")
	if o.code != 1 || !strings.Contains(o.stderr, "nonsense") {
		t.Errorf("exit code %d: %s", o.code, o.stderr)
	}
}

// Fault: C10. A damaged store costs at most what was stored last: the one before, then the file, then a clear error.
func TestADamagedStoreStartsWhatIsLeft(t *testing.T) {
	t.Parallel()
	s := committed(t)
	s.with("TOKEN", "second")
	s.becomes(judged, 0, `^committed`)
	s.p.stop()
	files, err := filepath.Glob(filepath.Join(s.state, "config", "*", "good-*.json"))
	if err != nil || len(files) != 2 {
		t.Fatalf("%q: %v", files, err)
	}
	damage := func(path string) {
		t.Helper()
		text, err := os.ReadFile(path)
		must(t, err)
		text[len(text)/2] ^= 1
		replace(t, path, text)
	}
	damage(files[1])
	s.write(judged + "  nonsense: true\n")
	s.restart() // with the first
	s.p.await(`good-\d+.json`)
	s.deliversSome("damage")
	s.p.stop()
	damage(files[0])
	o := runOnce(t, "", nil, "--config", s.config, "--state-dir", s.state, "--implicit-health=off")
	if o.code != 1 || !regexp.MustCompile(`error: .*nonsense`).MatchString(o.stderr) {
		t.Errorf("exit code %d: %s", o.code, o.stderr)
	}
	s.write(judged)
	s.restart()
	s.deliversSome("damage")
	s.passes(ledger.Options{})
}
