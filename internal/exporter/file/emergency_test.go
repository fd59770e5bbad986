// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package file_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/component/componenttest"
	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/file"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/file/vault"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// emergency is an exporter in the role of a last level, and its vault.
func emergency(t testing.TB, cfg *file.Config) (exporter.Exporter, *vault.Vault) {
	t.Helper()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	e, err := file.New(exporter.Settings{ID: "file", Telemetry: telemetry.Nop()}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	set, ok := cfg.Emergency(0, zap.NewNop())
	if !ok {
		t.Fatal("no emergency file")
	}
	v, err := vault.Open(vfs.OS(), set)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.UseVault(v, set.Framed); err != nil {
		t.Fatal(err)
	}
	if err := e.Start(context.Background(), componenttest.NewNopHost()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop(t, e)
		if err := v.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return e, v
}

func owner(s otlp.Signal) vault.Owner {
	return vault.Owner{Pipeline: "in", Connector: "failover", Signal: s.String()}
}

func TestWhatAnEmergencyLevelTookIsGivenBackAsItCame(t *testing.T) {
	for _, c := range []struct{ format, compression string }{
		{"json", ""}, {"json", "zstd"}, {"proto", ""}, {"proto", "zstd"},
	} {
		t.Run(strings.TrimSuffix(c.format+"-"+c.compression, "-"), func(t *testing.T) {
			cfg := config(filepath.Join(t.TempDir(), "telemetry.data"), func(cfg *file.Config) {
				cfg.Format, cfg.Compression = c.format, c.compression
			})
			e, v := emergency(t, cfg)
			for s, body := range signals(t) {
				parts := [][]byte{body, body}
				if !otlp.Joinable(s) {
					parts = parts[:1]
				}
				r := request(s, parts...)
				r.Receipt = &exporter.Receipt{Pipeline: "in", Connector: "failover",
					Records: []exporter.ReceiptRecord{{Seq: 7, Accepted: time.Unix(0, 99)}}}
				deliver(t, e, r)
				if !v.Named(owner(s), vault.Record{Seq: 7, Accepted: 99}) {
					t.Errorf("%s: the receipt names no record", s)
				}
				d, ok, err := v.Lend(owner(s))
				if err != nil || !ok {
					t.Fatalf("%s: %v", s, err)
				}
				got, err := file.Requests(s, d.Data)
				if err != nil {
					t.Fatalf("%s: %v", s, err)
				}
				want := bytes.Join(parts, nil)
				if s == otlp.Profiles || c.format == "json" { // codecs may order fields anew; what is counted stays
					gotItems, err1 := otlp.Scan(s, got)
					wantItems, err2 := otlp.Scan(s, want)
					if err1 != nil || err2 != nil || gotItems != wantItems {
						t.Errorf("%s: %d items, want %d; %v, %v", s, gotItems, wantItems, err1, err2)
					}
				}
				if !bytes.Equal(got, want) && c.format == "proto" {
					t.Errorf("%s: %x, want %x", s, got, want)
				}
			}
			info, err := os.Stat(cfg.Path)
			if err != nil || info.Size()%4096 != 0 {
				t.Errorf("the file does not end with a block: %d bytes, %v", info.Size(), err)
			}
		})
	}
}

// Every length that padding can have is a whole record, and no reader sees it.
func TestPaddingIsInvisibleToReaders(t *testing.T) {
	for _, c := range []struct{ format, compression string }{{"json", ""}, {"json", "zstd"}, {"proto", ""}, {"proto", "zstd"}} {
		cfg := config(filepath.Join(t.TempDir(), "telemetry.data"), func(cfg *file.Config) {
			cfg.Format, cfg.Compression = c.format, c.compression
		})
		e, _ := emergency(t, cfg)
		var want []string
		for n := range 40 {
			name := fmt.Sprintf("span-%d-%s", n, strings.Repeat("x", n*103+n%5))
			r := request(otlp.Traces, span(t, name))
			r.Receipt = &exporter.Receipt{Pipeline: "in", Connector: "failover"}
			deliver(t, e, r)
			want = append(want, name)
		}
		same(t, c.format+c.compression, names(t, cfg.Path), want...)
		if c.format == "json" && c.compression == "" {
			b, err := os.ReadFile(cfg.Path)
			if err != nil {
				t.Fatal(err)
			}
			if lines := bytes.Count(b, []byte("\n")); lines != 40 || !bytes.HasSuffix(b, []byte("\n")) {
				t.Errorf("%d lines of 40 requests", lines)
			}
		}
	}
}

func TestAnEmergencyLevelAtItsCapRefusesAndIsNotWell(t *testing.T) {
	cfg := config(filepath.Join(t.TempDir(), "telemetry.jsonl"), nil)
	e, err := file.New(exporter.Settings{ID: "file", Telemetry: telemetry.Nop()}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	set, _ := cfg.Emergency(20_000, zap.NewNop())
	v, err := vault.Open(vfs.OS(), set)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = v.Close(context.Background()) }()
	if err := e.UseVault(v, set.Framed); err != nil {
		t.Fatal(err)
	}
	if got := e.Probe(context.Background(), otlp.Traces); got.Kind != exporter.Delivered {
		t.Fatalf("probe %+v", got)
	}
	last := exporter.Deliver()
	for n := 0; n < 20 && last.Kind == exporter.Delivered; n++ {
		r := request(otlp.Traces, span(t, "a"))
		r.Receipt = &exporter.Receipt{Pipeline: "in", Connector: "failover"}
		last = send(t, e, r)
	}
	if last.Kind != exporter.Retry || !strings.Contains(last.Err.Error(), "is full") {
		t.Errorf("verdict %+v", last)
	}
	if got := e.Probe(context.Background(), otlp.Traces); got.Kind != exporter.Retry {
		t.Errorf("probe of a full file %+v", got)
	}
}

func TestWithoutAReceiptNothingIsOwed(t *testing.T) {
	cfg := config(filepath.Join(t.TempDir(), "telemetry.jsonl"), nil)
	e, v := emergency(t, cfg)
	deliver(t, e, request(otlp.Traces, span(t, "a")))
	if len(v.Owners()) != 0 {
		t.Errorf("owners %+v", v.Owners())
	}
	same(t, "file", names(t, cfg.Path), "a")
}
