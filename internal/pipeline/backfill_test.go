// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline_test

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// drawer is an emergency file in memory.
type drawer struct {
	mu      sync.Mutex
	debts   []pipeline.Debt
	lent    map[uint64]bool
	rest    map[uint64]time.Time
	refused map[uint64]bool
	settled []uint64
	kept    map[queue.Seq]bool
	most    int // lent at once
	next    uint64
}

func newDrawer() *drawer {
	return &drawer{lent: map[uint64]bool{}, rest: map[uint64]time.Time{}, refused: map[uint64]bool{}, kept: map[queue.Seq]bool{}}
}

// put is what the file exporter does with a request that comes with a receipt.
func (d *drawer) put(body string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.next++
	d.debts = append(d.debts, pipeline.Debt{N: d.next, Items: 1, Body: []byte(body), Since: time.Now()})
}

func (d *drawer) Kept(seq queue.Seq, _ time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.kept[seq]
}

func (d *drawer) Lend() (pipeline.Debt, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, x := range d.debts {
		if !d.lent[x.N] && !d.refused[x.N] && !d.rest[x.N].After(time.Now()) {
			d.lent[x.N] = true
			d.most = max(d.most, len(d.lent))
			return x, true, nil
		}
	}
	return pipeline.Debt{}, false, nil
}

func (d *drawer) Settle(n uint64, _ uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.lent, n)
	d.settled = append(d.settled, n)
	d.debts = slices.DeleteFunc(d.debts, func(x pipeline.Debt) bool { return x.N == n })
}

func (d *drawer) Return(n uint64, rest time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.lent, n)
	d.rest[n] = time.Now().Add(rest)
}

func (d *drawer) Refuse(n uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.lent, n)
	d.refused[n] = true
}

func (d *drawer) Wake() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.rest)
}

func (d *drawer) Owed() (receipts, items int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return int64(len(d.debts)), int64(len(d.debts))
}

func (d *drawer) owes() int { n, _ := d.Owed(); return int(n) }

// withFile is a connector over a primary and an emergency file that keeps receipts.
func withFile(t *testing.T, change func(*failover.Config, *plan.Pipeline)) (*connector, *drawer) {
	t.Helper()
	d := newDrawer()
	c := owing(t, d, change, "primary", "file")
	file := c.ends["file"]
	file.answer = func(_ int, r *exporter.Request) exporter.Verdict {
		v := file.verdict()
		if v.Kind == exporter.Delivered {
			if r.Receipt == nil || r.Receipt.Pipeline != "traces" || r.Receipt.Connector != "failover" {
				t.Errorf("receipt %+v", r.Receipt)
			}
			d.put(string(r.Parts[0]))
		}
		return v
	}
	return c, d
}

func TestDebtsAreRepaidWhenTheLevelWasWellForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, d := withFile(t, nil)
		c.ends["primary"].set(exporter.Retry)
		c.send(1)
		time.Sleep(10 * time.Second)
		c.send(20)
		if d.owes() != 21 {
			t.Fatalf("%d debts", d.owes())
		}
		c.ends["primary"].set(0)
		for c.said("Failover: level is back") == 0 {
			time.Sleep(time.Second)
			c.send(1)
		}
		owed := d.owes()
		time.Sleep(55 * time.Second)
		if d.owes() != owed {
			t.Errorf("%d of %d debts were paid before backfill.after was over", owed-d.owes(), owed)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if d.owes() != 0 || !slices.IsSorted(d.settled) && d.most == 1 {
			t.Errorf("%d debts are left, settled %d", d.owes(), d.settled)
		}
		if d.most > 2 {
			t.Errorf("%d debts were in flight at once, the level has 4 slots", d.most)
		}
		if c.ends["primary"].delivered() != c.sent {
			t.Errorf("the primary has %d of %d records", c.ends["primary"].delivered(), c.sent)
		}
		time.Sleep(5 * time.Second)
		if c.said("Failover: backfill begins") != 1 || c.said("Failover: backfill ends") != 1 {
			t.Error("the log does not say once that backfill begins and ends")
		}
		c.stop(time.Second)
	})
}

