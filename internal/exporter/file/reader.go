// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"

	"github.com/holdfast-telemetry/holdfast/internal/exporter/wire"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

const (
	// maxRecord bounds one record and what it decodes to, in bytes: requests are at most 64 MiB at the doors, and their
	// JSON a few times that.
	maxRecord = 512 << 20
	// maxReadWindow bounds the memory a zstd frame may ask for.
	maxReadWindow = 64 << 20
)

// ErrUnknownSignal says that a record does not tell its signal, and the reader was not told either.
var ErrUnknownSignal = errors.New("a protobuf record does not say which signal it is")

// DamagedError is a record that cannot be read.
type DamagedError struct {
	Path   string
	Offset int64 // of the record
	Cause  error
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("read %q: record at offset %d: %v", e.Path, e.Offset, e.Cause)
}

// Unwrap returns the cause.
func (e *DamagedError) Unwrap() error { return e.Cause }

// Reader reads what Exporters wrote, in any format and compression; it tells them apart by their bytes. It is used by
// one goroutine.
type Reader struct {
	path   string
	signal otlp.Signal
	file   *os.File
	in     *bufio.Reader
	lines  bool
	offset int64
	at     int64 // of the record that Next returned last
	zstd   *zstd.Decoder
	ended  bool
}

// OpenReader opens the file at path. Protobuf records do not say their signal, so it has to be known; for JSON it may
// be 0.
func OpenReader(path string, signal otlp.Signal) (*Reader, error) {
	f, err := os.Open(path) //nolint:gosec // the path is the caller's
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	r := &Reader{path: path, signal: signal, file: f, in: bufio.NewReaderSize(f, 64<<10)}
	first, err := r.in.Peek(1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.Join(fmt.Errorf("read %q: %w", path, err), f.Close())
	}
	r.lines = len(first) == 1 && first[0] == '{'
	return r, nil
}

// SkipTo goes on at an offset at which a record begins, such as Offset told.
func (r *Reader) SkipTo(offset int64) error {
	info, err := r.file.Stat()
	if err == nil && offset > info.Size() {
		err = fmt.Errorf("it has %d bytes", info.Size())
	}
	if err == nil && r.lines && offset > 0 {
		var before [1]byte
		if _, err = r.file.ReadAt(before[:], offset-1); err == nil && before[0] != '\n' {
			err = errors.New("no line begins there")
		}
	}
	if err == nil {
		_, err = r.file.Seek(offset, io.SeekStart)
	}
	if err != nil {
		return fmt.Errorf("go on in %q at offset %d: %w", r.path, offset, err)
	}
	r.in.Reset(r.file)
	r.offset, r.ended = offset, false
	return nil
}

// Offset is where the record begins that Next returned last, or that it could not read.
func (r *Reader) Offset() int64 { return r.at }

// Next returns the next request as wire bytes, io.EOF at the end. A *DamagedError names a record that cannot be read;
// after one the reader goes on with the next line, or, where records are length-prefixed, is at its end.
func (r *Reader) Next() (otlp.Signal, []byte, error) {
	for {
		s, b, err := r.next()
		if err != nil || len(b) > 0 {
			return s, b, err
		}
	}
}

// next returns the next request; one without bytes is padding.
func (r *Reader) next() (otlp.Signal, []byte, error) {
	if r.ended {
		return 0, nil, io.EOF
	}
	at := r.offset
	r.at = at
	b, err := r.record()
	if errors.Is(err, io.EOF) && len(b) == 0 {
		r.ended = true
		return 0, nil, io.EOF
	}
	if err != nil {
		r.ended = true
		return 0, nil, &DamagedError{r.path, at, err}
	}
	s, b, err := r.decode(b)
	if err != nil {
		return 0, nil, &DamagedError{r.path, at, err}
	}
	return s, b, nil
}

// record reads one record's bytes as they are in the file. io.EOF without bytes is the end.
func (r *Reader) record() ([]byte, error) {
	if r.lines {
		b, err := r.line()
		r.offset += int64(len(b))
		if errors.Is(err, io.EOF) && len(b) > 0 {
			return nil, io.ErrUnexpectedEOF
		}
		return b, err
	}
	var prefix [prefixBytes]byte
	n, err := io.ReadFull(r.in, prefix[:])
	r.offset += int64(n)
	if err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(prefix[:])
	if size > maxRecord {
		return nil, fmt.Errorf("length %d is above %d", size, maxRecord)
	}
	// Grown while reading: a length is believed only as far as there are bytes.
	var buf bytes.Buffer
	m, err := io.CopyN(&buf, r.in, int64(size))
	r.offset += m
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return buf.Bytes(), err
}

// line reads up to and including the next newline.
func (r *Reader) line() ([]byte, error) {
	var out []byte
	for {
		piece, err := r.in.ReadSlice('\n')
		out = append(out, piece...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return out, err
		}
		if len(out) > maxRecord {
			return nil, fmt.Errorf("line is above %d bytes", maxRecord)
		}
	}
}

var zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}

// decode turns a record into wire bytes.
func (r *Reader) decode(b []byte) (otlp.Signal, []byte, error) {
	if bytes.HasPrefix(b, zstdMagic) {
		if r.zstd == nil {
			var err error
			r.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxRecord),
				zstd.WithDecoderMaxWindow(maxReadWindow))
			if err != nil {
				return 0, nil, err
			}
		}
		var err error
		if b, err = r.zstd.DecodeAll(b, nil); err != nil {
			return 0, nil, err
		}
	}
	if isPadding(b) {
		return 0, nil, nil
	}
	if !bytes.HasPrefix(b, []byte{'{'}) {
		if r.signal == 0 {
			return 0, nil, ErrUnknownSignal
		}
		return r.signal, b, nil
	}
	s := signalOf(b)
	if s == 0 {
		return 0, nil, errors.New("no OTLP JSON: none of resourceSpans, resourceMetrics, resourceLogs, resourceProfiles")
	}
	out, err := wire.FromJSON(s, b)
	return s, out, err
}

// signalOf looks for the key that only one signal has. A string cannot look like one: its quotes are escaped.
func signalOf(line []byte) otlp.Signal {
	best, at := otlp.Signal(0), len(line)
	for s, key := range map[otlp.Signal]string{
		otlp.Traces: `"resourceSpans":`, otlp.Metrics: `"resourceMetrics":`,
		otlp.Logs: `"resourceLogs":`, otlp.Profiles: `"resourceProfiles":`,
	} {
		if i := bytes.Index(line, []byte(key)); i >= 0 && i < at {
			best, at = s, i
		}
	}
	return best
}

// Close closes the file.
func (r *Reader) Close() error {
	if r.zstd != nil {
		r.zstd.Close()
	}
	return r.file.Close()
}
