// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
	"github.com/holdfast-telemetry/holdfast/internal/loadgen"
	"github.com/holdfast-telemetry/holdfast/internal/mockbackend"
)

// healthScript is the second seed's script, as it is written.
const healthScript = "../compat/seeds/001-04-adding-health-check-logic.py"

// requests stands for the library of that name, which is not everywhere.
const requests = `
import urllib.request

class RequestException(Exception):
    pass

class _Response:
    def __init__(self, status_code):
        self.status_code = status_code

def get(url, timeout=None):
    try:
        with urllib.request.urlopen(url, timeout=timeout) as r:
            return _Response(r.status)
    except urllib.error.HTTPError as e:
        return _Response(e.code)
    except OSError as e:
        raise RequestException(e)
`

const scripted = `
receivers: {otlp: {protocols: {grpc: {endpoint: "$HOST:4317"}, http: {endpoint: "$HOST:4318"}}}}
exporters:
  otlp/$NAME:
    endpoint: "$HOST:$PORT"
    tls: {insecure: true}
    retry_on_failure: {initial_interval: 100ms, max_interval: 500ms}
    sending_queue: {storage: file_storage}
extensions: {file_storage: {directory: "$DIR/queue"}}
service:
  reload: {trial: $TRIAL}
  extensions: [file_storage]
  telemetry: {metrics: {address: "$HOST:8888"}}
  pipelines: {traces: {receivers: [otlp], exporters: [otlp/$NAME]}}
`

// The second seed's script switches a running process between its two files with cp and SIGHUP, for as long as it likes.
// With the primary gone, what waits for it parks, and it gets it when it is back.
func TestTheHealthScriptSwitchesARunningProcess(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not here: the seeds' script is not shown to work")
	}
	least, length, trial := 2, time.Duration(0), "2s"
	if os.Getenv("HOLDFAST_LONG") != "" {
		length, trial = 10*time.Minute, "1s" // some changes come within a trial, some after it
	}
	var sick atomic.Bool
	health := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if sick.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(health.Close)

	s := newShift(t)
	s.values["TRIAL"] = trial
	active := s.config
	for name, port := range map[string]string{"primary": "14317", "secondary": "24317"} {
		s.values["NAME"], s.values["PORT"] = name, port
		s.config = filepath.Join(s.base, "config-"+name+".yaml")
		s.write(scripted)
	}
	s.config = active
	primary, secondary := s.sink("primary", "14317"), s.sink("secondary", "24317")
	text, err := os.ReadFile(filepath.Join(s.base, "config-primary.yaml"))
	must(t, err)
	replace(t, active, text)
	pid := filepath.Join(s.base, "run", "pid")
	s.begin("--pid-file", pid)
	s.p.await("Everything is ready")

	script, err := os.ReadFile(healthScript)
	must(t, err)
	adapted := string(script)
	for _, r := range [][2]string{
		{"https://primary-backend.example.com/health", health.URL + "/health"},
		{"/var/run/otelcol/pid", pid},
		{"/etc/otelcol/config-primary.yaml", filepath.Join(s.base, "config-primary.yaml")},
		{"/etc/otelcol/config-secondary.yaml", filepath.Join(s.base, "config-secondary.yaml")},
		{"/etc/otelcol/config.yaml", active},
		{"time.sleep(30)", "time.sleep(0.3)"},
	} {
		if strings.Count(adapted, r[0]) != 1 {
			t.Fatalf("the script has %q %d times", r[0], strings.Count(adapted, r[0]))
		}
		adapted = strings.Replace(adapted, r[0], r[1], 1)
	}
	library := t.TempDir()
	replace(t, filepath.Join(library, "requests.py"), []byte(requests))
	path := replace(t, filepath.Join(s.base, "health_check_failover.py"), []byte(adapted))
	cmd := exec.Command(python, path)
	cmd.Env = append(os.Environ(), "PYTHONPATH="+library, "PYTHONDONTWRITEBYTECODE=1")
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	must(t, cmd.Start())
	gone := make(chan error, 1)
	go func() { gone <- cmd.Wait() }()
	ended := false
	end := func() {
		if !ended {
			ended = true
			_ = cmd.Process.Kill()
			<-gone
		}
	}
	t.Cleanup(end)

	stop := s.send(loadgen.Options{Run: "script", Signals: []item.Signal{item.Traces}, Producers: 2, Items: 10, ItemBytes: 50,
		Rate: 500})
	grows := func(b tracesOf) {
		t.Helper()
		from := b.stored()
		eventually(t, "data reaches the backend", func() bool { return b.stored() > from+50 })
	}
	one, two := tracesOf{primary.State}, tracesOf{secondary.State}
	began := time.Now()
	rounds, cuts := 0, []cut(nil)
	for ; rounds < least || time.Since(began) < length; rounds++ {
		grows(one)
		from := time.Now()
		heal := faultyAt(t, primary, "refuse")
		cuts = append(cuts, cut{from, time.Now()})
		sick.Store(true)
		grows(two)
		heal()
		sick.Store(false)
		grows(one)
	}
	select {
	case err := <-gone:
		ended = true
		t.Fatalf("the script ended: %v\n%s", err, out.String())
	default:
	}
	if _, failed := stop(); len(failed) > 0 {
		t.Errorf("%d attempts failed: %q", len(failed), failed[0])
	}
	parked := func(id string) (n float64) {
		for key, v := range scrapeAt(t, s.host+":8888") {
			if strings.HasPrefix(key, "holdfast_ledger_parked_items") && strings.Contains(key, id) {
				n += v
			}
		}
		return n
	}
	if parked("otlp/secondary") > 0 { // accepted as it was left the last time: it is chosen once more
		sick.Store(true)
		eventually(t, "the secondary has what was parked for it", func() bool { return parked("otlp/secondary") == 0 })
		sick.Store(false)
		eventually(t, "the primary is chosen again", func() bool { return primaryChosen(t, active) })
	}
	end()
	t.Logf("%d times there and back in %s", rounds, time.Since(began).Round(time.Second))
	eventually(t, "the primary has what was parked for it", func() bool { return parked("otlp/primary") == 0 })
	n := s.ends()
	f := flights{t: t, consumers: 10, cuts: cuts}
	f.read(n, "primary")
	t.Log(f.String())
	bound := f.again()
	if f.oldest > 5*time.Second { // the timeout of an attempt
		t.Errorf("what came again had been there %s before the cut", f.oldest)
	}
	s.judged(n, ledger.Options{MaxDuplicates: &bound})
}

// tracesOf counts what a backend has.
type tracesOf struct{ state func() mockbackend.State }

func (x tracesOf) stored() uint64 { return x.state().Stored["traces"] }

// primaryChosen reports whether the script has put the primary's file into place.
func primaryChosen(t *testing.T, active string) bool {
	t.Helper()
	text, err := os.ReadFile(active)
	must(t, err)
	return strings.Contains(string(text), "exporters: [otlp/primary]")
}
