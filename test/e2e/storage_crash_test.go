// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/loadgen"
)

// quickRetries are the seeds' retries at the pace of a test.
var quickRetries = []string{
	"exporters::otlp::retry_on_failure::initial_interval=200ms",
	"exporters::otlp::retry_on_failure::max_interval=500ms",
	"processors::batch::timeout=200ms",
}

const unsynced = "extensions::file_storage/queue::fsync=false"

// duplicatesPerCrash is the bound of section 4 of the fault matrix: what may be in flight, and 100 ms of items.
func duplicatesPerCrash(rate float64) int64 {
	const signals, consumers, batch = 3, 10, 1024
	return signals*consumers*batch + int64(rate/10)
}

// Fault: P1, P2. The seeds' collector is killed while it starts, recovers, accepts and delivers, with its backend there
// and not there; in small segments and under a load that fills several of them between two kills; and answering before
// the sync, which a kill does not notice. HOLDFAST_KILLS says how often each, HOLDFAST_SEED makes the moments those of
// another run.
func TestKilledUnderLoadTheSeedsCollectorLosesNothing(t *testing.T) {
	t.Parallel()
	kills, seed := int(env(t, "HOLDFAST_KILLS", 20)), env(t, "HOLDFAST_SEED", uint64(os.Getpid()))
	t.Logf("%d kills each; again: HOLDFAST_KILLS=%d HOLDFAST_SEED=%d", kills, kills, seed)
	for name, c := range map[string]struct {
		sets []string
		load loadgen.Options
	}{
		"as written": {nil, loadgen.Options{Run: "kills", Producers: 2, Items: 50, ItemBytes: 200, Rate: 3000}},
		"in small segments": {[]string{"extensions::file_storage/queue::max_file_size_mib=256"},
			loadgen.Options{Run: "segments", Producers: 2, Items: 200, ItemBytes: 600, Rate: 15000}},
		"answering before the sync": {[]string{unsynced},
			loadgen.Options{Run: "unsynced", Producers: 2, Items: 50, ItemBytes: 200, Rate: 3000}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, uint64(len(name)))) //nolint:gosec // moments, not secrets
			killRepeatedly(t, kills, random, append(slices.Clone(quickRetries), c.sets...), c.load)
		})
	}
}

func killRepeatedly(t *testing.T, kills int, random *rand.Rand, sets []string, load loadgen.Options) {
	t.Helper()
	good := control(t, sets...)
	s := newStage(t, sets...)
	s.start()
	load.Timeout = 5 * time.Second
	ended := s.load(load)
	heal := func() {}
	for n := range kills {
		if n%6 == 2 {
			heal = s.faulty("refuse")
		}
		if n%6 == 5 {
			heal()
			heal = func() {}
		}
		if random.IntN(3) > 0 { // else it is killed wherever its start has got to
			s.p.await("Everything is ready")
		}
		wait := time.NewTimer(time.Duration(random.Int64N(int64(time.Second))))
		select {
		case <-wait.C:
		case <-s.p.done:
			t.Fatalf("the process ended by itself after kill %d:\n%s", n, s.p.output())
		}
		s.kill()
		s.begin()
	}
	heal()
	s.p.await("Everything is ready")
	sum := ended()
	t.Logf("%d items acknowledged", sum.Acked)
	s.drained()
	bound := int64(kills) * duplicatesPerCrash(load.Rate)
	v := s.judge(ledger.Options{Control: good, MaxDuplicates: &bound, AllowDrop: []string{"unsynced"}})
	t.Logf("%d lives of the process\n%s", s.lives, v.Text())
	for _, f := range append(v.Failures, v.Doubts...) {
		// Before the sync a journal cannot tell a kill from a power cut: the record that a kill tears, which nobody was
		// answered, is listed as one that a power cut took. That lists too much; it must not list too little.
		if f.Quantity != "declared" || !slices.Contains(sets, unsynced) {
			t.Errorf("%s: %s", f.Quantity, f.Text)
		}
	}
	if v.Totals.Acked < uint64(kills)*100 {
		t.Errorf("%d items were acknowledged over %d lives: this test shows nothing", v.Totals.Acked, s.lives)
	}
}

