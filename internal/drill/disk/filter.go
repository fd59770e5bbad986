// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The kernel asks the owner of a filter about a call, and waits (seccomp_unotify(2)). Its structures and requests:
type (
	question struct {
		id    uint64
		pid   uint32
		flags uint32
		data  struct {
			nr   int32
			arch uint32
			ip   uint64
			args [6]uint64
		}
	}
	reply struct {
		id    uint64
		value int64
		err   int32
		flags uint32
	}
)

const (
	requestRecv = 0xc0502100 // SECCOMP_IOCTL_NOTIF_RECV
	requestSend = 0xc0182101 // SECCOMP_IOCTL_NOTIF_SEND
	goOn        = 1          // SECCOMP_USER_NOTIF_FLAG_CONTINUE
	offsetNr    = 0          // of the call's number in seccomp_data
)

// filter puts a filter onto this thread, which those who are started on it inherit: fsync and fdatasync ask first.
func (d *Disk) filter() error {
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offsetNr},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 2, K: unix.SYS_FDATASYNC},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 1, K: unix.SYS_FSYNC},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF},
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}
	p := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER,
		uintptr(unsafe.Pointer(&p)))
	if errno != 0 {
		return fmt.Errorf("a filter on system calls that asks: %w", errno)
	}
	unix.CloseOnExec(int(fd))
	d.notify = os.NewFile(fd, "syncs")
	return nil
}

// serve answers until the last process with the filter has ended. Calls wait beside each other, as on a disk with a queue.
func (d *Disk) serve() {
	fd := int32(d.notify.Fd())
	for {
		polled := []unix.PollFd{{Fd: fd, Events: unix.POLLIN}}
		if _, err := unix.Poll(polled, -1); err != nil {
			if errors.Is(err, unix.EINTR) {
				continue
			}
			return
		}
		if polled[0].Revents&unix.POLLIN == 0 {
			return // POLLHUP: nobody is left who could ask
		}
		var q question
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), requestRecv, uintptr(unsafe.Pointer(&q))); errno != 0 {
			continue // who asked was killed this moment
		}
		if d.fail(&q) {
			d.hits.Add(1)
			d.reply(reply{id: q.id, err: -int32(unix.EIO)})
			continue
		}
		delay := time.Duration(d.delay.Load())
		if delay <= 0 {
			d.let(q.id)
			continue
		}
		d.hits.Add(1)
		d.answer.Go(func() {
			time.Sleep(delay)
			d.let(q.id)
		})
	}
}

// let lets a call go on.
func (d *Disk) let(id uint64) { d.reply(reply{id: id, flags: goOn}) }

// reply answers a call. Who asked may be dead.
func (d *Disk) reply(r reply) {
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, d.notify.Fd(), requestSend, uintptr(unsafe.Pointer(&r)))
}

// fail says whether the sync that a thread asks for is one of those that fail, and counts it.
func (d *Disk) fail(q *question) bool {
	d.fails.Lock()
	defer d.fails.Unlock()
	if d.fails.left == 0 {
		return false
	}
	if d.fails.ending != "" {
		name, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", q.pid, int32(q.data.args[0])))
		if err != nil || !strings.HasSuffix(name, d.fails.ending) {
			return false // who asked was killed, or it is another file
		}
	}
	if d.fails.left > 0 {
		d.fails.left--
	}
	return true
}
