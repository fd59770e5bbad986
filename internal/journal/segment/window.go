// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package segment

import (
	"errors"
	"hash/crc32"
	"io"
	"io/fs"

	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// window is a stretch of a file in memory that moves forward with its reader.
type window struct {
	file   vfs.File
	path   string
	end    Offset // nothing at or above it is read
	size   int    // of one read
	off    Offset // where buf begins
	buf    []byte
	room   []byte // what buf is a part of
	aside  []byte // for checksums of what does not fit
	behind bool   // tell the system what will not be read again

	skipUnreadable bool
	unreadable     *int64 // bytes that were read as garbage because the disk would not give them
}

// at returns n bytes at off, of memory that is valid until the next call. off + n is at most end, n at most size.
func (w *window) at(off Offset, n int) ([]byte, error) {
	if have := w.from(off); len(have) >= n {
		return have[:n], nil
	}
	if w.room == nil {
		w.room = make([]byte, max(min(w.size, int(w.end)), n))
	}
	rest := w.from(off)
	if w.behind && w.off < off {
		w.file.DropBehind(int64(w.off), int64(off-w.off))
	}
	got := copy(w.room, rest)
	w.off, w.buf = off, w.room[:got]
	fill := w.room[got:min(Offset(len(w.room)), w.end-off)]
	err := w.read(fill, off+Offset(got))
	if err != nil && n-got < len(fill) { // it may be what nobody asked for yet that cannot be read
		fill = fill[:n-got]
		err = w.read(fill, off+Offset(got))
	}
	if err != nil {
		return nil, err
	}
	w.buf = w.room[:got+len(fill)]
	return w.buf[:n], nil
}

// from is what the window holds from off on.
func (w *window) from(off Offset) []byte {
	if off < w.off || off >= w.off+Offset(len(w.buf)) {
		return nil
	}
	return w.buf[off-w.off:]
}

// read fills p from off. What fails is asked for once more; then it is an error, or, with skipUnreadable, the blocks
// that cannot be read are filled with what is never a frame.
func (w *window) read(p []byte, off Offset) error {
	if len(p) == 0 {
		return nil
	}
	if readFull(w.file, p, off) == nil {
		return nil
	}
	err := readFull(w.file, p, off)
	if err == nil {
		return nil
	}
	if !w.skipUnreadable || errors.Is(err, fs.ErrClosed) {
		return &ReadError{Path: w.path, Off: off, Err: err}
	}
	for len(p) > 0 {
		n := int(min(Offset(len(p)), BlockBytes-off%BlockBytes))
		if readFull(w.file, p[:n], off) != nil {
			*w.unreadable += int64(n)
			for i := range p[:n] {
				p[i] = 0xff
			}
		}
		p, off = p[n:], off+Offset(n)
	}
	return nil
}

func readFull(file io.ReaderAt, p []byte, off Offset) error {
	n, err := file.ReadAt(p, int64(off))
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// checksum is the CRC of n bytes at off. The window stays where it is if it has to read for it.
func (w *window) checksum(off Offset, n int64) (uint32, error) {
	have := w.from(off)
	have = have[:min(int64(len(have)), n)]
	sum := crc32.Checksum(have, castagnoli)
	off, n = off+Offset(len(have)), n-int64(len(have))
	if n > 0 && w.aside == nil {
		w.aside = make([]byte, min(n, asideBytes, int64(w.end)))
	}
	for n > 0 {
		p := w.aside[:min(n, int64(len(w.aside)))]
		if err := w.read(p, off); err != nil {
			return 0, err
		}
		sum = crc32.Update(sum, castagnoli, p)
		off, n = off+Offset(len(p)), n-int64(len(p))
	}
	return sum, nil
}

const asideBytes = 256 << 10
