// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
	"github.com/holdfast-telemetry/holdfast/internal/loadgen"
)

// numberedText has its number $N in every part of it, and shows it: in the budget of the service, in the queues of both
// exporters, and in the port of a receiver.
const numberedText = `
receivers:
  otlp: {protocols: {grpc: {endpoint: "$HOST:4317"}, http: {endpoint: "$HOST:4318"}}}
  otlp/extra: {protocols: {grpc: {endpoint: "$HOST:$EXTRA"}}}
exporters:
  otlp/a:
    endpoint: "$HOST:$PORT"
    tls: {insecure: true}
    timeout: 2s
    retry_on_failure: {initial_interval: 100ms, max_interval: 500ms}
    sending_queue: {storage: file_storage, queue_size: 10$N}
  otlp/b:
    endpoint: "$HOST:24317"
    tls: {insecure: true}
    retry_on_failure: {initial_interval: 100ms, max_interval: 500ms}
    sending_queue: {storage: file_storage, queue_size: 10$N}
extensions: {file_storage: {directory: "$DIR/queue"}}
service:
  reload: {trial: $TRIAL, preflight: off}
  admission: {limit_mib: $N}
  extensions: [file_storage]
  telemetry: {metrics: {address: "$HOST:8888"}}
  pipelines: {traces: {receivers: [otlp, otlp/extra], exporters: [otlp/a, otlp/b]}}
`

// reloadKills is a run in which the process is killed around reloads.
type reloadKills struct {
	*shift
	random *rand.Rand
	texts  map[int]string // by number, as they lie on disk
	runs   int            // the number that was committed last
	lives  int
	ends   map[string]int
}

const firstNumber = 200 // three digits: the budget in MiB

// offer writes the text of a number. Bad ones lead to a backend that takes nobody's token. patient ones give the next
// trial time.
func (k *reloadKills) offer(n int, bad, patient bool) {
	k.t.Helper()
	k.with("N", strconv.Itoa(n))
	k.with("EXTRA", extraPort(n))
	k.with("PORT", "14317")
	if bad {
		k.with("PORT", "34317")
	}
	k.with("TRIAL", "500ms")
	if patient {
		k.with("TRIAL", "20s")
	}
	k.write(numberedText)
	text, err := os.ReadFile(k.config)
	must(k.t, err)
	k.texts[n] = string(text)
}

func extraPort(n int) string { return strconv.Itoa(5317 + n%2) }

// whole reads the number of what runs from every place that shows it, and waits until they agree: a page that is read while a
// generation takes over is of both. The number is one of those that may run.
func (k *reloadKills) whole(may ...int) (n int) {
	k.t.Helper()
	for wrong, limit := "-", time.Now().Add(patience); wrong != ""; {
		if n, wrong = k.read(); wrong != "" && time.Now().After(limit) {
			k.t.Fatalf("a mixture runs: %s", wrong)
		}
	}
	if !slices.Contains(may, n) {
		k.t.Fatalf("%d runs, none of %v", n, may)
	}
	return n
}

func (k *reloadKills) read() (n int, wrong string) {
	k.t.Helper()
	series := scrapeAt(k.t, k.host+":8888")
	n = int(value(k.t, series, "holdfast_door_admission_limit_bytes")) >> 20
	for _, x := range []string{"otlp/a", "otlp/b"} {
		if v := value(k.t, series, "otelcol_exporter_queue_capacity", "exporter", x); int(v) != 10000+n {
			return n, fmt.Sprintf("the budget is that of %d, and the queue of %s has %v places", n, x, v)
		}
	}
	sum := sha256.Sum256([]byte(k.texts[n]))
	if !slices.ContainsFunc(slices.Collect(maps.Keys(series)), func(key string) bool {
		return strings.HasPrefix(key, "holdfast_config_info{") && strings.Contains(key, hex.EncodeToString(sum[:]))
	}) {
		return n, fmt.Sprintf("the budget is that of %d, and holdfast_config_info does not say so", n)
	}
	c, err := net.DialTimeout("tcp", k.host+":"+extraPort(n), patience)
	if err != nil {
		return n, fmt.Sprintf("the budget is that of %d: %v", n, err)
	}
	_ = c.Close()
	return n, ""
}

// settled waits until what runs is the good one on disk, and reports its number.
func (k *reloadKills) settled(may ...int) int {
	k.t.Helper()
	eventuallyWithin(k.t, 2*patience, "what runs is committed", func() bool {
		s := scrapeAt(k.t, k.host+":8888")
		return value(k.t, s, "holdfast_config_generation", "which", "running") == value(k.t, s, "holdfast_config_generation", "which", "good") &&
			value(k.t, s, "holdfast_config_trial_remaining_seconds") == 0
	})
	return k.whole(may...)
}

