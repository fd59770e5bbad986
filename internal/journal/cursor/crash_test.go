// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package cursor_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// tale is what happens to one cursor. State k is written by step k; states have one block or several.
type tale struct {
	disk     vfs.FS
	file     *cursor.File
	asked    int // the last state that was to be written
	answered int // the last one for which that returned nil; 0 = the file was not made yet
	// sick says that a sync may have failed in a process that was killed: what Open shows need not be on the disk.
	sick bool
}

// states are made once, with their bytes in generation 0: they are compared many thousand times. Nobody changes them.
var states, stateBytes = func() (all []*cursor.Slot, written [][]byte) {
	for k := range 100 {
		s := small(k)
		if k%3 == 0 {
			s = many(100 * (k%5 + 1))
			s.Delivered.Records = uint64(k)
		}
		all, written = append(all, s), append(written, encoded(s))
	}
	return all, written
}()

func state(k int) *cursor.Slot { return states[k] }

// isState says whether s is state k, but for its generation.
func isState(s *cursor.Slot, k int) bool { return bytes.Equal(encoded(s), stateBytes[k]) }

func (l *tale) create() (err error) {
	l.asked++
	if l.file, err = cursor.Create(l.disk, name, state(l.asked)); err == nil {
		l.answered = l.asked
	}
	return err
}

func (l *tale) write() error {
	l.asked++
	err := l.file.Write(state(l.asked))
	if err == nil {
		l.answered = l.asked
	}
	return err
}

func (l *tale) close() error { return l.file.Close() }

// open takes up the state it finds; from then on that one is durable, if the file says so.
func (l *tale) open() (err error) {
	var s cursor.Slot
	if l.file, s, err = cursor.Open(l.disk, name); err != nil {
		return err
	}
	if wrong := l.judge(&s); wrong != "" {
		return errors.New(wrong)
	}
	if l.file.Err() == nil && !l.sick {
		l.answered = int(s.Delivered.Records)
	}
	return nil
}

// steps are a whole life: made, written, opened again, written.
func (l *tale) steps() []func() error {
	return []func() error{l.create, l.write, l.write, l.write, l.close, l.open, l.write, l.write, l.write, l.close}
}

// judge says what is wrong with a state that was read.
func (l *tale) judge(s *cursor.Slot) string {
	switch k := int(s.Delivered.Records); {
	case k < l.answered || k > l.asked || k < 1 || k >= len(states):
		return fmt.Sprintf("state %d is read, %d was the last answered of %d", k, l.answered, l.asked)
	case !isState(s, k):
		return fmt.Sprintf("state %d is not as it was written", k)
	}
	return ""
}

// survives says what is wrong with a disk a crash left.
func (l *tale) survives(disk vfs.FS) string {
	s, err := cursor.Read(disk, name)
	if errors.Is(err, fs.ErrNotExist) && l.answered == 0 {
		return ""
	}
	if err != nil {
		return err.Error()
	}
	return l.judge(&s)
}

// goesOn opens what a crash left, writes twice, and has every call of that crash too.
func (l *tale) goesOn(mem *vfs.Mem, seeds uint64) string {
	disk := vfs.NewFaulty(mem)
	next := &tale{disk: disk, asked: l.asked, answered: l.answered, sick: l.sick}
	wrong := ""
	crash := func(c vfs.Call) {
		for seed := range seeds {
			if w := next.survives(mem.CrashClone(seed)); w != "" && wrong == "" {
				wrong = fmt.Sprintf("then cut at %s with seed %d: %s", c.Name, seed, w)
			}
		}
	}
	disk.Watch(vfs.Watch{Before: crash, After: crash})
	start := next.open
	if _, err := mem.Stat(name); errors.Is(err, fs.ErrNotExist) {
		start = next.create
	}
	for _, step := range []func() error{start, next.write, next.write, next.close} {
		if err := step(); err != nil {
			return "then: " + err.Error()
		}
	}
	if s, err := cursor.Read(mem, name); err != nil || next.judge(&s) != "" {
		return fmt.Sprintf("in the end: %+v, %v", s, err)
	}
	return wrong
}

