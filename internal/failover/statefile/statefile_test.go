// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package statefile_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/failover/statefile"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

func downNow(exporters ...string) []failover.Remembered {
	var out []failover.Remembered
	for _, e := range exporters {
		out = append(out, failover.Remembered{Connector: "failover", Signal: "traces", Exporter: e, Config: "x",
			At: time.Now().UTC().Round(0), Reason: "retry", Error: "connection refused"})
	}
	return out
}

func TestWhatIsDownIsWrittenAtMostOnceASecondAndAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem(0)
		ok(t, disk.Mkdir("/state", 0o700))
		names := &renames{FS: disk}
		k := statefile.New(names, []string{"/state"}, zap.NewNop())
		if got := k.Recall(); got != nil {
			t.Errorf("out of nothing %v", got)
		}
		k.Start()
		for range 100 { // ten seconds
			k.Tell(downNow("a"))
			time.Sleep(100 * time.Millisecond)
		}
		if n := names.n.Load(); n < 9 || n > 11 {
			t.Errorf("written %d times in ten seconds", n)
		}
		want := downNow("a", "b")
		k.Tell(want)
		ok(t, k.Stop(context.Background()))
		if got := statefile.New(disk.CrashClone(1), []string{"/state"}, zap.NewNop()).Recall(); !slices.Equal(got, want) {
			t.Errorf("remembered %v, want %v", got, want)
		}
	})
}

// renames counts them.
type renames struct {
	vfs.FS
	n atomic.Int32
}

func (r *renames) Rename(from, to string) error {
	r.n.Add(1)
	return r.FS.Rename(from, to)
}

func TestDamagedMemoryOfWhatWasDownIsIgnoredWithAWarning(t *testing.T) {
	for _, text := range []string{"", "{", `{"version":2,"down":[]}`, `{"version":1,"down":7}`, `{"version":1,"down":[]} x`} {
		core, logs := observer.New(zap.WarnLevel)
		disk := vfs.NewMem(0)
		ok(t, disk.Mkdir("/state", 0o700))
		f, err := disk.OpenFile("/state/failover.json", vfs.Create, 0o600)
		ok(t, err)
		_, err = f.WriteVAt([][]byte{[]byte(text)}, 0)
		ok(t, err)
		ok(t, f.Close())
		if got := statefile.New(disk, []string{"/state"}, zap.New(core)).Recall(); len(got) > 0 || logs.Len() != 1 {
			t.Errorf("%q: %v, %d warnings", text, got, logs.Len())
		}
	}
}

// Several processes may share a state directory; what one of them kept in the older place is read once.
func TestWhatWasDownIsKeptPerSourcesAndFoundWhereItWasBefore(t *testing.T) {
	disk := vfs.NewMem(0)
	for _, dir := range []string{"/state", "/state/config", "/state/config/one", "/state/config/two"} {
		ok(t, disk.Mkdir(dir, 0o700))
	}
	was := downNow("otlp/old")
	keep(t, statefile.New(disk, []string{"/state"}, zap.NewNop()), was)
	one := statefile.New(disk, []string{"/state/config/one", "/state"}, zap.NewNop())
	if got := one.Recall(); !slices.Equal(got, was) {
		t.Errorf("of the older place: %v, want %v", got, was)
	}
	now := downNow("otlp/one")
	keep(t, one, now)
	if got := one.Recall(); !slices.Equal(got, now) {
		t.Errorf("of the first: %v, want %v", got, now)
	}
	two := statefile.New(disk, []string{"/state/config/two", "/state"}, zap.NewNop())
	keep(t, two, downNow("otlp/two"))
	if got := one.Recall(); !slices.Equal(got, now) {
		t.Errorf("another process's: %v, want %v", got, now)
	}
}

// keep has a list written and waits for it.
func keep(t *testing.T, f *statefile.File, list []failover.Remembered) {
	t.Helper()
	f.Start()
	f.Tell(list)
	ok(t, f.Stop(t.Context()))
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
