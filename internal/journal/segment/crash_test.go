// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package segment_test

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// play makes a segment's whole life, with syncs after some groups only.
func (s *sheet) play() error {
	steps := []func() error{
		func() error { return s.begin(64 << 10) },
		func() error { return s.group(3, 5, 700) },
		s.sync,
		func() error { return s.group(1, 0, 5000) },
		func() error { return s.group(4, 2, 60) },
		s.sync,
		func() error { return s.group(2, 2, 17<<10) },
		func() error {
			err := s.w.Seal()
			if err == nil {
				s.synced = len(s.records)
			}
			return err
		},
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// survives says that the acknowledged records are on a disk, and nothing that was never appended. It returns what is
// wrong.
func (s *sheet) survives(disk vfs.FS) string {
	file, err := disk.OpenFile(name, vfs.Read, 0)
	if errors.Is(err, fs.ErrNotExist) && s.synced == 0 {
		return ""
	}
	s.ok(err)
	defer file.Close()
	in, err := segment.Inspect(file, name)
	s.ok(err)
	scan := segment.Scan{}
	if in.Class == segment.Sealed || in.Class == segment.Unsealed || in.Class == segment.Headless {
		scan, err = in.Scan(file, s.checked)
		s.ok(err)
	} else if s.synced > 0 {
		return "the segment is " + in.Class.String()
	}
	switch {
	case scan.Records > 0 && scan.First != baseSeq && s.synced > 0:
		return "the first records are gone"
	case int(scan.Records) < s.synced && len(scan.Gaps) == 0:
		return "acknowledged records are gone from the end"
	case len(scan.Gaps) > 0 && int(scan.Gaps[0].First)-baseSeq < s.synced:
		return "acknowledged records are damaged"
	case in.Class == segment.Sealed && (len(scan.Gaps) > 0 || int(in.Seal.Records) != len(s.records)):
		return "the seal vouches for what is not there"
	}
	return ""
}

const crashSeeds = 8

func TestAcknowledgedRecordsSurviveACrashAtEveryStep(t *testing.T) {
	mem := vfs.NewMem(0)
	disk := vfs.NewFaulty(mem)
	s := &sheet{TB: t, disk: disk}
	crashes := 0
	crash := func(c vfs.Call) {
		if wrong := s.survives(mem.KillClone()); wrong != "" {
			t.Errorf("killed at %s: %s", c.Name, wrong)
		}
		for seed := range uint64(crashSeeds * 4) {
			crashes++
			if wrong := s.survives(mem.CrashClone(seed)); wrong != "" {
				t.Errorf("power cut at call %d, %s, seed %d: %s", c.N, c.Name, seed, wrong)
			}
		}
	}
	disk.Watch(vfs.Watch{Before: crash, After: crash})
	s.ok(s.play())
	if s.synced != 10 || crashes < 500 {
		t.Errorf("%d records acknowledged, %d crashes", s.synced, crashes)
	}
}

func TestTheCrashTestFindsLies(t *testing.T) {
	for _, lie := range []string{"datasync *", "syncdir *"} {
		mem := vfs.NewMem(0)
		s := &sheet{TB: t, disk: vfs.NewFaulty(mem, vfs.Rule{Call: lie, Lie: true})}
		s.ok(s.play())
		caught := 0
		for seed := range uint64(50) {
			file, err := mem.CrashClone(seed).OpenFile(name, vfs.Read, 0)
			if err != nil {
				caught++
				continue
			}
			_ = file.Close()
			if s.survives(mem.CrashClone(seed)) != "" {
				caught++
			}
		}
		if caught == 0 {
			t.Errorf("a disk that lies about %s was not caught", lie)
		}
	}
}

func TestAFailedCallCondemnsTheSegmentForGood(t *testing.T) {
	clean := vfs.NewFaulty(vfs.NewMem(0))
	probe := &sheet{TB: t, disk: clean}
	probe.ok(probe.play())
	for n, call := range clean.Calls("") {
		for _, cause := range []error{syscall.EIO, syscall.ENOSPC, syscall.EROFS} {
			mem := vfs.NewMem(0)
			disk := vfs.NewFaulty(mem, vfs.Rule{N: n + 1, Err: cause})
			s := &sheet{TB: t, disk: disk}
			err := s.play()
			if !errors.Is(err, cause) || disk.Hits() != 1 {
				t.Fatalf("%s fails with %v: %v", call.Name, cause, err)
			}
			if s.w == nil { // while it was prepared: nothing is left of it
				if _, err := mem.Stat(name); !errors.Is(err, fs.ErrNotExist) && !strings.HasPrefix(call.Name, "remove") {
					t.Errorf("%s failed: the file is still there", call.Name)
				}
				continue
			}
			if !errors.Is(err, segment.ErrCondemned) || !errors.Is(s.w.Err(), cause) {
				t.Errorf("%s fails: %v, condemned: %v", call.Name, err, s.w.Err())
			}
			durable := s.w.Durable()
			_, errAppend := s.w.Append([]segment.Record{record(0, 1, 1)})
			for _, err := range []error{errAppend, s.w.Sync(s.w.Mark()), s.w.Seal()} {
				if !errors.Is(err, segment.ErrCondemned) {
					t.Errorf("%s failed, afterwards: %v", call.Name, err)
				}
			}
			if calls, _ := disk.Count(""); calls != n+1 || s.w.Durable() != durable {
				t.Errorf("%s failed, and %d calls were made after it", call.Name, calls-n-1)
			}
			for seed := range uint64(crashSeeds) {
				if wrong := s.survives(mem.CrashClone(seed)); wrong != "" {
					t.Errorf("%s failed, seed %d: %s", call.Name, seed, wrong)
				}
			}
		}
	}
}

func TestAFullDiskAtEveryByteLosesNothingAcknowledged(t *testing.T) {
	clean := vfs.NewFaulty(vfs.NewMem(0))
	probe := &sheet{TB: t, disk: clean}
	probe.ok(probe.play())
	_, total := clean.Count("write *")
	for room := int64(0); room < total; room += 61 {
		mem := vfs.NewMem(0)
		disk := vfs.NewFaulty(mem, vfs.Rule{Call: "write *", Err: syscall.ENOSPC, Room: room})
		s := &sheet{TB: t, disk: disk}
		if err := s.play(); !vfs.IsFull(err) || disk.Hits() != 1 {
			t.Fatalf("room for %d of %d bytes: %v", room, total, err)
		}
		for _, left := range []*vfs.Mem{mem.KillClone(), mem.CrashClone(0), mem.CrashClone(uint64(room) + 2)} {
			if wrong := s.survives(left); wrong != "" {
				t.Errorf("room for %d of %d bytes: %s", room, total, wrong)
			}
		}
	}
}

func TestASegmentIsExtendedWhereNothingCanBeAllocated(t *testing.T) {
	mem := vfs.NewMem(0)
	s := &sheet{TB: t, disk: vfs.NewFaulty(mem, vfs.Rule{Call: "allocate *", Err: vfs.ErrUnsupported})}
	s.ok(s.play())
	if wrong := s.survives(mem.CrashClone(0)); wrong != "" {
		t.Error(wrong)
	}
}

func TestASyncMayRunBesideAppends(t *testing.T) {
	mem := vfs.NewMem(0)
	hold := vfs.NewHold()
	disk := vfs.NewFaulty(mem)
	s := open(t, disk, 64<<10)
	s.ok(s.group(2, 1, 100))
	disk.Plan(vfs.Rule{Call: "datasync *", Hold: hold, Times: 1})
	upTo := s.w.Mark()
	done := make(chan error)
	go func() { done <- s.w.Sync(upTo) }()
	<-hold.Reached()
	s.ok(s.group(2, 1, 100))
	if s.w.Durable() != 0 {
		t.Error("durable before the sync ended")
	}
	hold.Release()
	s.ok(<-done)
	if s.w.Durable() != upTo {
		t.Errorf("durable to %d, want %d", s.w.Durable(), upTo)
	}
	s.synced = 2
	for seed := range uint64(crashSeeds) {
		if wrong := s.survives(mem.CrashClone(seed)); wrong != "" {
			t.Errorf("seed %d: %s", seed, wrong)
		}
	}
}
