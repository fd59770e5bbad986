// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package vault_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/exporter/file/vault"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const path = "/var/emergency/telemetry.jsonl"

var us = vault.Owner{Pipeline: "traces/input", Connector: "failover/traces", Signal: "traces"}

// rig is a vault on a disk in memory.
type rig struct {
	*vault.Vault
	t    testing.TB
	mem  *vfs.Mem
	disk vfs.FS
	set  vault.Settings
}

func settings(change func(*vault.Settings)) vault.Settings {
	set := vault.Settings{Path: path, Append: true, DirMode: 0o755, Log: zap.NewNop(), Pad: padding}
	if change != nil {
		change(&set)
	}
	return set
}

func open(t testing.TB, mem *vfs.Mem, change func(*vault.Settings)) *rig {
	t.Helper()
	r := &rig{t: t, mem: mem, disk: mem, set: settings(change)}
	r.open()
	t.Cleanup(r.close)
	return r
}

func (r *rig) open() {
	r.t.Helper()
	var err error
	if r.Vault, err = vault.Open(r.disk, r.set); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) close() {
	r.t.Helper()
	if r.Vault != nil {
		if err := r.Close(context.Background()); err != nil {
			r.t.Error(err)
		}
	}
}

func (r *rig) reopen() {
	r.t.Helper()
	r.close()
	r.open()
}

// batch is the data of batch n: lines or frames.
func batch(n int, framed bool) []byte {
	text := fmt.Sprintf(`{"batch":%d,"pad":%q}`, n, strings.Repeat("x", 40+n%7))
	if framed {
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...)
	}
	return []byte(text + "\n" + text + "\n")
}

// padding is a frame of spaces.
func padding(n int64) []byte {
	if n < 5 {
		n += 4096
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(n-4)), bytes.Repeat([]byte{' '}, int(n)-4)...)
}

// plain is data without what pads it.
func plain(b []byte) string {
	if i := bytes.Index(b, []byte("    ")); i >= 4 && b[0] != '{' {
		return string(b[:i-4])
	}
	return strings.ReplaceAll(string(b), " ", "")
}

func entry(n int, framed bool) vault.Entry {
	return vault.Entry{Data: batch(n, framed), Owner: us, Items: uint32(n%5 + 1), Records: []vault.Record{record(n)}}
}

func record(n int) vault.Record {
	return vault.Record{Seq: uint64(n), Accepted: 1_763_633_700_000_000_000 + int64(n)}
}

func (r *rig) put(n int) {
	r.t.Helper()
	if _, err := r.Put(context.Background(), entry(n, r.set.Framed)); err != nil {
		r.t.Fatal(err)
	}
}

// lent borrows every debt there is.
func lent(t testing.TB, v *vault.Vault, o vault.Owner) []vault.Debt {
	t.Helper()
	var out []vault.Debt
	for {
		d, ok, err := v.Lend(o)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return out
		}
		out = append(out, d)
	}
}

// owes checks that the vault lends these batches, in order, and nothing else.
func (r *rig) owes(numbers ...int) []vault.Debt {
	r.t.Helper()
	debts := lent(r.t, r.Vault, us)
	var got []string
	var want []string
	items := int64(0)
	for _, d := range debts {
		got = append(got, plain(d.Data))
		r.Return(d.N, 0)
	}
	for _, n := range numbers {
		want = append(want, string(batch(n, r.set.Framed)))
		items += int64(n%5 + 1)
	}
	if !slices.Equal(got, want) {
		r.t.Errorf("lends %q, want %q", got, want)
	}
	if s := r.Sums(us); s.Items != items || s.Receipts != int64(len(numbers)) {
		r.t.Errorf("sums %+v, want %d receipts of %d items", s, len(numbers), items)
	}
	return debts
}

func (r *rig) files() []string {
	r.t.Helper()
	entries, err := r.mem.ReadDir("/var/emergency")
	if err != nil {
		r.t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name)
	}
	return out
}