// Fault: P4. A backend that takes connections and says nothing, a full window of requests in flight: the stop is short,
// resolves nothing, and the next life delivers.
func TestSIGTERMWithADeadBackendLeavesTheQueueOnDisk(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{"refuse", "blackhole", "hang"} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, quickRetries...)
			s.start()
			heal := s.faulty(fault)
			sum := s.load(loadgen.Options{Run: "stop-" + fault, Requests: 40, Producers: 1, Items: 200, ItemBytes: 200})()
			if sum.Acked != 3*40*200 {
				t.Fatalf("acknowledged %+v", sum)
			}
			eventually(t, "deliveries are tried", func() bool {
				return value(t, s.books(), "otelcol_exporter_in_flight_requests")+
					value(t, s.books(), "otelcol_exporter_send_failed_spans") > 0
			})
			before := s.ledger("queued_items")
			began := time.Now()
			code := s.p.stop()
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("SIGTERM to exit took %s", took)
			}
			if code != 0 {
				t.Errorf("exit code %d, want 0: everything is on disk", code)
			}
			if b := lastLine(t, s.p); b.Queued != int64(before) || b.Delivered != 0 || b.Dropped != 0 {
				t.Errorf("last line %+v, %v were queued before", b, before)
			}
			s.start()
			if after := s.ledger("queued_items"); after != before {
				t.Errorf("%v items are queued after the restart, %v before", after, before)
			}
			heal()
			s.drained()
			s.p.await(`Queue: backlog drained\t.*"otelcol.pipeline.id": "traces"`)
			bound := duplicatesPerCrash(0) // what hung may have been taken
			s.pass(ledger.Options{MaxDuplicates: &bound})
		})
	}
}

// A second SIGTERM, and a SIGKILL in the middle of a stop, are as safe as a kill.
func TestAStopThatIsCutShortLosesNothing(t *testing.T) {
	t.Parallel()
	for name, signals := range map[string][]os.Signal{
		"second SIGTERM":           {syscall.SIGTERM, syscall.SIGTERM},
		"SIGKILL during the stop":  {syscall.SIGTERM, syscall.SIGKILL},
		"three SIGINTs in a hurry": {syscall.SIGINT, syscall.SIGINT, syscall.SIGINT},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, quickRetries...)
			s.start()
			heal := s.faulty("hang")
			s.load(loadgen.Options{Run: "cut", Requests: 30, Producers: 1, Items: 100, ItemBytes: 200})()
			for _, sig := range signals {
				s.p.signal(sig)
			}
			s.p.exit()
			s.start()
			if got := s.ledger("queued_items"); got != 3*30*100 {
				t.Errorf("%v items are queued after the restart, want all %d", got, 3*30*100)
			}
			heal()
			s.drained()
			bound := duplicatesPerCrash(0)
			s.pass(ledger.Options{MaxDuplicates: &bound})
		})
	}
}

// The seeds say max_elapsed_time: 600s. Whatever it says, an outage that lasts longer loses nothing, and neither does a
// backend that does not know the service for a while.
func TestAnOutageLongerThanPatienceLosesNothing(t *testing.T) {
	t.Parallel()
	sets := append([]string{"exporters::otlp::retry_on_failure::max_elapsed_time=1s"}, quickRetries...)
	good := control(t, sets...)
	s := newStage(t, sets...)
	s.start()
	ended := s.load(loadgen.Options{Run: "outage", Producers: 1, Items: 50, ItemBytes: 200, Rate: 1500})
	for _, fault := range []string{"refuse", "status:UNIMPLEMENTED", "status:UNAUTHENTICATED", "status:INTERNAL"} {
		failed := value(t, s.books(), "otelcol_exporter_send_failed_spans")
		heal := s.faulty(fault)
		eventually(t, fault+" is felt for longer than patience", func() bool {
			return value(t, s.books(), "otelcol_exporter_send_failed_spans") > failed &&
				value(t, s.books(), "holdfast_journal_oldest_seconds") > 3*3 // three pipelines, 3 s each
		})
		heal()
		eventuallyWithin(t, 3*patience, "the backlog of "+fault+" is delivered", func() bool {
			return value(t, s.books(), "holdfast_journal_oldest_seconds") < 3*2
		})
	}
	ended()
	s.drained()
	bound := int64(0)
	v := s.pass(ledger.Options{Control: good, MaxDuplicates: &bound})
	if v.Lost != 0 || strconv.Itoa(int(v.Declared)) != "0" {
		t.Errorf("lost %d, declared %d", v.Lost, v.Declared)
	}
}
