// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package emergency_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/app/emergency"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/file/vault"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// The books of a destination with an emergency file, over a life that puts, repays, loses a file and starts anew.
func TestBooksCountWhatLiesInTheEmergencyFileAsParked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem(0)
		set := vault.Settings{Path: "/e/telemetry.jsonl", Append: true, DirMode: 0o700, MaxFile: 10_000, Log: zap.NewNop()}
		us := vault.Owner{Pipeline: "traces", Connector: "failover", Signal: "traces"}
		gone := vault.Owner{Pipeline: "traces/old", Connector: "failover", Signal: "traces"}
		var v *vault.Vault
		open := func() *emergency.Debts {
			var err error
			if v, err = vault.Open(disk, set); err != nil {
				t.Fatal(err)
			}
			return emergency.Of(v, us, otlp.Traces, []vault.Owner{us})
		}
		put := func(o vault.Owner, items uint32) {
			t.Helper()
			if _, err := v.Put(context.Background(), vault.Entry{Data: []byte("{}\n"), Owner: o, Items: items}); err != nil {
				t.Fatal(err)
			}
		}
		check := func(what string, b *emergency.Books, want queue.Counts) {
			t.Helper()
			got := b.Counts()
			if got.Accepted != want.Accepted || got.Delivered != want.Delivered || got.Parked != want.Parked ||
				got.Rejected != want.Rejected || got.Dropped[emergency.ReasonRemoved] != want.Dropped[emergency.ReasonRemoved] {
				t.Errorf("%s: %+v, want %+v", what, got, want)
			}
			if n := got.Imbalance(); n != 0 {
				t.Errorf("%s: imbalance %d", what, n)
			}
		}
		end := func() {
			if err := v.Close(context.Background()); err != nil {
				t.Error(err)
			}
		}

		// A journal: its books go on over restarts, and call delivered what the file took.
		journal := queue.Counts{Accepted: 100, Delivered: 100}
		d := open()
		b := emergency.NewBooks(func() queue.Counts { return journal }, d)
		check("nothing is parked", b, queue.Counts{Accepted: 100, Delivered: 100})
		journal.Accepted += 30
		journal.Queued += 30
		put(us, 30)
		if got := b.Counts(); got.Delivered != 100 || got.Parked != 0 || got.Imbalance() != 0 {
			t.Errorf("between receipt and resolve: %+v", got)
		}
		journal.Queued, journal.Delivered = 0, 130
		check("parked", b, queue.Counts{Accepted: 130, Delivered: 100, Parked: 30})
		put(gone, 5)
		journal.Accepted, journal.Delivered = 135, 135
		check("with what a pipeline of another name left", b, queue.Counts{Accepted: 135, Delivered: 100, Parked: 35})
		end()
		d = open()
		b = emergency.NewBooks(func() queue.Counts { return journal }, d)
		check("after a restart", b, queue.Counts{Accepted: 135, Delivered: 100, Parked: 35})
		if x, ok, err := v.Lend(us); err != nil || !ok {
			t.Fatal(err)
		} else {
			d.Settle(x.N, 2)
		}
		check("repaid, two items refused", b, queue.Counts{Accepted: 135, Delivered: 128, Parked: 5, Rejected: 2})
		if err := disk.Remove("/e/telemetry.jsonl"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		lost := queue.Counts{Accepted: 135, Delivered: 128, Rejected: 2, Dropped: map[string]uint64{emergency.ReasonRemoved: 5}}
		check("removed", b, lost)
		end()
		d = open()
		b = emergency.NewBooks(func() queue.Counts { return journal }, d)
		check("removed, after a restart", b, lost)
		put(us, 7)
		end()

		// A queue in memory begins anew: what lies in the file was accepted before.
		memory := queue.Counts{}
		d = open()
		b = emergency.NewBooks(func() queue.Counts { return memory }, d)
		if got := b.Counts(); got.Parked != 7 || got.Delivered != 0 || got.Imbalance() != 0 {
			t.Errorf("in memory, after a restart: %+v", got)
		}
		memory = queue.Counts{Accepted: 50, Delivered: 50}
		before := b.Counts()
		if x, ok, err := v.Lend(us); err != nil || !ok {
			t.Fatal(err)
		} else {
			d.Settle(x.N, 0)
		}
		after := b.Counts()
		if after.Parked != 0 || after.Delivered != before.Delivered+7 || after.Accepted != before.Accepted || after.Imbalance() != 0 {
			t.Errorf("repaid: %+v, then %+v", before, after)
		}
		end()
	})
}
