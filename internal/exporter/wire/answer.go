// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/binary"
	"errors"
	"math"
	"time"
)

// MaxAnswer is how much of a backend's answer is read, in bytes (faults, part C).
const MaxAnswer = 4 << 20

// ErrMalformed says that bytes are no protobuf message.
var ErrMalformed = errors.New("malformed protobuf")

// Answer is what an export response says: how many items were refused, and a text for people.
type Answer struct {
	Rejected uint32
	Message  string // clipped
}

// ParseAnswer reads an Export…ServiceResponse of any signal: their partial_success has the same numbers. Unknown
// fields are skipped; anything that is no protobuf is ErrMalformed.
func ParseAnswer(b []byte) (Answer, error) {
	var a Answer
	err := fields(b, func(num uint64, v uint64, data []byte) error {
		if num != 1 || data == nil {
			return nil
		}
		return fields(data, func(num uint64, v uint64, data []byte) error {
			switch {
			case num == 1 && data == nil:
				a.Rejected = count(int64(v))
			case num == 2 && data != nil:
				a.Message = Clip(string(data[:min(len(data), maxText+1)]))
			}
			return nil
		})
	})
	return a, err
}

// count turns a backend's number into items; negative ones are none.
func count(n int64) uint32 { return uint32(min(max(n, 0), math.MaxUint32)) }

// Status is a google.rpc.Status as far as it matters here.
type Status struct {
	Code    int32
	Message string // clipped
	// Hint is the RetryInfo detail's delay, at least 0; Hinted says that there is one.
	Hint   time.Duration
	Hinted bool
}

// ParseStatus reads a google.rpc.Status.
func ParseStatus(b []byte) (Status, error) {
	var s Status
	err := fields(b, func(num uint64, v uint64, data []byte) error {
		switch {
		case num == 1 && data == nil:
			s.Code = int32(v)
		case num == 2 && data != nil:
			s.Message = Clip(string(data[:min(len(data), maxText+1)]))
		case num == 3 && data != nil:
			return s.detail(data)
		}
		return nil
	})
	return s, err
}

const retryInfoName = "google.rpc.RetryInfo"

// detail looks into one google.protobuf.Any.
func (s *Status) detail(b []byte) error {
	var url string
	var value []byte
	err := fields(b, func(num uint64, _ uint64, data []byte) error {
		switch {
		case num == 1 && data != nil:
			url = string(data)
		case num == 2 && data != nil:
			value = data
		}
		return nil
	})
	if err != nil {
		return err
	}
	if d, ok := RetryHint(url, value); ok {
		s.Hint, s.Hinted = d, true
	}
	return nil
}

// RetryHint reads the delay of a google.rpc.RetryInfo in a google.protobuf.Any, at least 0; false if it is another
// message.
func RetryHint(url string, value []byte) (time.Duration, bool) {
	n := len(url) - len(retryInfoName)
	if n < 1 || url[n-1] != '/' || url[n:] != retryInfoName {
		return 0, false
	}
	var sec, nano int64
	err := fields(value, func(num uint64, _ uint64, data []byte) error {
		if num != 1 || data == nil {
			return nil
		}
		return fields(data, func(num uint64, v uint64, data []byte) error {
			switch {
			case num == 1 && data == nil:
				sec = int64(v)
			case num == 2 && data == nil:
				nano = int64(int32(v))
			}
			return nil
		})
	})
	if err != nil {
		return 0, false
	}
	return span(sec, nano), true
}

// span is sec seconds and nano nanoseconds as a duration of at least 0; absurd values end at the largest there is.
func span(sec, nano int64) time.Duration {
	if sec > math.MaxInt64/int64(time.Second)-1 {
		return math.MaxInt64
	}
	if sec < 0 {
		return 0
	}
	return max(time.Duration(sec)*time.Second+time.Duration(nano), 0)
}

// maxFields bounds the work on one answer: 4 MiB could be two million fields, and no answer has more than a few.
const maxFields = 1 << 16

// fields walks one message. For a length-delimited field data is not nil; for the others v holds the number.
func fields(b []byte, visit func(num uint64, v uint64, data []byte) error) error {
	for n := 0; len(b) > 0; n++ {
		if n == maxFields {
			return ErrMalformed
		}
		tag, w := binary.Uvarint(b)
		if w <= 0 || tag>>3 == 0 || tag>>3 > 1<<29-1 {
			return ErrMalformed
		}
		b = b[w:]
		var v uint64
		var data []byte
		switch tag & 7 {
		case 0:
			v, w = binary.Uvarint(b)
			if w <= 0 {
				return ErrMalformed
			}
			b = b[w:]
		case 1:
			if len(b) < 8 {
				return ErrMalformed
			}
			v, b = binary.LittleEndian.Uint64(b), b[8:]
		case 2:
			size, w := binary.Uvarint(b)
			if w <= 0 || size > uint64(len(b)-w) {
				return ErrMalformed
			}
			data, b = b[w:w+int(size):w+int(size)], b[w+int(size):]
		case 5:
			if len(b) < 4 {
				return ErrMalformed
			}
			v, b = uint64(binary.LittleEndian.Uint32(b)), b[4:]
		default:
			return ErrMalformed
		}
		if err := visit(tag>>3, v, data); err != nil {
			return err
		}
	}
	return nil
}