func TestDebtsNeverGoToTheEmergencyLevelAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, d := withFile(t, func(cfg *failover.Config, _ *plan.Pipeline) { cfg.Backfill.After = 0 })
		c.ends["primary"].answer = func(asked int, _ *exporter.Request) exporter.Verdict {
			if asked > 5 && asked < 60 {
				return exporter.Verdict{Kind: exporter.Retry}
			}
			return exporter.Deliver()
		}
		for n := range 50 {
			d.put("old record " + string(rune('a'+n%26)) + string(rune('a'+n/26)))
		}
		for range 120 {
			time.Sleep(time.Second)
			if c.ends["file"].asked() > 0 {
				t.Fatal("a debt went back into the file")
			}
		}
		time.Sleep(time.Hour)
		if d.owes() != 0 {
			t.Errorf("%d debts are left", d.owes())
		}
		if c.ends["file"].asked() > 0 {
			t.Error("a debt went back into the file")
		}
		c.stop(time.Second)
	})
}

// Nothing comes through the door any more; all that is owed lies in the file. It is the live batch that a level wants
// before it returns.
func TestADebtIsTheCanaryWhereThereIsNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, d := withFile(t, nil)
		c.ends["primary"].set(exporter.Retry)
		c.send(1)
		time.Sleep(time.Minute)
		if d.owes() != 1 {
			t.Fatalf("%d debts", d.owes())
		}
		c.ends["primary"].set(0)
		time.Sleep(time.Minute)
		if c.said("Failover: level is back") != 1 || d.owes() != 0 {
			t.Errorf("%d debts are left", d.owes())
		}
		c.stop(time.Second)
	})
}

func TestWhatLiesInTheFileAlreadyIsNotSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDrawer()
		d.kept[2], d.kept[3] = true, true
		c := owing(t, d, func(_ *failover.Config, p *plan.Pipeline) { p.Storage = "file_storage" }, "primary", "file")
		c.send(5)
		time.Sleep(time.Second)
		c.has(map[string]int{"primary": 3, "file": 0})
		if b := c.books("failover"); b.Delivered != 5 {
			t.Errorf("books %+v", b)
		}
		c.stop(time.Second)
	})
}

func TestReceiptsNameTheRecordsOfAJournalOnly(t *testing.T) {
	for _, storage := range []string{"", "file_storage"} {
		synctest.Test(t, func(t *testing.T) {
			d := newDrawer()
			c := owing(t, d, func(_ *failover.Config, p *plan.Pipeline) { p.Storage = storage }, "primary", "file")
			var got []exporter.ReceiptRecord
			c.ends["file"].answer = func(_ int, r *exporter.Request) exporter.Verdict {
				got = append(got, r.Receipt.Records...)
				return exporter.Deliver()
			}
			c.ends["primary"].set(exporter.Retry)
			c.send(3)
			time.Sleep(time.Minute)
			synctest.Wait()
			switch {
			case storage == "" && len(got) > 0:
				t.Errorf("a queue in memory: %+v", got)
			case storage != "" && (len(got) != 3 || got[0].Seq != 1 || got[0].Accepted.IsZero()):
				t.Errorf("a journal: %+v", got)
			}
			c.stop(time.Second)
		})
	}
}

func TestARefusedDebtStaysWhereItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, d := withFile(t, func(cfg *failover.Config, _ *plan.Pipeline) { cfg.Backfill.After = 0 })
		c.ends["primary"].answer = func(_ int, r *exporter.Request) exporter.Verdict {
			if string(r.Parts[0]) == "poison" {
				return exporter.Verdict{Kind: exporter.Rejected}
			}
			return exporter.Deliver()
		}
		d.put("good")
		d.put("poison")
		time.Sleep(time.Minute)
		synctest.Wait()
		if !d.refused[2] || d.owes() != 1 || len(d.settled) != 1 {
			t.Errorf("refused %v, settled %v", d.refused, d.settled)
		}
		if n := c.ends["primary"].asked(); n > 3 {
			t.Errorf("asked %d times", n)
		}
		c.stop(time.Second)
	})
}
