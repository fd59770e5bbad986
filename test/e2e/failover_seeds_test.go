// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
	"github.com/holdfast-telemetry/holdfast/internal/loadgen"
	"github.com/holdfast-telemetry/holdfast/internal/mockbackend"
	"github.com/holdfast-telemetry/holdfast/test/seedbed"
)

// Fault: B1, B16. Both seeds' failover configurations as they are written: a refused primary's data goes to the
// secondary, with that one gone too to the emergency file (A) or nowhere (B), and all arrives. Every other fault, with
// times: make failover.
func TestSeedFailoverConfigurations(t *testing.T) {
	t.Parallel()
	for _, seed := range []seedbed.Seed{seedbed.A, seedbed.B} {
		t.Run(string(seed), func(t *testing.T) {
			t.Parallel()
			good := goodRun(t, seedbed.Options{Seed: seed})
			b := startedBed(t, seedbed.Options{Seed: seed})
			load := b.Load(loadgen.Options{Run: "seeds", Producers: 1, Items: 100, ItemBytes: 120, Rate: 1500})
			until(t, b, "every signal reaches the primary", func(s seedbed.Series) bool { return deliveredAt(s, "0") })
			must(t, b.Primary.SetFaults("refuse"))
			levelAt(t, b, 1)
			until(t, b, "every signal reaches the secondary", func(s seedbed.Series) bool { return deliveredAt(s, "1") })
			must(t, b.Secondary.SetFaults("refuse"))
			if seed == seedbed.A {
				until(t, b, "every signal reaches the emergency file", func(s seedbed.Series) bool { return deliveredAt(s, "2") })
			} else {
				levelAt(t, b, -1)
			}
			must(t, b.Primary.SetFaults())
			must(t, b.Secondary.SetFaults())
			until(t, b, "a backend takes every signal again", func(s seedbed.Series) bool {
				n := 0
				for _, level := range s.Active() {
					if level == 0 || level == 1 {
						n++
					}
				}
				return n == 3
			})
			_, err := load.Stop()
			must(t, err)
			bound := int64(0) // what is refused a connection is at no backend
			passes(t, b, ledger.Options{Control: good, MaxDuplicates: &bound})
		})
	}
}

func deliveredAt(s seedbed.Series, level string) bool {
	for _, signal := range []string{"traces", "metrics", "logs"} {
		if n, _ := s.Sum("holdfast_failover_delivered_items_total", "level", level, "signal", signal); n == 0 {
			return false
		}
	}
	return true
}

// Fault: B8. What both backends refuse for good moves no traffic: it is offered to both, is a dead letter once, over a
// kill too, and its neighbours are delivered by the first.
func TestPoisonMovesNoTrafficAndIsADeadLetterOnce(t *testing.T) {
	t.Parallel()
	// While a configuration is on trial a rejection is not for good (TestWhatASenderOnTrialRejectsWaitsForTheEndOfTheTrial).
	b := startedBed(t, seedbed.Options{Seed: seedbed.B, Sets: append(quickSeed(seedbed.B), "service::reload::trial=200ms")})
	must(t, b.Process().Await(limited(t), "Config committed"))
	must(t, b.Primary.SetFaults("reject_marked:whole"))
	must(t, b.Secondary.SetFaults("reject_marked:whole"))
	sent, err := b.Load(loadgen.Options{Run: "poison", Signals: []item.Signal{item.Traces}, Requests: 50, Producers: 1, Items: 20,
		ItemBytes: 100, PoisonEvery: 100}).Wait()
	must(t, err)
	if sent.Acked != 1000 {
		t.Fatalf("acknowledged %+v", sent)
	}
	const poisoned = 10 * 20 // every hundredth item takes its request with it
	for life := range 2 {
		must(t, b.Drained(limited(t)))
		s := booksOf(t, b)
		for name, want := range map[string]float64{
			"holdfast_journal_dead_items": poisoned, "holdfast_journal_dead_records": poisoned / 20,
			"holdfast_ledger_rejected_items_total": poisoned, "holdfast_ledger_delivered_items_total": 1000 - poisoned,
			"holdfast_ledger_imbalance_items": 0,
		} {
			if v := sum(t, s, name, "pipeline", "traces/ingress"); v != want {
				t.Errorf("life %d: %s is %v, want %v", life, name, v, want)
			}
		}
		if n, _ := s.Sum("holdfast_failover_switches_total"); n != 0 {
			t.Errorf("life %d: %v switches", life, n)
		}
		if n, _ := s.Sum("holdfast_failover_transitions_total"); n != 0 {
			t.Errorf("life %d: %v transitions", life, n)
		}
		b.Process().Kill()
		must(t, b.Start(limited(t)))
	}
	if n := b.Secondary.State(); n.Stored["traces"] != 0 || n.Received["traces"] != poisoned {
		t.Errorf("the secondary got %d items and kept %d, want all %d that the primary refused, and none", n.Received["traces"],
			n.Stored["traces"], poisoned)
	}
	if n := b.Primary.State().Stored["traces"]; n != 1000-poisoned {
		t.Errorf("the primary has %d items, want %d", n, 1000-poisoned)
	}
}

