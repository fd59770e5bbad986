// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package mockbackend

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
)

// countItems counts the items of a protobuf request without looking into them.
func countItems(s item.Signal, body []byte) (n int, err error) {
	depth := 2 // groups, scopes; their items are counted
	if s == item.Metrics {
		depth = 4 // groups, scopes, metrics, kinds
	}
	err = countFields(body, 1, depth, &n)
	return n, err
}

// pointFields are the fields of Metric that hold points.
const pointFields = 1<<5 | 1<<7 | 1<<9 | 1<<10 | 1<<11

func countFields(msg []byte, level, depth int, n *int) error {
	for len(msg) > 0 {
		num, typ, size := protowire.ConsumeTag(msg)
		if size < 0 {
			return protowire.ParseError(size)
		}
		msg = msg[size:]
		size = protowire.ConsumeFieldValue(num, typ, msg)
		if size < 0 {
			return protowire.ParseError(size)
		}
		value := msg[:size]
		msg = msg[size:]
		wanted := false
		switch level {
		case 1, 5: // request, data of a metric
			wanted = num == 1
		case 2, 3: // group, scope
			wanted = num == 2
		case 4: // metric
			wanted = num < 32 && pointFields&(1<<num) != 0
		}
		if !wanted || typ != protowire.BytesType {
			continue
		}
		if level > depth {
			*n++
			continue
		}
		inner, _ := protowire.ConsumeBytes(value)
		if err := countFields(inner, level+1, depth, n); err != nil {
			return err
		}
	}
	return nil
}
