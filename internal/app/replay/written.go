// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/file"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/file/vault"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// Written is a request that lies in a file.
type Written struct {
	*exporter.Request
	File   string
	Offset int64 // of the record it begins with

	n uint64 // of its receipt
}

// WrittenFile reads requests from where the file exporter wrote them. It is used by one goroutine.
type WrittenFile interface {
	// Next returns the next request, io.EOF at the end. An error that is no *file.DamagedError is an end too.
	Next() (Written, error)
	// Took says that a backend has the request, but for so many items that it refused.
	Took(w Written, rejected uint32)
	// Close gives everything up; what was taken is on disk when it has returned nil.
	Close(ctx context.Context) error
}

// Damaged reports whether an error is about a request that cannot be read, and others may follow.
func Damaged(err error) bool {
	var d *file.DamagedError
	return errors.As(err, &d)
}

// OpenWritten opens one file from an offset at which a record begins. Records of protobuf do not say their signal; it may
// be 0 for others. Who took what is kept nowhere.
func OpenWritten(path string, signal otlp.Signal, from int64) (WrittenFile, error) {
	r, err := file.OpenReader(path, signal)
	if err != nil {
		return nil, err
	}
	if from > 0 {
		if err := r.SkipTo(from); err != nil {
			return nil, errors.Join(err, r.Close())
		}
	}
	return &plainFile{path: path, r: r}, nil
}

type plainFile struct {
	path string
	r    *file.Reader
}

// Next implements WrittenFile.
func (f *plainFile) Next() (Written, error) {
	s, body, err := f.r.Next()
	if err != nil {
		return Written{}, err
	}
	items, err := otlp.Scan(s, body)
	if err != nil {
		return Written{}, &file.DamagedError{Path: f.path, Offset: f.r.Offset(), Cause: err}
	}
	return Written{Request: plainRequest(s, body, items), File: f.path, Offset: f.r.Offset()}, nil
}

func plainRequest(s otlp.Signal, body []byte, items uint32) *exporter.Request {
	return &exporter.Request{Signal: s, Encoding: otlp.Identity, Items: items, Size: int64(len(body)), Parts: [][]byte{body}}
}

// Took implements WrittenFile.
func (f *plainFile) Took(Written, uint32) {}

// Close implements WrittenFile.
func (f *plainFile) Close(context.Context) error { return f.r.Close() }

// OpenOwed opens what an emergency file owes, its rotated files with it; path is the present one, as the exporter has it.
// No process may have it open. What is taken is settled: its receipts are closed, and no process sends it again.
func OpenOwed(path string) (WrittenFile, error) {
	if _, err := os.Stat(path + ".receipts"); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s has no receipts beside it: it is no emergency file, or not the present one", path)
		}
		return nil, err
	}
	framed, err := framed(path)
	if err != nil {
		return nil, err
	}
	v, err := vault.Open(vfs.OS(), vault.Settings{
		Path: filepath.Clean(path), Framed: framed, Append: true, MaxBackups: 0, Log: zap.NewNop(),
		Pad: func(n int64) []byte { return make([]byte, n) }, // nothing is put into it
	})
	if errors.Is(err, vfs.ErrLocked) {
		return nil, fmt.Errorf("%s is in use: stop the instance that writes to it first (%w)", path, err)
	}
	if err != nil {
		return nil, err
	}
	return &owedFile{path: path, vault: v}, nil
}

// framed reports whether records have their length before them; lines of JSON begin with a brace.
func framed(path string) (bool, error) {
	f, err := os.Open(path) //nolint:gosec // the path is the caller's
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // all of it was rotated away: nothing is read here
	}
	if err != nil {
		return false, err
	}
	var first [1]byte
	n, err := f.Read(first[:])
	if err != nil && !errors.Is(err, io.EOF) {
		return false, errors.Join(err, f.Close())
	}
	return n == 1 && first[0] != '{', f.Close()
}

type owedFile struct {
	path  string
	vault *vault.Vault
}

// settleTime is how long the settlements of what was taken may need the disk, so that more is lent.
const settleTime = 5 * time.Second

// Next implements WrittenFile: the oldest first, whoever owes it.
func (f *owedFile) Next() (Written, error) {
	for until := time.Now().Add(settleTime); ; {
		owners := f.vault.Owners()
		slices.SortStableFunc(owners, func(a, b vault.Owner) int { return f.vault.Sums(a).Oldest.Compare(f.vault.Sums(b).Oldest) })
		for _, o := range owners {
			d, ok, err := f.vault.Lend(o)
			if err != nil {
				return Written{}, err
			}
			if ok {
				return f.written(&d)
			}
		}
		if f.open() == 0 || time.Now().After(until) {
			return Written{}, io.EOF
		}
		time.Sleep(20 * time.Millisecond) // what was taken is being written down
	}
}

// open is how many receipts are open.
func (f *owedFile) open() (n int64) {
	for _, o := range f.vault.Owners() {
		n += f.vault.Sums(o).Receipts
	}
	return n
}

func (f *owedFile) written(d *vault.Debt) (Written, error) {
	bad := func(err error) (Written, error) {
		f.vault.Spoil(d.N, err)
		return Written{}, &file.DamagedError{Path: d.File, Offset: d.Offset, Cause: err}
	}
	s, ok := otlp.ParseSignal(d.Signal)
	if !ok {
		return bad(fmt.Errorf("its receipt is of signal %q", d.Signal))
	}
	body, err := file.Requests(s, d.Data)
	if err != nil {
		return bad(err)
	}
	items, err := otlp.Scan(s, body)
	if err != nil {
		return bad(err)
	}
	return Written{Request: plainRequest(s, body, items), File: filepath.Join(filepath.Dir(f.path), filepath.Base(d.File)),
		Offset: d.Offset, n: d.N}, nil
}

// Took implements WrittenFile.
func (f *owedFile) Took(w Written, rejected uint32) { f.vault.Settle(w.n, rejected) }

// Close implements WrittenFile.
func (f *owedFile) Close(ctx context.Context) error { return f.vault.Close(ctx) }

var (
	_ WrittenFile = (*plainFile)(nil)
	_ WrittenFile = (*owedFile)(nil)
)