// kill ends the process at a random instant, most of them in the time in which much happens, and starts it again. asked
// says that a reload was asked for; else it is killed in what its start does.
func (k *reloadKills) kill(asked bool) {
	k.t.Helper()
	span := 1500 * time.Millisecond
	switch n := k.random.IntN(4); {
	case n == 0 && asked:
		k.p.await(`Config switched, trial begins.*"source": "SIGHUP"`)
		span = 30 * time.Millisecond
	case n == 1 && asked:
		k.p.await(`Config (committed|rolled back).*"source": "SIGHUP"`)
		span = 10 * time.Millisecond
	case n == 2:
		span = 400 * time.Millisecond // reading and preparing
	}
	t := time.NewTimer(time.Duration(k.random.Int64N(int64(span))))
	defer t.Stop()
	select {
	case <-t.C:
	case <-k.p.done:
		k.t.Fatalf("the process ended by itself:\n%s", k.p.output())
	}
	k.p.signal(syscall.SIGKILL)
	k.p.exit()
	k.ends[endedIn(k.p.output(), asked)]++
	k.begin()
	k.lives++
	k.p.await("Everything is ready")
}

// endedIn says how far the life that ended had got with what it was offered last.
func endedIn(log string, asked bool) string {
	source := `"source": "start"`
	if asked {
		source = `"source": "SIGHUP"`
	}
	far := "loading or preparing"
	for line := range strings.Lines(log) {
		switch {
		case !strings.Contains(line, source):
		case strings.Contains(line, "trial begins"):
			far = "trial"
		case strings.Contains(line, "Config committed"):
			far = "committed"
		case strings.Contains(line, "Config rolled back"):
			far = "rolled back"
		}
	}
	return far
}

// Fault: C6. The process is killed at random instants around reloads: while it loads, prepares, switches, tries, commits and
// rolls back. Every start runs the old configuration or the new one, whole, and says which; the store is never damaged; what
// was acknowledged arrives. A configuration that delivers nothing is taken back although the process was killed in its trial.
// HOLDFAST_KILLS says how often, HOLDFAST_SEED makes the instants those of another run.
func TestKilledAroundAReloadRunsOldOrNewWhole(t *testing.T) {
	t.Parallel()
	kills := uint64(6)
	if os.Getenv("HOLDFAST_LONG") != "" {
		kills = 50
	}
	kills = env(t, "HOLDFAST_KILLS", kills)
	seed := env(t, "HOLDFAST_SEED", uint64(os.Getpid()))
	t.Logf("again: HOLDFAST_KILLS=%d HOLDFAST_SEED=%d", kills, seed)
	k := &reloadKills{shift: newShift(t), random: rand.New(rand.NewPCG(seed, 1)), texts: map[int]string{}, ends: map[string]int{}} //nolint:gosec // instants
	k.sink("a", "14317")
	k.sink("b", "24317")
	sealed := startSink(t, t.TempDir(), "sealed", k.host+":34317")
	must(t, sealed.SetFaults("status:UNAUTHENTICATED"))
	rounds := int(kills)
	bad := make([]bool, rounds+2) // by round, whether what is offered delivers nothing
	for i := range bad {
		bad[i] = i%4 == 2
	}
	number := firstNumber
	k.offer(number, false, bad[0])
	k.begin()
	k.p.await("Everything is ready")
	k.p.await("Config committed")
	k.runs = number
	stop := k.send(loadgen.Options{Run: "reloadkills", Signals: []item.Signal{item.Traces}, Producers: 2, Items: 10, ItemBytes: 50,
		Rate: 400, Want: "each:a,b", Timeout: 5 * time.Second})
	held := 0
	for i := 0; k.lives < rounds; i++ {
		eventually(t, "the running one delivers", func() bool {
			return value(t, scrapeAt(t, k.host+":8888"), "holdfast_ledger_delivered_items_total", "destination", "otlp/a") > 20
		})
		number++
		was := k.runs
		k.offer(number, bad[i%len(bad)], bad[(i+1)%len(bad)])
		k.p.signal(syscall.SIGHUP)
		k.kill(true)
		k.whole(was, number)
		twice := k.random.IntN(4) == 0 && k.lives < rounds
		if twice {
			k.kill(false)
			k.whole(was, number)
		}
		switch k.runs = k.settled(was, number); {
		case bad[i%len(bad)] && k.runs != was:
			t.Errorf("round %d: a configuration that delivers nothing was kept", i)
		case !bad[i%len(bad)] && k.runs == was && !strings.Contains(k.p.output(), "crash_loop"):
			t.Errorf("round %d: the old one runs, and nobody says why:\n%s", i, k.p.output())
		case !bad[i%len(bad)] && k.runs == was:
			held++
		}
	}
	t.Logf("%d kills: %v; %d times held after two of them", k.lives, k.ends, held)
	if found, err := filepath.Glob(filepath.Join(k.state, "config", "*", "bad")); err != nil || len(found) > 0 {
		t.Errorf("the store was damaged: %q %v", found, err)
	}
	if o := k.tell("config", "history"); o.code != 0 || !strings.Contains(o.stdout, "committed") {
		t.Errorf("config history: exit code %d: %s%s", o.code, o.stdout, o.stderr)
	}
	sum, _ := stop()
	if sum.Acked < uint64(rounds)*100 {
		t.Errorf("%d items were acknowledged: this test shows nothing", sum.Acked)
	}
	bound := int64(rounds) * duplicatesPerCrash(400)
	k.passes(ledger.Options{MaxDuplicates: &bound})
}