// rotated are the names of rotated files.
func (r *rig) rotated() []string {
	return slices.DeleteFunc(r.files(), func(s string) bool { return !strings.HasPrefix(s, "telemetry-") })
}

func (r *rig) write(name, text string) {
	r.t.Helper()
	f, err := r.mem.OpenFile(name, vfs.Write, 0)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = r.mem.OpenFile(name, vfs.Create, 0o600)
	}
	var info vfs.Info
	if err == nil {
		info, err = f.Stat()
	}
	if err == nil {
		_, err = f.WriteVAt([][]byte{[]byte(text)}, info.Size)
	}
	if err == nil {
		err = errors.Join(f.Datasync(), f.Close())
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

func TestWhatWasPutIsOwedUntilItIsSettled(t *testing.T) {
	for _, framed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := open(t, vfs.NewMem(0), func(s *vault.Settings) { s.Framed = framed })
			for n := range 5 {
				r.put(n)
			}
			debts := r.owes(0, 1, 2, 3, 4)
			r.Settle(debts[1].N, 0)
			r.Settle(debts[3].N, 1)
			r.owes(0, 2, 4)
			r.reopen()
			r.owes(0, 2, 4)
			if s := r.Sums(us); s.Rejected != 1 || s.Removed != 0 {
				t.Errorf("sums %+v", s)
			}
			for n := range 5 {
				if !r.Named(us, record(n)) {
					t.Errorf("record %d is not known to lie here", n)
				}
			}
			if r.Named(us, record(7)) || r.Named(vault.Owner{}, record(1)) {
				t.Error("a record is known that is not here")
			}
			r.close()
			r.Vault = nil
		})
	}
}

// After an end out of order nobody knows what was paid last: so much counts as possible duplicates, and no more.
func TestDebtsAreInDoubtAfterAnEndOutOfOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, vfs.NewMem(0), nil)
		for n := range 400 {
			r.put(n)
		}
		killed := r.mem.KillClone()
		count := func(mem *vfs.Mem) (again int) {
			v, err := vault.Open(mem, settings(nil))
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range lent(t, v, us) {
				if d.Again {
					again++
				}
			}
			if err := v.Close(context.Background()); err != nil {
				t.Error(err)
			}
			return again
		}
		if n := count(killed); n == 0 || n > 256 {
			t.Errorf("%d of 400 debts are in doubt after a kill", n)
		}
		if n := count(killed); n != 0 {
			t.Errorf("%d debts are in doubt after an end in order", n)
		}
		r.close()
		r.Vault = nil
	})
}

func TestNothingIsLentWhileSettlementsWaitForTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem, hold := vfs.NewMem(0), vfs.NewHold()
		faulty := vfs.NewFaulty(mem)
		r := &rig{t: t, mem: mem, disk: faulty, set: settings(nil)}
		r.open()
		for n := range 300 {
			r.put(n)
		}
		faulty.Plan(vfs.Rule{Call: "datasync *receipts*", Hold: hold})
		for range 300 {
			d, ok, err := r.Lend(us)
			if err != nil {
				t.Fatal(err)
			}
			if ok {
				r.Settle(d.N, 0)
			}
		}
		if s := r.Sums(us); s.Receipts < 300-128 {
			t.Errorf("%d debts were settled in memory only", 300-s.Receipts)
		}
		hold.Release()
		time.Sleep(time.Second)
		if got := len(lent(t, r.Vault, us)); got < 100 {
			t.Errorf("%d debts are lent when the disk is back", got)
		}
		r.close()
	})
}

func TestOneSyncServesAllWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem(0)
		hold := vfs.NewHold()
		faulty := vfs.NewFaulty(mem, vfs.Rule{Call: "datasync " + path, Hold: hold, Times: 1})
		r := &rig{t: t, mem: mem, disk: faulty, set: settings(nil)}
		r.open()
		var all sync.WaitGroup
		for n := range 40 {
			all.Go(func() { r.put(n) })
			if n == 0 {
				<-hold.Reached()
			}
		}
		synctest.Wait()
		hold.Release()
		all.Wait()
		if data, _ := faulty.Count("datasync " + path); data > 3 {
			t.Errorf("%d syncs of data for 40 batches, 39 of which waited", data)
		}
		if len(lent(t, r.Vault, us)) != 40 {
			t.Error("not all are owed")
		}
		r.close()
	})
}

