// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"time"
)

// Receipts are lines of JSON, one object each, which end in their own sum: the CRC-32C of all that stands before it.
//
//	{"n":17,"file":"telemetry.jsonl","offset":81234,"length":5120,"crc32c":"9f3a01c2","signal":"traces","items":512,
//	 "time":"…","pipeline":"traces/input","connector":"failover/traces","records":[[1001,1763633700123456789],…],"sum":"…"}
//	{"renamed":"telemetry.jsonl","to":"telemetry-2026-11-20T10-15-00.000-size.jsonl","sum":"…"}
//	{"settled":17,"how":"delivered","time":"…","sum":"…"}
//	{"totals":{"pipeline":…,"connector":…,"signal":…,"removed":300},"sum":"…"}    of receipts that are not kept any more
//	{"closed":"2026-11-20T10:15:00Z","sum":"…"}                                   the process had its time
//
// A file is named by its last element; it lies beside the receipts.

// How a receipt was settled.
const (
	Delivered = "delivered" // a backend has the data
	Removed   = "removed"   // the file is gone
)

// Receipt says that data is in a file, synced.
type Receipt struct {
	N      uint64 // ascending, from 1
	File   string
	Offset int64
	Length int64
	CRC    uint32 // CRC-32C of the bytes
	Items  uint32
	Time   time.Time
	Owner
	Records []Record
}

// Owner is who owes the data: a connector of a pipeline, for one signal.
type Owner struct {
	Pipeline  string `json:"pipeline"`
	Connector string `json:"connector"`
	Signal    string `json:"signal"`
}

// Record names a record of the journal that the data came from.
type Record struct {
	Seq      uint64
	Accepted int64 // Unix ns
}

// MarshalJSON writes [seq,accepted].
func (r Record) MarshalJSON() ([]byte, error) {
	return json.Marshal([2]uint64{r.Seq, uint64(r.Accepted)})
}

// UnmarshalJSON reads it.
func (r *Record) UnmarshalJSON(b []byte) error {
	var pair [2]uint64
	err := json.Unmarshal(b, &pair)
	r.Seq, r.Accepted = pair[0], int64(pair[1])
	return err
}

// line is every kind of line; the first field that is set says which.
type line struct {
	N         uint64     `json:"n,omitempty"`
	File      string     `json:"file,omitempty"`
	Offset    int64      `json:"offset,omitempty"`
	Length    int64      `json:"length,omitempty"`
	CRC       string     `json:"crc32c,omitempty"`
	Signal    string     `json:"signal,omitempty"`
	Items     uint32     `json:"items,omitempty"`
	Renamed   string     `json:"renamed,omitempty"`
	To        string     `json:"to,omitempty"`
	Settled   uint64     `json:"settled,omitempty"`
	How       string     `json:"how,omitempty"`
	Rejected  uint32     `json:"rejected,omitempty"`
	Totals    *totals    `json:"totals,omitempty"`
	Closed    *time.Time `json:"closed,omitempty"`
	Time      *time.Time `json:"time,omitempty"`
	Pipeline  string     `json:"pipeline,omitempty"`
	Connector string     `json:"connector,omitempty"`
	Records   []Record   `json:"records,omitempty"`
}

// totals are what an owner's receipts came to that are not kept any more.
type totals struct {
	Owner
	Removed  uint64 `json:"removed,omitempty"`
	Rejected uint64 `json:"rejected,omitempty"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Sum is the CRC-32C of b.
func Sum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

func sumWord(v uint32) string {
	return hex.EncodeToString([]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
}

func parseSum(s string) (uint32, bool) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 4 {
		return 0, false
	}
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3]), true
}

func (r *Receipt) line() line {
	t := r.Time.UTC()
	return line{
		N: r.N, File: r.File, Offset: r.Offset, Length: r.Length, CRC: sumWord(r.CRC), Signal: r.Signal, Items: r.Items,
		Time: &t, Pipeline: r.Pipeline, Connector: r.Connector, Records: r.Records,
	}
}

func (l *line) receipt() (Receipt, error) {
	crc, ok := parseSum(l.CRC)
	if !ok || l.File == "" || l.Offset < 0 || l.Length <= 0 || l.Time == nil {
		return Receipt{}, errors.New("a receipt lacks what it is for")
	}
	return Receipt{
		N: l.N, File: l.File, Offset: l.Offset, Length: l.Length, CRC: crc, Items: l.Items, Time: *l.Time,
		Owner: Owner{l.Pipeline, l.Connector, l.Signal}, Records: l.Records,
	}, nil
}

const (
	sumKey    = `,"sum":"`
	sumSuffix = len(sumKey) + 8 + len("\"}")
)

// append writes a line with its sum.
func (l *line) append(b []byte) ([]byte, error) {
	text, err := json.Marshal(l)
	if err != nil {
		return b, fmt.Errorf("write a receipt: %w", err)
	}
	text = text[:len(text)-1]
	b = append(b, text...)
	b = append(append(b, sumKey...), sumWord(Sum(text))...)
	return append(b, "\"}\n"...), nil
}

var errLine = errors.New("not a line of receipts, or a damaged one")

// parseLine reads one line without its end.
func parseLine(b []byte) (line, error) {
	var l line
	at := len(b) - sumSuffix
	if at < 1 || !bytes.HasPrefix(b[at:], []byte(sumKey)) || !bytes.HasSuffix(b, []byte("\"}")) {
		return l, errLine
	}
	sum, ok := parseSum(string(b[at+len(sumKey) : at+len(sumKey)+8]))
	if !ok || sum != Sum(b[:at]) {
		return l, errLine
	}
	if err := json.Unmarshal(b, &l); err != nil {
		return l, fmt.Errorf("%w: %w", errLine, err)
	}
	return l, nil
}
