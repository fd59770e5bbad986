// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"math"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
	"github.com/holdfast-telemetry/holdfast/internal/loadgen"
)

// changeable has every kind of door, a queue on disk, and levels. $MIB is changed to change the receivers, $TIMEOUT the
// exporters, $LEVELS the order of the levels.
const changeable = `
receivers:
  otlp:
    protocols:
      grpc: {endpoint: "$HOST:4317", max_recv_msg_size_mib: $MIB}
      http: {endpoint: "$HOST:4318", max_request_body_size: ${MIB}000000}
  otlp/tls:
    protocols:
      grpc: {endpoint: "$HOST:5317", max_recv_msg_size_mib: $MIB, tls: {cert_file: "$CERT", key_file: "$KEY"}}
      http: {endpoint: "$HOST:5318", max_request_body_size: ${MIB}000000, tls: {cert_file: "$CERT", key_file: "$KEY"}}
exporters:
  otlp/primary: {endpoint: "$HOST:14317", tls: {insecure: true}, timeout: $TIMEOUT, sending_queue: {storage: file_storage}}
  otlp/secondary: {endpoint: "$HOST:24317", tls: {insecure: true}, timeout: $TIMEOUT, sending_queue: {storage: file_storage}}
connectors:
  failover/traces: {priority_levels: $LEVELS, retry_interval: 1s, retry_gap: 200ms}
extensions: {file_storage: {directory: "$DIR/queue"}}
service:
  reload: {trial: 500ms}
  extensions: [file_storage]
  telemetry: {metrics: {address: "$HOST:8888"}}
  pipelines:
    traces: {receivers: [otlp, otlp/tls], exporters: [failover/traces]}
    traces/primary: {receivers: [failover/traces], exporters: [otlp/primary]}
    traces/secondary: {receivers: [failover/traces], exporters: [otlp/secondary]}
`

// shifts are the texts of a configuration that changes: what is n-th is different from what was before in one respect.
type shifts struct {
	mib, seconds int
	swapped      bool
}

// next changes one thing, and names it.
func (x *shifts) next(n int) string {
	switch n % 4 {
	case 0:
		return "unchanged"
	case 1:
		x.seconds++
		return "exporters"
	case 2:
		x.mib++
		return "receivers"
	}
	x.swapped = !x.swapped
	return "levels"
}

func (x *shifts) into(values map[string]string) {
	values["MIB"], values["TIMEOUT"] = strconv.Itoa(x.mib), fmt.Sprintf("%ds", x.seconds)
	values["LEVELS"] = "[[traces/primary], [traces/secondary]]"
	if x.swapped {
		values["LEVELS"] = "[[traces/secondary], [traces/primary]]"
	}
}

// dialer connects anew all the time and counts who is not let in.
type dialer struct {
	mu      sync.Mutex
	dials   int
	refused []string
}

// run dials every address in turn until stop is closed.
func (d *dialer) run(addrs []string, every time.Duration, stop <-chan struct{}) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		conn, err := net.DialTimeout("tcp", addrs[i%len(addrs)], patience)
		d.mu.Lock()
		d.dials++
		if err != nil {
			d.refused = append(d.refused, time.Now().Format("15:04:05.000 ")+err.Error())
		}
		d.mu.Unlock()
		if err == nil {
			_ = conn.Close()
		}
	}
}

// answerTimes are the times of answers, by what went on when their request began.
type answerTimes struct {
	mu   sync.Mutex
	now  string
	n    int
	took map[string][]time.Duration
}

func (a *answerTimes) add(_ time.Time, took time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.n++
	a.took[a.now] = append(a.took[a.now], took)
}

// during says what goes on from now on.
func (a *answerTimes) during(what string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.now = what
}

// so far: how many answers there were.
func (a *answerTimes) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.n
}

// quantile is the time within which a share of the answers came of those whose word matches, in milliseconds.
func (a *answerTimes) quantile(share float64, match func(what string) bool) float64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []time.Duration
	for what, took := range a.took {
		if match(what) {
			all = append(all, took...)
		}
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return float64(all[min(int(share*float64(len(all))), len(all)-1)].Microseconds()) / 1000
}

