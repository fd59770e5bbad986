// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package reload

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path"

	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// maxFileBytes bounds what is read of one file: all texts, each byte escaped at worst.
const maxFileBytes = 6*maxTotalBytes + 1<<20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frame is a file, or a line of one: an object with its body and the sum over the body's bytes as they stand there.
type frame struct {
	Sum  uint32          `json:"crc32c"`
	Body json.RawMessage `json:"body"`
}

// seal frames what v is in JSON. The line ends with a line feed.
func seal(v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return sealed(body), nil
}

func sealed(body []byte) []byte {
	return fmt.Appendf(nil, "{\"crc32c\":%d,\"body\":%s}\n", crc32.Checksum(body, castagnoli), body)
}

// errDamaged says that a file does not hold what was written.
var errDamaged = errors.New("damaged")

// unseal reads what seal wrote, and nothing else: a byte more or less, or another spelling, is damage.
func unseal(data []byte, v any) error {
	var f frame
	if err := json.Unmarshal(data, &f); err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	if !bytes.Equal(sealed(f.Body), data) {
		return fmt.Errorf("%w: the sum is not the body's", errDamaged)
	}
	d := json.NewDecoder(bytes.NewReader(f.Body))
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	return nil
}

const (
	filePerm = 0o600
	dirPerm  = 0o700
	tempMark = ".tmp"
)

// replace gives a file new content, whole or not at all: a new file, its bytes durable, takes the name, and the name is
// made durable. A crash before the rename leaves the old file and a temporary one, which the next replace removes; a
// crash after it leaves either.
func replace(disk vfs.FS, name string, data []byte) error {
	temp := name + tempMark
	if err := disk.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := disk.OpenFile(temp, vfs.Create, filePerm)
	if err != nil {
		return err
	}
	_, err = f.WriteVAt([][]byte{data}, 0)
	if err == nil {
		err = f.Datasync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, ignoreMissing(disk.Remove(temp)))
	}
	if err := disk.Rename(temp, name); err != nil {
		return err
	}
	return disk.SyncDir(path.Dir(name))
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// readFile reads a whole file.
func readFile(disk vfs.FS, name string) ([]byte, error) {
	f, err := disk.OpenFile(name, vfs.Read, 0)
	if err != nil {
		return nil, err
	}
	data, err := readAll(f)
	return data, errors.Join(err, f.Close())
}

func readAll(f vfs.File) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size > maxFileBytes {
		return nil, fmt.Errorf("%w: %d bytes", errDamaged, info.Size)
	}
	data := make([]byte, info.Size)
	n, err := f.ReadAt(data, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return data[:n], err
}
