// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/app/components"
	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// build loads a document and plans it; the document must be valid as far as config can tell.
func build(t *testing.T, doc string) (*plan.Plan, []string) {
	t.Helper()
	c, err := config.Load(context.Background(), config.Options{
		URIs: []string{"-"}, Stdin: strings.NewReader(doc), Registry: components.Registry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	p, findings := plan.Build(c, components.ExporterQueue)
	var said []string
	for _, f := range findings {
		said = append(said, fmt.Sprintf("%d: %s: %s: %s", f.Position.Line, f.Severity, f.Component, f.Text))
	}
	return p, said
}

// says checks that one finding is there.
func says(t *testing.T, said []string, want string) {
	t.Helper()
	if !slices.Contains(said, want) {
		t.Errorf("missing:\n  %s\nsaid:\n  %s", want, strings.Join(said, "\n  "))
	}
}

const door = `receivers: {otlp: {protocols: {grpc: {endpoint: "localhost:0"}}}}
service: {telemetry: {metrics: {level: none}}, pipelines: {traces: {receivers: [otlp], processors: [%s], exporters: [%s]}}}
exporters:
%s`

// one plans a pipeline with one set of processors and exporters.
func one(t *testing.T, processors, exporters, blocks string) (*plan.Pipeline, []string) {
	t.Helper()
	p, said := build(t, fmt.Sprintf(door, processors, exporters, blocks))
	if len(p.Pipelines) != 1 {
		t.Fatalf("pipelines %+v, said %s", p.Pipelines, said)
	}
	return &p.Pipelines[0], said
}

func TestExportersHaveAQueueUnlessTheirTypeOrTheirKeysSayOtherwise(t *testing.T) {
	p, _ := one(t, "", "otlp/default, otlp/off, otlp/wait, file, debug, debug/queued", `
  otlp/default: {endpoint: "b:1"}
  otlp/off: {endpoint: "b:1", sending_queue: {enabled: false}}
  otlp/wait: {endpoint: "b:1", sending_queue: {wait_for_result: true, num_consumers: 3}}
  file: {path: ./x}
  debug:
  debug/queued: {sending_queue: {queue_size: 7}}
`)
	for i, want := range []struct {
		name    string
		wait    bool
		workers int
		size    int64
	}{
		{"otlp_grpc/default", false, 10, 1000}, {"otlp_grpc/off", true, 0, 0}, {"otlp_grpc/wait", true, 3, 0},
		{"file", false, 4, 1000}, {"debug", true, 0, 0}, {"debug/queued", false, 10, 7},
	} {
		d := p.Destinations[i]
		if d.Name != want.name || d.Wait != want.wait || d.Workers != want.workers || d.Limit.Max != want.size {
			t.Errorf("got %s wait=%v workers=%d size=%d, want %+v", d.Name, d.Wait, d.Workers, d.Limit.Max, want)
		}
	}
	if p.Storage != "" || !p.Queued() {
		t.Errorf("storage %q, queued %v", p.Storage, p.Queued())
	}
}

func TestBatchesAreTheExportersElseTheProcessors(t *testing.T) {
	p, _ := one(t, "batch", "otlp/a, otlp/b, otlp/c", `
  otlp/a: {endpoint: "b:1"}
  otlp/b: {endpoint: "b:1", sending_queue: {batch: {min_size: 3, max_size: 9, flush_timeout: 1s}}}
  otlp/c: {endpoint: "b:1", sending_queue: {batch: {min_size: 3000, sizer: bytes}}}
processors: {batch: {send_batch_size: 100, send_batch_max_size: 200, timeout: 7s}}
`)
	const mib = 1 << 20
	want := []queue.Want{
		{Sizer: queue.Items, Min: 100, Max: 200, MaxBytes: 4 * mib, Linger: 7 * time.Second},
		{Sizer: queue.Items, Min: 3, Max: 9, MaxBytes: 4 * mib, Linger: time.Second},
		{Sizer: queue.Bytes, Min: 3000, MaxBytes: 4 * mib, Linger: 200 * time.Millisecond},
	}
	items := []uint32{100, 3, 0}
	for i := range want {
		got := p.Destinations[i].Want
		got.Joins = nil
		if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want[i]) {
			t.Errorf("%s: got %+v, want %+v", p.Destinations[i].Label, got, want[i])
		}
		if l := p.Destinations[i].Limit; l.BatchItems != items[i] {
			t.Errorf("%s: queue counts batches of %d items, want %d", p.Destinations[i].Label, l.BatchItems, items[i])
		}
	}
}

func TestWithoutBatchingWhatWaitsTogetherTravelsTogether(t *testing.T) {
	p, _ := one(t, "", "otlp", "  otlp: {endpoint: \"b:1\"}\n")
	w := p.Destinations[0].Want
	if w.Min != 0 || w.Max != 0 || w.Linger != 0 || w.MaxBytes != 1<<20 {
		t.Errorf("want %+v", w)
	}
}

func TestABatchProcessorWithoutTimeoutWaitsForNothing(t *testing.T) {
	p, _ := one(t, "batch", "otlp", "  otlp: {endpoint: \"b:1\"}\nprocessors: {batch: {timeout: 0s, send_batch_max_size: 9000}}\n")
	if w := p.Destinations[0].Want; w.Min != 0 || w.Linger != 0 || w.Max != 9000 {
		t.Errorf("want %+v", w)
	}
}

func TestTheLastBatchProcessorCounts(t *testing.T) {
	p, said := one(t, "batch/a, batch/b", "otlp", `  otlp: {endpoint: "b:1"}
processors: {batch/a: {send_batch_size: 5}, batch/b: {send_batch_size: 6, metadata_keys: [x-tenant]}}
`)
	if p.Batch.Processor != "batch/b" || p.Destinations[0].Want.Min != 6 || p.Batch.MetadataKeys[0] != "x-tenant" {
		t.Errorf("batch %+v", p.Batch)
	}
	says(t, said, "2: note: processors/batch/a: batch/b comes after batch/a in traces; the last one counts")
}

func TestOneStorageMakesThePipelineDurableAndTheOthersShareIt(t *testing.T) {
	p, said := one(t, "", "otlp/a, otlp/b, otlp/c", `
  otlp/a: {endpoint: "b:1"}
  otlp/b: {endpoint: "b:1", sending_queue: {storage: file_storage/x}}
  otlp/c: {endpoint: "b:1", sending_queue: {storage: file_storage/y}}
extensions: {file_storage/x: {directory: ./x, fsync: false}, file_storage/y: {directory: ./y}}
`)
	if p.Storage != "file_storage/x" || p.Directory != "x" || p.Synced {
		t.Errorf("storage %q in %q, synced %v", p.Storage, p.Directory, p.Synced)
	}
	for i, stored := range []bool{false, true, true} {
		if p.Destinations[i].Stored != stored {
			t.Errorf("%s: stored %v", p.Destinations[i].Label, p.Destinations[i].Stored)
		}
	}
	says(t, said, "2: note: exporters/otlp/a: otlp/a shares the journal of traces; it gives way first when the disk is full")
	says(t, said, "7: warning: exporters/otlp/c: storage file_storage/y is not used in traces: its data is stored once, in file_storage/x")
}

func TestACapTooSmallForItsJournalsNamesTheFigure(t *testing.T) {
	_, said := build(t, `receivers: {otlp: {protocols: {grpc: {endpoint: "localhost:0"}}}}
exporters: {otlp: {endpoint: "b:1", sending_queue: {storage: file_storage}}}
extensions: {file_storage: {directory: ./q, max_file_size_mib: 40}}
service:
  extensions: [file_storage]
  pipelines:
    traces: {receivers: [otlp], exporters: [otlp]}
    metrics: {receivers: [otlp], exporters: [otlp]}
    logs: {receivers: [otlp], exporters: [otlp]}
`)
	says(t, said, "3: error: extensions/file_storage: max_file_size_mib is 40; 3 journals need at least 48")
}

func TestElapsedTimeIsPatience(t *testing.T) {
	_, said := one(t, "", "otlp/a, otlp/b, otlp/c", `
  otlp/a: {endpoint: "b:1", retry_on_failure: {max_elapsed_time: 600s}}
  otlp/b: {endpoint: "b:1", retry_on_failure: {max_elapsed_time: 0s}}
  otlp/c: {endpoint: "b:1"}
`)
	says(t, said, "5: note: exporters/otlp/a: after 10m0s data moves on or waits, it is not deleted")
	for _, s := range said {
		if strings.Contains(s, "otlp/b") || strings.Contains(s, "otlp/c") {
			t.Errorf("said of what is not written: %s", s)
		}
	}
}

func TestBatchingIsSaidToStandBehindTheQueueOrNotAtAll(t *testing.T) {
	_, said := one(t, "batch", "otlp", "  otlp: {endpoint: \"b:1\"}\n")
	says(t, said, "2: note: processors/batch: batches are made behind the queue of traces")
	_, said = one(t, "batch", "debug", "  debug: {}\n")
	says(t, said, "2: note: processors/batch: traces has no queue: requests are delivered as they come, and no batches are made")
}

func TestTwoDoorsOnOneAddressAreRefused(t *testing.T) {
	check := func(first, second string, clash bool) {
		t.Helper()
		_, said := build(t, fmt.Sprintf(`receivers: {otlp/a: {protocols: {grpc: {endpoint: %q}}}, otlp/b: {protocols: {http: {endpoint: %q}}}}
exporters: {debug: }
service: {telemetry: {metrics: {level: none}}, pipelines: {traces: {receivers: [otlp/a, otlp/b], exporters: [debug]}}}
`, first, second))
		want := fmt.Sprintf("1: error: receivers/otlp/b: %s is taken by receivers/otlp/a", second)
		if slices.Contains(said, want) != clash {
			t.Errorf("%s and %s: clash %v, said %s", first, second, clash, said)
		}
	}
	check("localhost:4317", "localhost:4317", true)
	check("localhost:4317", "127.0.0.1:4317", true)
	check("0.0.0.0:4317", "localhost:4317", true)
	check(":4317", "10.0.0.1:4317", true)
	check("10.0.0.2:4317", "10.0.0.1:4317", false)
	check("localhost:4317", "localhost:4318", false)
	check("localhost:0", "localhost:0", false)
	check("[::1]:4317", "[0:0:0:0:0:0:0:1]:4317", true)
	check("127.0.0.1:4317", "[::ffff:127.0.0.1]:4317", true)
	check("10.0.0.1:443", "10.0.0.1:https", true)
	check("10.0.0.1:04317", "10.0.0.1:4317", true)
}

// What is listened on by everybody's leave is said, and so is a budget that is not used.
func TestOpenDoorsAndSmallBudgetsAreSaid(t *testing.T) {
	_, findings := build(t, `receivers:
  otlp: {protocols: {grpc: {endpoint: "0.0.0.0:4317"}, http: {endpoint: "localhost:4318"}}}
  otlp/all: {protocols: {http: {endpoint: ":4319"}}}
exporters: {debug: }
service: {admission: {limit_mib: 1}, pipelines: {traces: {receivers: [otlp, otlp/all], exporters: [debug]}}}
`)
	want := []string{
		"2: warning: receivers/otlp: " + plan.OpenToAll,
		"3: warning: receivers/otlp/all: " + plan.OpenToAll,
		"5: note: : service::admission: limit_mib is 1; the smallest budget is 32 MiB, and that is used",
	}
	if got := findings; !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestListenersSayWhoMayTalkToThem(t *testing.T) {
	cert, key := certificate(t)
	p, _ := build(t, fmt.Sprintf(`receivers:
  otlp:
    protocols:
      grpc: {endpoint: 0.0.0.0:4317, tls: {cert_file: %s, key_file: %s}}
      http: {endpoint: "localhost:4318"}
exporters: {debug: }
extensions: {pprof: , health_check: {endpoint: "localhost:1"}, zpages: {endpoint: "localhost:2"}}
service: {extensions: [health_check, pprof], pipelines: {traces: {receivers: [otlp], exporters: [debug]}}}
`, cert, key))
	var got []string
	for _, l := range p.Listeners {
		got = append(got, fmt.Sprintf("%s %s %s tls=%v open=%v", l.Address, l.Component, l.Purpose, l.TLS, l.Open()))
	}
	want := []string{
		"0.0.0.0:4317 receivers/otlp OTLP over gRPC in tls=true open=false",
		"localhost:4318 receivers/otlp OTLP over HTTP in tls=false open=true",
		"localhost:1 extensions/health_check health check tls=false open=true",
		"localhost:1777 extensions/pprof pprof tls=false open=true",
		"localhost:8888  metrics of this process tls=false open=true",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestAStatusPageThatOthersCanReadIsWarnedOf(t *testing.T) {
	for endpoint, want := range map[string]bool{
		"localhost:13134": false, "127.0.0.1:1": false, "127.9.9.9:1": false, "[::1]:1": false,
		"0.0.0.0:13134": true, ":13134": true, "10.0.0.1:1": true, "gateway.internal:1": true,
	} {
		_, said := build(t, fmt.Sprintf(`receivers: {otlp: }
exporters: {debug: }
extensions: {status: {endpoint: %q}}
service: {extensions: [status], pipelines: {traces: {receivers: [otlp], exporters: [debug]}}}
`, endpoint))
		got := slices.ContainsFunc(said, func(s string) bool {
			return strings.Contains(s, "warning: extensions/status: whoever reaches "+endpoint+" reads the status")
		})
		if got != want {
			t.Errorf("%s: warned %v, said %q", endpoint, got, said)
		}
	}
}

// certificate writes a pair that is valid now.
func certificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, about, about, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := func(name, kind string, bytes []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return file("cert.pem", "CERTIFICATE", cert), file("key.pem", "PRIVATE KEY", private)
}

func TestAuthenticatorsAndMiddlewareAreNotInThisBuild(t *testing.T) {
	_, said := one(t, "", "otlp", "  otlp: {endpoint: \"b:1\", auth: {authenticator: oauth2client}, middlewares: [{id: x}]}\n")
	says(t, said, "4: error: exporters/otlp: no authenticator oauth2client: this build has no authentication extensions")
	says(t, said, "4: error: exporters/otlp: no middleware x: this build has no middleware extensions")
}

func TestPromisesFollowTheQueue(t *testing.T) {
	check := func(exporters, blocks string, want plan.Promise) {
		t.Helper()
		p, _ := one(t, "", exporters, blocks)
		if got := p.Promise(); got != want {
			t.Errorf("%s:\ngot  %+v\nwant %+v", exporters, got, want)
		}
	}
	const (
		nothing = "nothing that was acknowledged"
		refused = "new data is refused, with a hint when to come back"
		node    = "what is queued, unless the volume comes back elsewhere"
		again   = "after a crash, what was in flight and what was delivered in the last 100ms (slow disks: more)"
	)
	check("otlp", "  otlp: {endpoint: \"b:1\"}\n", plan.Promise{
		Acknowledged: "once it is in the memory queue",
		Kill:         "everything that is queued, at most 1000 requests for otlp", PowerCut: "everything that is queued",
		NodeLost: "everything that is queued", WhenFull: refused,
	})
	const storage = "extensions: {file_storage: {directory: ./q, fsync: %v}}\n"
	check("otlp", "  otlp: {endpoint: \"b:1\", sending_queue: {storage: file_storage}}\n"+fmt.Sprintf(storage, true),
		plan.Promise{Acknowledged: "after it is synced to q (file_storage)", Kill: nothing, PowerCut: nothing, NodeLost: node,
			WhenFull: "the queue or the directory: " + refused, Duplicates: again})
	check("otlp, debug", "  debug: {sending_queue: {enabled: false}}\n"+
		"  otlp: {endpoint: \"b:1\", sending_queue: {storage: file_storage, block_on_overflow: true}}\n"+
		fmt.Sprintf(storage, false), plan.Promise{
		Acknowledged: "after it is written to q (file_storage), synced within 200ms, and debug took it", Kill: nothing,
		PowerCut: "the last 200ms of what was acknowledged", NodeLost: node,
		WhenFull:   "the queue or the directory: senders wait until there is room or their deadline ends",
		Duplicates: again + "; what a waiting destination refuses is sent again to all",
	})
	check("otlp, file", "  file: {path: ./x}\n  otlp: {endpoint: \"b:1\", sending_queue: {storage: file_storage}}\n"+
		fmt.Sprintf(storage, true), plan.Promise{
		Acknowledged: "after it is synced to q (file_storage)", Kill: nothing, PowerCut: nothing, NodeLost: node,
		WhenFull: "one destination: it grows on up to the limits of the directory; all of them, or the directory: " + refused +
			"; before that the oldest of file are dropped and listed",
		Duplicates: again,
	})
	check("debug", "  debug: {}\n", plan.Promise{
		Acknowledged: "after debug took it; there is no queue", Kill: nothing,
		PowerCut: nothing + " and that the backend kept", NodeLost: nothing,
		Duplicates: "a client that does not see the answer sends again",
	})
}
