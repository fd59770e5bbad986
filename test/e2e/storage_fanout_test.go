// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"path/filepath"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
	"github.com/holdfast-telemetry/holdfast/internal/loadgen"
)

// The seeds' gateway, as it is written: three destinations, of which one names a storage. While the primary is down the
// process is killed; nobody is delayed by it, everybody gets everything, and the primary, which has no storage of its own,
// gets its backlog from the one stored copy.
func TestTheSeedsGatewayKeepsEveryDestinationsBacklogOverAKill(t *testing.T) {
	t.Parallel()
	s := newGateway(t)
	s.start()
	primary := s.others[0]
	heal := faultyAt(t, primary, "refuse")
	before := loadgen.Options{Run: "gateway", Signals: []item.Signal{item.Traces}, Producers: 2, Items: 100, ItemBytes: 300,
		Requests: 100, Want: "each:primary,secondary,file"}
	sum := s.load(before)()
	if sum.Acked != 2*100*100 {
		t.Fatalf("acknowledged %+v", sum)
	}
	eventually(t, "the others have everything while the primary is down", func() bool {
		m := s.books()
		return value(t, m, "holdfast_ledger_queued_items", "destination", "otlp/secondary") == 0 &&
			value(t, m, "holdfast_ledger_queued_items", "destination", "file/emergency") == 0 &&
			value(t, m, "holdfast_ledger_queued_items", "destination", "otlp/primary") == float64(sum.Acked)
	})
	for range 3 {
		s.kill()
		s.start()
	}
	if v := value(t, s.books(), "holdfast_ledger_queued_items", "destination", "otlp/primary"); v != float64(sum.Acked) {
		t.Errorf("%v items wait for the primary after the kills, want %d", v, sum.Acked)
	}
	heal()
	s.drained()
	if reads := value(t, s.books(), "holdfast_journal_cache_misses_total"); reads == 0 {
		t.Error("the backlog was not read from disk: this test shows nothing")
	}
	bound := duplicatesPerCrash(0)
	v := s.pass(ledger.Options{MaxDuplicates: &bound})
	for _, p := range v.Places {
		if p.Items != sum.Acked {
			t.Errorf("%s has %d items, %d were acknowledged", p.Name, p.Items, sum.Acked)
		}
	}
}

// newGateway prepares the seeds' gateway with the addresses and paths of this machine.
func newGateway(t *testing.T) *stage {
	t.Helper()
	s := &stage{t: t, host: ownHost(t), dir: t.TempDir()}
	s.storage = filepath.Join(t.TempDir(), "queue")
	emergency := filepath.Join(t.TempDir(), "emergency", "telemetry.jsonl")
	s.files = emergency
	s.args = []string{"--config", "../compat/seeds/000-05-multi-backend-failover.yaml", "--implicit-health", s.host + ":13133"}
	for _, set := range []string{
		"extensions::file_storage::directory=" + s.storage,
		"receivers::otlp::protocols::grpc::endpoint=" + s.host + ":4317",
		"service::telemetry::metrics::address=" + s.host + ":8888",
		"exporters::otlp/primary::endpoint=" + s.host + ":14317", "exporters::otlp/primary::tls::insecure=true",
		"exporters::otlp/primary::retry_on_failure::initial_interval=200ms",
		"exporters::otlp/primary::retry_on_failure::max_interval=500ms",
		"exporters::otlp/primary::retry_on_failure::max_elapsed_time=2s",
		"exporters::otlp/secondary::endpoint=" + s.host + ":24317", "exporters::otlp/secondary::tls::insecure=true",
		"exporters::file/emergency::path=" + emergency,
		"processors::batch::timeout=200ms",
	} {
		s.args = append(s.args, "--set", set)
	}
	s.sink = startSink(t, s.dir, "secondary", s.host+":24317")
	s.others = append(s.others, startSink(t, s.dir, "primary", s.host+":14317"))
	return s
}