const crashSeeds = 32

func TestAWrittenStateSurvivesACrashAtEveryStep(t *testing.T) {
	mem := newDisk(t)
	disk := vfs.NewFaulty(mem)
	l := &tale{disk: disk}
	crashes, absent := 0, 0
	crash := func(c vfs.Call) {
		if wrong := l.survives(mem.KillClone()); wrong != "" {
			t.Errorf("killed at call %d, %s: %s", c.N, c.Name, wrong)
		}
		if wrong := l.goesOn(mem.KillClone(), 6); wrong != "" {
			t.Errorf("killed at call %d, %s: %s", c.N, c.Name, wrong)
		}
		for seed := range uint64(crashSeeds) {
			crashes++
			clone := mem.CrashClone(seed)
			if wrong := l.survives(clone); wrong != "" {
				t.Errorf("power cut at call %d, %s, seed %d: %s", c.N, c.Name, seed, wrong)
			}
			if _, err := clone.Stat(name); err != nil {
				absent++
			}
			if seed%8 > 1 {
				continue
			}
			if wrong := l.goesOn(clone, 2); wrong != "" {
				t.Errorf("power cut at call %d, %s, seed %d: %s", c.N, c.Name, seed, wrong)
			}
		}
	}
	disk.Watch(vfs.Watch{Before: crash, After: crash})
	for _, step := range l.steps() {
		ok(t, step())
	}
	if crashes < 1000 || absent == 0 || l.answered != 7 {
		t.Errorf("%d crashes, %d of them left no file, %d states answered", crashes, absent, l.answered)
	}
}

// TestAWrittenStateSurvivesAnyFailedCall fails every call of the life, once and from then on for a while, with crashes
// after every step. In the end the disk is well again, and so is the cursor.
func TestAWrittenStateSurvivesAnyFailedCall(t *testing.T) {
	clean := vfs.NewFaulty(newDisk(t))
	probe := &tale{disk: clean}
	for _, step := range probe.steps() {
		ok(t, step())
	}
	calls := clean.Calls("")
	for _, call := range calls {
		for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
			for _, lasts := range []bool{false, true} {
				mem := newDisk(t)
				rules := []vfs.Rule{{N: call.N, Err: cause}}
				for n := 1; lasts && n < 9; n++ {
					rules = append(rules, vfs.Rule{N: call.N + n, Err: cause})
				}
				disk := vfs.NewFaulty(mem, rules...)
				fails(t, mem, disk, fmt.Sprintf("call %d, %s fails with %v, lasting: %v", call.N, call.Name, cause, lasts))
			}
		}
	}
	if len(calls) < 25 {
		t.Errorf("only %d calls", len(calls))
	}
}

// fails lives through the tale on a disk with faults.
func fails(t *testing.T, mem *vfs.Mem, disk *vfs.Faulty, what string) {
	t.Helper()
	failures := 0
	l := &tale{disk: watched{disk, t, &failures}, sick: true}
	survived := func() {
		t.Helper()
		if disk.Hits() == 0 { // as in the life without faults
			return
		}
		if wrong := l.survives(mem.KillClone()); wrong != "" {
			t.Fatalf("%s: killed: %s", what, wrong)
		}
		for seed := range uint64(6) {
			if wrong := l.survives(mem.CrashClone(seed)); wrong != "" {
				t.Fatalf("%s: seed %d: %s", what, seed, wrong)
			}
			if seed > 0 {
				continue
			}
			if wrong := l.goesOn(mem.CrashClone(seed), 1); wrong != "" {
				t.Fatalf("%s: seed %d: %s", what, seed, wrong)
			}
		}
		if wrong := l.goesOn(mem.KillClone(), 2); wrong != "" {
			t.Fatalf("%s: killed: %s", what, wrong)
		}
	}
	for _, step := range l.steps() {
		err := step()
		for tries := 0; err != nil && l.file == nil; tries++ { // without a file there is nothing to write to
			survived()
			if tries > 20 {
				t.Fatalf("%s: %v", what, err)
			}
			if err = l.again(mem); err == nil {
				break
			}
		}
		survived()
	}
	if disk.Hits() == 0 {
		t.Fatalf("%s: it did not", what)
	}
	disk.Plan()
	ok(t, l.open())
	ok(t, l.write())
	if l.file.Err() != nil {
		t.Errorf("%s: in the end: %v", what, l.file.Err())
	}
	survived()
	noTemp(t, mem)
	ok(t, l.close())
}

