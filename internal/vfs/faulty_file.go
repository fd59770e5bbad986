// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package vfs

// faultyFile is an open file of a disk with faults.
type faultyFile struct {
	disk  *Faulty
	inner File
	name  string
}

// slowSyncer is a file that tells the start of a sync from its end.
type slowSyncer interface {
	beginSync() (end func(good bool), err error)
}

func (f *faultyFile) ReadAt(p []byte, off int64) (int, error) {
	c, v := f.disk.begin("read", f.name, int64(len(p)))
	defer f.disk.end(c)
	if v.hold != nil {
		v.hold.wait()
	}
	if v.err == nil {
		return f.inner.ReadAt(p, off)
	}
	n, err := f.inner.ReadAt(p[:v.first], off)
	if err == nil {
		err = v.err
	}
	return n, err
}

func (f *faultyFile) WriteVAt(parts [][]byte, off int64) (int64, error) {
	var bytes int64
	for _, p := range parts {
		bytes += int64(len(p))
	}
	c, v := f.disk.begin("write", f.name, bytes)
	defer f.disk.end(c)
	if v.hold != nil {
		v.hold.wait()
	}
	switch {
	case v.lie:
		return bytes, nil
	case v.err == nil:
		return f.inner.WriteVAt(parts, off)
	case v.first == 0:
		return 0, v.err
	}
	n, err := f.inner.WriteVAt(head(parts, v.first), off)
	if err == nil {
		err = v.err
	}
	return n, err
}

// head is the first n bytes of parts.
func head(parts [][]byte, n int64) [][]byte {
	var first [][]byte
	for _, p := range parts {
		p = p[:min(int64(len(p)), n)]
		first = append(first, p)
		n -= int64(len(p))
	}
	return first
}

func (f *faultyFile) Datasync() error {
	c, v := f.disk.begin("datasync", f.name, 0)
	defer f.disk.end(c)
	slow, ok := f.inner.(slowSyncer)
	if !ok || v == (verdict{}) {
		if v.hold != nil {
			v.hold.wait()
		}
		if v.err != nil || v.lie {
			return v.err
		}
		return f.inner.Datasync()
	}
	end, err := slow.beginSync()
	if err != nil {
		return err
	}
	if v.hold != nil {
		v.hold.wait()
	}
	if !v.lie {
		end(v.err == nil)
	}
	return v.err
}

func (f *faultyFile) Allocate(size int64) error {
	return f.disk.do("allocate", f.name, func() error { return f.inner.Allocate(size) })
}

func (f *faultyFile) Truncate(size int64) error {
	return f.disk.do("truncate", f.name, func() error { return f.inner.Truncate(size) })
}

func (f *faultyFile) Stat() (info Info, err error) {
	err = f.disk.do("fstat", f.name, func() error {
		info, err = f.inner.Stat()
		return err
	})
	return info, err
}

func (f *faultyFile) DropBehind(off, n int64) {
	_ = f.disk.do("dropbehind", f.name, func() error {
		f.inner.DropBehind(off, n)
		return nil
	})
}

// Close closes the file also when it is made to fail, as the system does.
func (f *faultyFile) Close() error {
	closed := false
	err := f.disk.do("close", f.name, func() error {
		closed = true
		return f.inner.Close()
	})
	if !closed {
		_ = f.inner.Close() // the caller is told the injected error
	}
	return err
}

var _ File = (*faultyFile)(nil)
