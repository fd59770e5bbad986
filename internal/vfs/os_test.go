// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux || darwin || freebsd

package vfs

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"
)

// TestInterruptedAndShortWritesAreContinued takes the place of the kernel: each call takes as much as it likes.
func TestInterruptedAndShortWritesAreContinued(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		var parts [][]byte
		var want, got []byte
		for range random.IntN(3000) {
			p := make([]byte, random.IntN(5))
			for i := range p {
				p[i] = byte(random.Uint32())
			}
			parts, want = append(parts, p), append(want, p...)
		}
		err := writeAll(parts, func(now [][]byte) (int, error) {
			if len(now) > maxParts {
				t.Fatalf("%d parts in one call", len(now))
			}
			if random.IntN(4) == 0 {
				return -1, unix.EINTR
			}
			all := bytes.Join(now, nil)
			n := 1 + random.IntN(len(all))
			got = append(got, all[:n]...)
			return n, nil
		})
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes in %d parts: wrote %d, %v", len(want), len(parts), len(got), err)
		}
	}
}

func TestAWriteThatTakesNothingEnds(t *testing.T) {
	parts := [][]byte{[]byte("x")}
	if err := writeAll(parts, func([][]byte) (int, error) { return 0, nil }); err != io.ErrShortWrite {
		t.Errorf("got %v", err)
	}
	calls := 0
	if err := writeAll(parts, func([][]byte) (int, error) {
		calls++
		return -1, unix.EIO
	}); !errors.Is(err, unix.EIO) || calls != 1 {
		t.Errorf("got %v after %d calls", err, calls)
	}
}
