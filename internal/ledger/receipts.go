// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// emergencyPlace is the name of the place of what lies in an emergency file under an open receipt.
const emergencyPlace = "emergency"

// receipt is one line of an emergency file's receipts, and what later lines say of it.
type receipt struct {
	N       uint64 `json:"n"`
	File    string `json:"file"`
	Offset  int64  `json:"offset"`
	Length  int64  `json:"length"`
	Items   int64  `json:"items"`
	Renamed string `json:"renamed"`
	To      string `json:"to"`
	Settled uint64 `json:"settled"`

	settled bool
	found   int64 // items under it, in the file
}

// beside reports whether a file lies beside an emergency file and holds no telemetry.
func beside(path string) bool {
	for _, suffix := range []string{".receipts", ".receipts.new", ".receipts.damaged", ".lock", ".probe"} {
		if strings.HasSuffix(path, suffix) {
			return true
		}
	}
	return false
}

// receiptsOf reads what the receipts beside path say of it, in order of offset; none if there are none for it. A file of
// which no line could be read says so as a doubt.
func (n *Notes) receiptsOf(path string) ([]*receipt, bool, error) {
	all, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*.receipts"))
	if err != nil {
		return nil, false, fmt.Errorf("receipts: %w", err)
	}
	for _, from := range all {
		list, err := n.readReceipts(from)
		if err != nil {
			return nil, false, err
		}
		var out []*receipt
		for _, r := range list {
			if r.File == filepath.Base(path) {
				out = append(out, r)
			}
		}
		if len(out) > 0 || from == path+".receipts" {
			slices.SortFunc(out, func(a, b *receipt) int { return int(a.Offset - b.Offset) })
			return out, true, nil
		}
	}
	return nil, false, nil
}

// readReceipts replays one file of receipts. A line is believed if its own sum holds; the last one may be torn.
func (n *Notes) readReceipts(path string) ([]*receipt, error) {
	f, err := os.Open(path) //nolint:gosec // the path is the caller's
	if err != nil {
		return nil, fmt.Errorf("receipts: %w", err)
	}
	defer f.Close() // read-only
	in := bufio.NewReaderSize(f, 64<<10)
	var list []*receipt
	for number := 1; ; number++ {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return nil, fmt.Errorf("receipts: %w", err)
		}
		if line = bytes.Trim(line, " \x00\n"); len(line) == 0 {
			continue
		}
		r, ok := parseReceipt(line)
		switch {
		case !ok:
			n.doubt("%s:%d: no receipt, or a damaged one", path, number)
		case r.N > 0:
			list = append(list, r)
		case r.Renamed != "":
			for _, old := range list {
				if old.File == r.Renamed {
					old.File = r.To
				}
			}
		case r.Settled > 0:
			for _, old := range list {
				old.settled = old.settled || old.N == r.Settled
			}
		}
	}
}

// parseReceipt checks a line's sum, the CRC-32C of all before it, and reads it.
func parseReceipt(line []byte) (*receipt, bool) {
	at := bytes.LastIndex(line, []byte(`,"sum":"`))
	if at < 0 {
		return nil, false
	}
	want := fmt.Sprintf(`,"sum":"%08x"}`, crc32.Checksum(line[:at], crc32.MakeTable(crc32.Castagnoli)))
	if string(line[at:]) != want {
		return nil, false
	}
	r := &receipt{}
	return r, json.Unmarshal(line, r) == nil
}

// under finds the receipt that covers an offset.
func under(list []*receipt, offset int64) *receipt {
	for i := len(list) - 1; i >= 0; i-- {
		if r := list[i]; offset >= r.Offset {
			if offset < r.Offset+r.Length {
				return r
			}
			return nil
		}
	}
	return nil
}

// compare holds the receipts of a file against what was read of it.
func (n *Notes) compare(path string, list []*receipt) {
	for _, r := range list {
		if !r.settled && r.found != r.Items {
			n.doubt("%s: receipt %d is for %d items, the file has %d under it", path, r.N, r.Items, r.found)
		}
	}
}
