// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package item

import (
	"errors"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

var errWireType = errors.New("field has another wire type")

// field numbers of the OTLP messages, opentelemetry-proto 1.x.
const (
	fieldGroups   = 1 // of a request: resource_spans, resource_logs, resource_metrics
	fieldResource = 1 // of a group
	fieldScopes   = 2 // of a group
	fieldItems    = 2 // of a scope: spans, log_records, metrics
)

// each calls visit for every field of a message; value is the field without its tag, without the length if it has one.
func each(msg []byte, visit func(num protowire.Number, typ protowire.Type, value []byte) error) error {
	for len(msg) > 0 {
		num, typ, n := protowire.ConsumeTag(msg)
		if n < 0 {
			return protowire.ParseError(n)
		}
		msg = msg[n:]
		size := protowire.ConsumeFieldValue(num, typ, msg)
		if size < 0 {
			return protowire.ParseError(size)
		}
		value := msg[:size]
		if typ == protowire.BytesType {
			value, _ = protowire.ConsumeBytes(value)
		}
		if err := visit(num, typ, value); err != nil {
			return err
		}
		msg = msg[size:]
	}
	return nil
}

// eachIn calls visit for every message at field want of msg.
func eachIn(msg []byte, want protowire.Number, visit func(value []byte) error) error {
	return each(msg, func(num protowire.Number, typ protowire.Type, value []byte) error {
		if num != want {
			return nil
		}
		if typ != protowire.BytesType {
			return errWireType
		}
		return visit(value)
	})
}

func (r *reading) proto(body []byte) error {
	return eachIn(body, fieldGroups, func(group []byte) error {
		// The resource may stand behind its items.
		r.setResource(nil)
		err := eachIn(group, fieldResource, func(resource []byte) error {
			return eachIn(resource, 1, func(kv []byte) error {
				key, value, err := keyValue(kv)
				if err == nil && string(key) == KeyRequest {
					r.setResource(value.text)
				}
				return err
			})
		})
		if err != nil {
			return err
		}
		return eachIn(group, fieldScopes, func(scope []byte) error {
			return eachIn(scope, fieldItems, func(one []byte) error {
				switch r.signal {
				case Traces:
					return r.span(one)
				case Logs:
					return r.logRecord(one)
				default:
					return r.metric(one)
				}
			})
		})
	})
}

func (r *reading) span(msg []byte) error {
	var i raw
	err := each(msg, func(num protowire.Number, typ protowire.Type, value []byte) error {
		switch num {
		case 1:
			return wantBytes(typ, value, &i.traceID)
		case 2:
			return wantBytes(typ, value, &i.spanID)
		case 7:
			i.hasTime = true
			return wantFixed64(typ, value, &i.nanos)
		case 9:
			return i.attribute(typ, value)
		}
		return nil
	})
	if err == nil {
		r.judge(&i)
	}
	return err
}

func (r *reading) logRecord(msg []byte) error {
	var i raw
	err := each(msg, func(num protowire.Number, typ protowire.Type, value []byte) error {
		switch num {
		case 1:
			i.hasTime = true
			return wantFixed64(typ, value, &i.nanos)
		case 5:
			if typ != protowire.BytesType {
				return errWireType
			}
			v, err := anyValue(value)
			i.text, i.hasText = v.text, v.isText
			return err
		case 6:
			return i.attribute(typ, value)
		case 9:
			return wantBytes(typ, value, &i.traceID)
		case 10:
			return wantBytes(typ, value, &i.spanID)
		}
		return nil
	})
	if err == nil {
		r.judge(&i)
	}
	return err
}

// pointFields says at which fields a kind of data point holds what identifies it.
type pointFields struct {
	attributes, sum, double, integer protowire.Number
}

// pointKinds are the fields of Metric that hold points, and the shape of these.
var pointKinds = map[protowire.Number]pointFields{
	5:  {attributes: 7, double: 4, integer: 6}, // gauge
	7:  {attributes: 7, double: 4, integer: 6}, // sum
	9:  {attributes: 9, sum: 5},                // histogram
	10: {attributes: 1, sum: 5},                // exponential histogram
	11: {attributes: 7, sum: 5},                // summary
}

func (r *reading) metric(msg []byte) error {
	return each(msg, func(num protowire.Number, typ protowire.Type, value []byte) error {
		fields, ok := pointKinds[num]
		if !ok {
			return nil
		}
		if typ != protowire.BytesType {
			return errWireType
		}
		return eachIn(value, 1, func(point []byte) error { return r.point(point, fields) })
	})
}

func (r *reading) point(msg []byte, f pointFields) error {
	var i raw
	err := each(msg, func(num protowire.Number, typ protowire.Type, value []byte) error {
		var bits uint64
		switch num {
		case f.attributes:
			return i.attribute(typ, value)
		case 3:
			i.hasTime = true
			return wantFixed64(typ, value, &i.nanos)
		case f.integer:
			i.hasValue = true
			err := wantFixed64(typ, value, &bits)
			i.value = float64(int64(bits))
			return err
		case f.sum, f.double:
			i.hasValue = true
			err := wantFixed64(typ, value, &bits)
			i.value = math.Float64frombits(bits)
			return err
		}
		return nil
	})
	if err == nil {
		r.judge(&i)
	}
	return err
}

// attribute notes a KeyValue if it is one of ours.
func (i *raw) attribute(typ protowire.Type, kv []byte) error {
	if typ != protowire.BytesType {
		return errWireType
	}
	key, value, err := keyValue(kv)
	if err != nil {
		return err
	}
	switch string(key) {
	case KeyID:
		i.id, i.hasID = value.text, true
	case KeyPad:
		i.pad, i.hasPad = value.text, true
	case KeyPoison:
		i.poison = value.yes
	}
	return nil
}

// scalar is a value of the kinds our attributes have.
type scalar struct {
	text   []byte
	isText bool
	yes    bool
}

func keyValue(msg []byte) (key []byte, value scalar, err error) {
	err = each(msg, func(num protowire.Number, typ protowire.Type, v []byte) error {
		if num != 1 && num != 2 {
			return nil
		}
		if typ != protowire.BytesType {
			return errWireType
		}
		if num == 1 {
			key = v
			return nil
		}
		value, err = anyValue(v)
		return err
	})
	return key, value, err
}

func anyValue(msg []byte) (out scalar, err error) {
	err = each(msg, func(num protowire.Number, typ protowire.Type, v []byte) error {
		switch {
		case num == 1 && typ == protowire.BytesType:
			out = scalar{text: v, isText: true}
		case num == 2 && typ == protowire.VarintType:
			n, _ := protowire.ConsumeVarint(v)
			out = scalar{yes: n != 0}
		case num <= 7:
			out = scalar{}
		}
		return nil
	})
	return out, err
}

func wantBytes(typ protowire.Type, value []byte, to *[]byte) error {
	if typ != protowire.BytesType {
		return errWireType
	}
	*to = value
	return nil
}

func wantFixed64(typ protowire.Type, value []byte, to *uint64) error {
	if typ != protowire.Fixed64Type {
		return errWireType
	}
	*to, _ = protowire.ConsumeFixed64(value)
	return nil
}