func TestAFullVaultRefusesAndTakesAgainWhenItIsPaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, vfs.NewMem(0), func(s *vault.Settings) { s.Cap = 30_000 })
		r.put(1)
		_, err := r.Put(context.Background(), entry(2, false))
		for n := 3; err == nil; n++ {
			_, err = r.Put(context.Background(), entry(n, false))
		}
		if !errors.Is(err, vault.ErrFull) {
			t.Fatal(err)
		}
		if err := r.Probe(context.Background()); !errors.Is(err, vault.ErrFull) {
			t.Errorf("probe of a full vault: %v", err)
		}
		for _, d := range lent(t, r.Vault, us) {
			r.Settle(d.N, 0)
		}
		time.Sleep(time.Second)
		if err := r.Probe(context.Background()); err != nil {
			t.Errorf("probe: %v", err)
		}
		r.put(9)
		r.owes(9)
		if left := r.rotated(); len(left) > 0 {
			t.Errorf("%q is left of what was paid", left)
		}
		r.close()
		r.Vault = nil
	})
}

func TestRotationKeepsWhatIsOwedAndDeletesWhatIsPaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, vfs.NewMem(0), func(s *vault.Settings) { s.MaxFile, s.MaxBackups, s.MaxAge = 16_000, 1, time.Hour })
		for n := range 8 {
			r.put(n)
			time.Sleep(time.Second)
		}
		if len(r.rotated()) < 3 {
			t.Fatalf("files %q", r.files())
		}
		time.Sleep(3 * time.Hour)
		r.reopen()
		debts := r.owes(0, 1, 2, 3, 4, 5, 6, 7)
		for _, d := range debts[:7] {
			r.Settle(d.N, 0)
		}
		time.Sleep(time.Second)
		if left := r.rotated(); len(left) > 1 {
			t.Errorf("%q is left of what was paid", left)
		}
		r.reopen()
		r.owes(7)
		r.close()
		r.Vault = nil
	})
}

func TestARemovedFileIsADropThatIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, vfs.NewMem(0), func(s *vault.Settings) { s.MaxFile = 16_000 })
		for n := range 4 {
			r.put(n)
			time.Sleep(time.Second)
		}
		old := r.rotated()
		if err := r.mem.Remove("/var/emergency/" + old[0]); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		before := r.Sums(us)
		if before.Removed == 0 || before.Items+int64(before.Removed) != 1+2+3+4 {
			t.Errorf("sums %+v", before)
		}
		if r.Named(us, record(0)) {
			t.Error("a record of a removed file still counts as kept")
		}
		// The present file too, under the writer's hands.
		if err := r.mem.Remove(path); err != nil {
			t.Fatal(err)
		}
		r.put(9)
		r.reopen()
		after := r.Sums(us)
		if after.Items+int64(after.Removed) != 1+2+3+4+5 || after.Removed <= before.Removed {
			t.Errorf("sums %+v, then %+v", before, after)
		}
		if d := lent(t, r.Vault, us); plain(d[len(d)-1].Data) != string(batch(9, false)) {
			t.Errorf("the last debt is %q", d[len(d)-1].Data)
		}
		r.close()
		r.Vault = nil
	})
}