// quietAnswers is how many answers come between two rounds of reloads; then the next round begins.
const quietAnswers = 500

// Fault: C4, C1. Whatever a reload changes, and however many of them are refused, no client notices: over gRPC and
// HTTP/1.1, with TLS and without, on old connections and new ones. Rounds of five reloads and quiet times take turns under one
// load, so that both meet the same machine: what other work there is on it slows both.
func TestReloadsUnderLoadAreNoticedByNobody(t *testing.T) {
	rounds := 2
	if os.Getenv("HOLDFAST_LONG") != "" {
		rounds = 20
	}
	s := newShift(t)
	ca := newAuthority(t, "test")
	files := ca.issue(t, identity{names: []string{s.host}}).write(t, s.base, "server")
	s.values["CERT"], s.values["KEY"] = files.cert, files.key
	x := shifts{mib: 10, seconds: 10}
	x.into(s.values)
	s.sink("primary", "14317")
	s.sink("secondary", "24317")
	s.start(changeable)

	var d dialer
	halt := make(chan struct{})
	var dialing sync.WaitGroup
	for _, port := range []string{"4317", "4318", "5317", "5318"} {
		dialing.Go(func() { d.run([]string{s.host + ":" + port}, 4*time.Millisecond, halt) })
	}
	times := answerTimes{took: map[string][]time.Duration{}}
	times.during("start")
	ended := s.send(loadgen.Options{
		Run: "reloads", To: []string{"grpc://" + s.host + ":4317", "http://" + s.host + ":4318", "grpcs://" + s.host + ":5317",
			"https://" + s.host + ":5318"},
		Signals: []item.Signal{item.Traces}, CAPEM: ca.PEM, Producers: 8, Items: 20, ItemBytes: 100, Rate: 4000,
		Timed: times.add,
	})
	answers := func(n int) {
		t.Helper()
		n += times.count()
		eventuallyWithin(t, 4*patience, "answers come", func() bool { return times.count() >= n })
	}
	answers(quietAnswers)
	count := map[string]int{}
	for n := range 5 * rounds {
		if n%5 == 0 {
			times.during("quiet")
			answers(quietAnswers)
		}
		if n%5 == 4 {
			times.during("refused")
			s.becomes(changeable+"  nonsense: true\n", 1, `rejected.*nonsense`)
			count["refused"]++
			continue
		}
		what := x.next(n % 5)
		x.into(s.values)
		times.during(what)
		if what == "unchanged" {
			s.becomes(changeable, 0, `^unchanged`)
		} else {
			s.becomes(changeable, 0, `^committed`)
		}
		count[what]++
	}
	sum, failed := ended()
	close(halt)
	dialing.Wait()
	quiet := times.quantile(0.99, func(w string) bool { return w == "quiet" })
	busy := times.quantile(0.99, func(w string) bool { return w != "quiet" && w != "start" })
	t.Logf("%d reloads: %v; %d requests; %d connections beside; p99 %.1f ms in reloads, %.1f ms between them: %.2f times", 5*rounds, count,
		sum.Requests, d.dials, busy, quiet, busy/quiet)
	for _, what := range []string{"quiet", "unchanged", "exporters", "receivers", "levels", "refused"} {
		is := func(w string) bool { return w == what }
		t.Logf("%-10s p50 %6.1f ms  p99 %6.1f ms  max %6.1f ms", what, times.quantile(0.5, is), times.quantile(0.99, is), times.quantile(1, is))
	}
	if len(failed) > 0 {
		slices.Sort(failed)
		t.Errorf("%d attempts failed: %q", len(failed), slices.Compact(failed))
	}
	if len(d.refused) > 0 {
		t.Errorf("%d of %d connections were refused: %s … %s", len(d.refused), d.dials, d.refused[0], d.refused[len(d.refused)-1])
	}
	if slow := math.Max(20*quiet, 1000); busy > slow { // a busy machine is no failure; a pause is one
		t.Errorf("p99 is %.1f ms, %.1f ms without reloads", busy, quiet)
	}
	bound := int64(0)
	s.passes(ledger.Options{MaxDuplicates: &bound})
}