// Fault: B4. A thousand requests that fail at one instant are one strike: the level goes down once, and comes back once.
func TestAThousandSendersFailingAtOnceAreOneTransition(t *testing.T) {
	t.Parallel()
	const senders = 1000
	b := startedBed(t, seedbed.Options{Seed: seedbed.B, Sets: append(quickSeed(seedbed.B),
		"exporters::otlp/primary::timeout=60s",
		"exporters::otlp/primary::sending_queue::num_consumers=1000",
		"processors::batch::send_batch_size=10", "processors::batch::send_batch_max_size=10",
	)})
	must(t, b.Primary.SetFaults("hang"))
	load := b.Load(loadgen.Options{Run: "thousand", Signals: []item.Signal{item.Traces}, Producers: 4, Inflight: 4, Items: 10,
		ItemBytes: 40, Rate: 4000})
	err := b.Primary.Await(limited(t), func(s mockbackend.State) bool { return s.Requests["traces"] >= senders })
	must(t, err)
	must(t, b.Primary.SetFaults("refuse"))
	until(t, b, "the first level is down", func(s seedbed.Series) bool {
		n, _ := s.Sum("holdfast_failover_level_state", "signal", "traces", "level", "0", "state", "down")
		return n == 1
	})
	must(t, b.Primary.SetFaults())
	until(t, b, "traces go to the first level again", func(s seedbed.Series) bool { return s.Active()["traces"] == 0 })
	_, err = load.Stop()
	must(t, err)
	s := booksOf(t, b)
	for _, labels := range [][]string{{"to", "down"}, {"from", "probing"}} { // down, and back; not down again
		labels = append(labels, "signal", "traces", "level", "0")
		if n, _ := s.Sum("holdfast_failover_transitions_total", labels...); n != 1 {
			t.Errorf("%v transitions with %q, want 1", n, labels)
		}
	}
	if n, _ := s.Sum("holdfast_failover_switches_total", "signal", "traces"); n != 2 {
		t.Errorf("%v switches, want one down and one up", n)
	}
	bound := int64(0) // a backend that hangs keeps nothing
	passes(t, b, ledger.Options{MaxDuplicates: &bound})
}

// A level that failed more often than max_retries is still probed, and taken again when it is well; 0 knows no end.
func TestALevelIsNotAbandonedWhateverMaxRetriesSays(t *testing.T) {
	t.Parallel()
	for _, retries := range []string{"5", "0"} {
		t.Run(retries, func(t *testing.T) {
			t.Parallel()
			sets := quickSeed(seedbed.A)
			for _, set := range []string{"retry_interval=200ms", "retry_gap=100ms", "max_retries=" + retries} {
				sets = append(sets, "connectors::failover/traces::"+set)
			}
			b := startedBed(t, seedbed.Options{Seed: seedbed.A, Sets: sets})
			load := b.Load(loadgen.Options{Run: "retries", Producers: 1, Items: 20, ItemBytes: 40, Rate: 300})
			levelAt(t, b, 0)
			must(t, b.Primary.SetFaults("refuse"))
			levelAt(t, b, 1)
			until(t, b, "more probes than max_retries have failed", func(s seedbed.Series) bool {
				n, _ := s.Sum("holdfast_failover_probes_total", "exporter", "otlp/primary", "signal", "traces", "result", "retry")
				return n >= 12 // three of them before it was down
			})
			must(t, b.Primary.SetFaults())
			levelAt(t, b, 0)
			_, err := load.Stop()
			must(t, err)
			passes(t, b, ledger.Options{})
		})
	}
}

// The second seed's health script, which writes another configuration and reloads, is three lines of configuration: a
// backend that takes everything is left when its health URL fails three times, and used again when it is well.
func TestTheHealthScriptIsThreeLines(t *testing.T) {
	t.Parallel()
	var sick atomic.Bool
	health := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/health" || sick.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(health.Close)
	probe := `
    probe:
      kind: http
      url: ` + health.URL + `/health
      trips: true
`
	b := startedBed(t, seedbed.Options{Seed: seedbed.B, Sets: quickSeed(seedbed.B),
		More: "connectors:\n  failover/traces:" + probe + "  failover/metrics:" + probe})
	load := b.Load(loadgen.Options{Run: "health", Producers: 1, Items: 20, ItemBytes: 40, Rate: 600})
	until(t, b, "the URL was good once for every signal", func(s seedbed.Series) bool {
		for _, signal := range []string{"traces", "metrics", "logs"} {
			n, _ := s.Sum("holdfast_failover_probes_total", "kind", "http", "signal", signal, "result", "delivered")
			if n == 0 {
				return false
			}
		}
		return deliveredAt(s, "0")
	})
	sick.Store(true)
	began := time.Now()
	levelAt(t, b, 1)
	until(t, b, "every signal reaches the secondary", func(s seedbed.Series) bool { return deliveredAt(s, "1") })
	t.Logf("switched %s after the first bad answer was possible", time.Since(began).Round(10*time.Millisecond))
	sick.Store(false)
	levelAt(t, b, 0)
	_, err := load.Stop()
	must(t, err)
	byURL := 0
	for _, signal := range []string{"traces", "metrics", "logs"} {
		down := toldOf(b, "Failover: level is down", signal, "level", "0")
		if byURL += toldOf(b, "Failover: level is down", signal, "reason", "probe"); down != 1 {
			t.Errorf("%s: the first level went down %d times, want once", signal, down)
		}
	}
	if byURL == 0 { // a signal that hears of another's trip looks itself, and needs no three
		t.Error("no level went down for the URL")
	}
	bound := int64(0)
	passes(t, b, ledger.Options{MaxDuplicates: &bound})
}

// toldOf counts the log's lines about a signal with words, and a field as given.
func toldOf(b *seedbed.Bed, words, signal, key, value string) (n int) {
	lines := b.Process().Lines()
	for i := range lines {
		if lines[i].Field("signal") == signal && lines[i].Field(key) == value && len(lines[i].Text) >= len(words) &&
			lines[i].Text[:len(words)] == words {
			n++
		}
	}
	return n
}
