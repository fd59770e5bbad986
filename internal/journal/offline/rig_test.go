// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package offline_test

import (
	"fmt"
	"path"
	"slices"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/journal/offline"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

const (
	directory = "/var/lib/holdfast"
	pipeline  = "traces/in"
	primary   = "otlp_grpc/primary"
	backup    = "otlp_grpc/backup"
)

// rig is a store on a disk in memory with one journal, written by the journal itself.
type rig struct {
	t     *testing.T
	disk  *vfs.Mem
	store *journal.Store
	j     *journal.Journal
	heads map[string]queue.Cursor
	next  int
}

// newRig opens a journal with a destination for each name.
func newRig(t *testing.T, names ...string) *rig {
	t.Helper()
	r := &rig{t: t, disk: vfs.NewMem(1 << 32)}
	r.open(names...)
	t.Cleanup(r.close)
	return r
}

func (r *rig) open(names ...string) {
	r.t.Helper()
	o := journal.Options{Config: *journal.Default().(*journal.Config), Heads: 1, Segments: 64 << 10, Owner: "pid 7"}
	o.Directory, o.MaxFileSizeMiB, o.MinFreeMiB = directory, 1<<10, 1
	var err error
	if r.store, err = journal.OpenStore(r.t.Context(), r.disk, o); err != nil {
		r.t.Fatal(err)
	}
	var wanted []queue.Destination
	for _, n := range names {
		wanted = append(wanted, queue.Destination{Name: n, Exporters: []string{n}, Stored: true})
	}
	if r.j, err = r.store.Head(pipeline, 1, wanted); err != nil {
		r.t.Fatal(err)
	}
	r.heads = map[string]queue.Cursor{}
	for _, n := range names {
		r.heads[n] = r.j.Attach(n)
	}
}

// close ends the process in order.
func (r *rig) close() {
	if r.store == nil {
		return
	}
	ctx := r.t.Context()
	if err := r.j.Close(ctx); err != nil && ctx.Err() == nil {
		r.t.Error(err)
	}
	if err := r.store.Close(ctx); err != nil && ctx.Err() == nil {
		r.t.Error(err)
	}
	r.store = nil
}

// kill ends the process as kill -9 would, and returns the disk it leaves.
func (r *rig) kill() *vfs.Mem {
	left := r.disk.KillClone()
	r.close()
	r.disk = left
	return left
}

// body is what record number n holds: enough that a few records fill a segment's index.
func body(n int) []byte { return slices.Repeat([]byte(fmt.Sprintf("record %06d ", n)), 40) }

// append stores n records, each of as many items as its number's last digit.
func (r *rig) append(n int) {
	r.t.Helper()
	for range n {
		r.next++
		err := r.j.Append(r.t.Context(), queue.Record{
			Tag: 1, Items: uint32(r.next % 10), Size: 520, Meta: []byte("m"), Body: body(r.next),
		})
		if err != nil {
			r.t.Fatal(err)
		}
	}
}

// resolve takes what is there of a destination and does with each record what outcome says of its number.
func (r *rig) resolve(name string, n int, outcome func(queue.Seq) queue.Outcome) {
	r.t.Helper()
	for range n {
		got, err := r.heads[name].Take(r.t.Context(), queue.Want{})
		if err != nil {
			r.t.Fatal(err)
		}
		for _, d := range got {
			if err := r.heads[name].Resolve(outcome(d.Seq), d.Seq); err != nil {
				r.t.Fatal(err)
			}
		}
	}
}

func ack(queue.Seq) queue.Outcome { return queue.Outcome{Kind: queue.Ack} }

// look opens the store and inspects its journal.
func look(t *testing.T, disk vfs.FS) (*offline.Store, *offline.Journal) {
	t.Helper()
	s, err := offline.Open(disk, directory)
	if err != nil {
		t.Fatal(err)
	}
	j, err := s.Inspect(named(t, s), nil)
	if err != nil {
		t.Fatal(err)
	}
	return s, j
}

func named(t *testing.T, s *offline.Store) offline.Name {
	t.Helper()
	names, err := s.Names()
	if err != nil || len(names) != 1 || names[0].Pipeline != pipeline {
		t.Fatalf("journals %v, %v", names, err)
	}
	return names[0]
}

// numbers are the numbers of what waits for a destination, each checked for what it should hold.
func numbers(t *testing.T, j *offline.Journal, name string, from queue.Seq) (out []queue.Seq, missed offline.Missed) {
	t.Helper()
	c := j.Cursor(name)
	if c == nil {
		t.Fatalf("no cursor of %s", name)
	}
	missed, err := j.Unresolved(c, from, func(r *offline.Record) error {
		if string(r.Body) != string(body(int(r.Seq))) || string(r.Meta) != "m" || r.Items != uint32(r.Seq%10) {
			t.Errorf("record %d holds %d items, %q, %.20q", r.Seq, r.Items, r.Meta, r.Body)
		}
		out = append(out, r.Seq)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out, missed
}

// span is the numbers from first to last.
func span(first, last queue.Seq) (out []queue.Seq) {
	for s := first; s <= last; s++ {
		out = append(out, s)
	}
	return out
}

func same(t *testing.T, what string, got, want []queue.Seq) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: records %v, want %v", what, got, want)
	}
}

// segments are the paths of the journal's segments, in order.
func segments(t *testing.T, disk vfs.FS) (out []string) {
	t.Helper()
	dir := path.Join(layout.Pipeline(directory, pipeline), layout.Segments)
	entries, err := disk.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		out = append(out, path.Join(dir, e.Name))
	}
	return out
}

// flip inverts a byte of a file.
func flip(t *testing.T, disk vfs.FS, name string, off int64) {
	t.Helper()
	f, err := disk.OpenFile(name, vfs.Write, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, off); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0xff
	if _, err := f.WriteVAt([][]byte{b}, off); err != nil {
		t.Fatal(err)
	}
}

// items are those of the records numbered.
func items(seqs []queue.Seq) (sum uint64) {
	for _, s := range seqs {
		sum += uint64(s % 10)
	}
	return sum
}

// slot reads a destination's cursor.
func slot(t *testing.T, disk vfs.FS, name string) cursor.Slot {
	t.Helper()
	s, err := cursor.Read(disk, layout.Cursor(layout.Pipeline(directory, pipeline), name))
	if err != nil {
		t.Fatal(err)
	}
	return s
}