func TestUnfinishedLinesAreCutInBothFilesAndDataWithoutAReceiptStays(t *testing.T) {
	for _, framed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := open(t, vfs.NewMem(0), func(s *vault.Settings) { s.Framed = framed })
			r.put(1)
			r.close()
			r.write(path, string(batch(2, framed))+string(batch(3, framed)[:9]))
			r.write(path+".receipts", `{"n":2,"file":"telemetry.jsonl","off`)
			r.open()
			r.owes(1)
			r.put(4)
			r.owes(1, 4)
			f, err := r.mem.OpenFile(path, vfs.Read, 0)
			if err != nil {
				t.Fatal(err)
			}
			info, _ := f.Stat()
			b := make([]byte, info.Size)
			if _, err := f.ReadAt(b, 0); err != nil {
				t.Fatal(err)
			}
			two := []byte(strings.ReplaceAll(string(batch(2, framed)), " ", ""))
			if i := bytes.Index(b, two); i != 4096 || bytes.Index(b, batch(4, framed)[:40]) != 4096+len(two) {
				t.Errorf("unclaimed data at %d of %q", i, b)
			}
			_ = f.Close()
			r.close()
			r.Vault = nil
		})
	}
}

func TestDamageIsCountedAndKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, vfs.NewMem(0), nil)
		for n := range 3 {
			r.put(n)
		}
		r.close()
		f, err := r.mem.OpenFile(path, vfs.Write, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteVAt([][]byte{[]byte("#")}, 4096+3); err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		r.write(path+".receipts", `{"settled":3,"how":"delivered","sum":"00000000"}`+"\n")
		r.open()
		if got := r.Damaged(); got != 2 {
			t.Errorf("%d damaged, want a line and a receipt", got)
		}
		debts := lent(t, r.Vault, us)
		if len(debts) != 2 || plain(debts[1].Data) != string(batch(2, false)) {
			t.Errorf("lends %+v", debts)
		}
		if s := r.Sums(us); s.Receipts != 3 {
			t.Errorf("sums %+v: what is damaged is owed all the same", s)
		}
		if r.Named(us, record(1)) {
			t.Error("a record counts as kept whose data is damaged")
		}
		r.close()
		r.Vault = nil
	})
}

func TestAFileOfSomebodyElseIsSetAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem(0)
		r := &rig{t: t, mem: mem, disk: mem, set: settings(nil)}
		for _, dir := range []string{"/var", "/var/emergency"} {
			if err := mem.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		r.write(path, "a diary\n")
		r.open()
		r.put(1)
		r.owes(1)
		if names := r.rotated(); len(names) != 1 || !strings.HasSuffix(names[0], "-damaged.jsonl") {
			t.Errorf("files %q", r.files())
		}
		r.close()
	})
}

func TestTwoProcessesDoNotShareAVault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, vfs.NewMem(0), nil)
		if _, err := vault.Open(r.mem, r.set); !errors.Is(err, vfs.ErrLocked) {
			t.Errorf("second open: %v", err)
		}
		r.close()
		r.Vault = nil
	})
}

func TestReceiptsAreWrittenAnewWhenMostSayNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, vfs.NewMem(0), func(s *vault.Settings) { s.MaxFile = 1 << 20 })
		long := make([]vault.Record, 3000)
		for round := range 60 {
			for i := range long {
				long[i] = vault.Record{Seq: uint64(round*3000 + i), Accepted: 1_763_633_700_000_000_000}
			}
			e := entry(round, false)
			e.Records = long
			e.Data = []byte(`{"pad":"` + strings.Repeat("y", 600<<10) + "\"}\n")
			if _, err := r.Put(context.Background(), vault.Entry{Data: e.Data, Owner: us, Items: 1, Records: slices.Clone(long)}); err != nil {
				t.Fatal(err)
			}
			for _, d := range lent(t, r.Vault, us) {
				r.Settle(d.N, 0)
			}
			time.Sleep(time.Second)
		}
		info, err := r.mem.Stat(path + ".receipts")
		if err != nil || info.Size > 6<<20 {
			t.Errorf("receipts of %d bytes, %v", info.Size, err)
		}
		r.put(1)
		r.reopen()
		r.owes(1)
		if !r.Named(us, vault.Record{Seq: 59*3000 + 7, Accepted: 1_763_633_700_000_000_000}) {
			t.Error("a record put lately is forgotten")
		}
		r.close()
		r.Vault = nil
	})
}