// again does what a journal does after Create or Open failed.
func (l *tale) again(mem *vfs.Mem) error {
	if _, err := mem.Stat(name); err == nil {
		return l.open()
	}
	return l.create()
}

func TestAFullDiskAtEveryByteLosesNothing(t *testing.T) {
	clean := vfs.NewFaulty(newDisk(t))
	probe := &tale{disk: clean}
	for _, step := range probe.steps() {
		ok(t, step())
	}
	_, total := clean.Count("write *")
	for room := int64(0); room < total; room += 1021 {
		mem := newDisk(t)
		disk := vfs.NewFaulty(mem, vfs.Rule{Call: "write *", Err: syscall.ENOSPC, Room: room, Times: 3})
		fails(t, mem, disk, fmt.Sprintf("room for %d of %d bytes", room, total))
	}
}

// TestAStateWhoseSyncFailedBeforeAKillIsNotBuiltUpon: the sync of a state fails, nothing else can be made durable, and
// the process is killed. The system shows that state to the next process, and does not have it on the disk. The state
// before it is the only one there, and must outlive the next Write.
func TestAStateWhoseSyncFailedBeforeAKillIsNotBuiltUpon(t *testing.T) {
	for last := 2; last < 5; last++ {
		mem := newDisk(t)
		disk := vfs.NewFaulty(mem)
		l := &tale{disk: disk}
		ok(t, l.create())
		for l.answered < last {
			ok(t, l.write())
		}
		disk.Plan(vfs.Rule{Call: "datasync *", Err: syscall.EIO}, vfs.Rule{Call: "create *", Err: syscall.EIO})
		if err := l.write(); !errors.Is(err, syscall.EIO) || disk.Hits() != 2 {
			t.Fatalf("%v", err)
		}
		left := mem.KillClone()
		if s, err := cursor.Read(left, name); err != nil || int(s.Delivered.Records) != last+1 {
			t.Fatalf("%+v, %v: the failed state is not shown, the test shows nothing", s, err)
		}
		second := vfs.NewFaulty(left)
		crashes := 0
		crash := func(c vfs.Call) {
			for seed := range uint64(200) {
				crashes++
				s, err := cursor.Read(left.CrashClone(seed), name)
				if err != nil || int(s.Delivered.Records) < last {
					t.Errorf("state %d was answered; cut at %s, seed %d: %d, %v", last, c.Name, seed, s.Delivered.Records, err)
				}
			}
		}
		second.Watch(vfs.Watch{Before: crash, After: crash})
		f, _, err := cursor.Open(second, name)
		ok(t, err)
		ok(t, f.Write(state(last+2)))
		if crashes < 1000 {
			t.Errorf("%d crashes", crashes)
		}
	}
}

func TestTheCrashTestFindsLies(t *testing.T) {
	for _, lie := range []string{"datasync *", "syncdir *", "write *", "rename *"} {
		caught := 0
		for seed := range uint64(50) {
			mem := newDisk(t)
			l := &tale{disk: vfs.NewFaulty(mem, vfs.Rule{Call: lie, Lie: true})}
			for _, step := range l.steps() {
				if err := step(); err != nil || l.survives(mem.CrashClone(seed)) != "" {
					caught++
					break
				}
			}
		}
		if caught == 0 {
			t.Errorf("a disk that lies about %s was not caught", lie)
		}
	}
}
