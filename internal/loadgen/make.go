// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package loadgen

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
)

// Maker builds export requests of numbered items. It holds scratch space and is used by one goroutine.
type Maker struct {
	Run         string
	BaseMicro   int64 // microseconds since 1970
	ItemBytes   int   // mean padding
	PoisonEvery int   // every n-th number is marked; 0: none

	tag     item.Tag
	tagged  bool
	scratch [4][]byte
	pad     []byte
}

// Batch names what a request holds: consecutive numbers of one producer and one signal.
type Batch struct {
	Signal      item.Signal
	Producer    uint16
	Request     uint64
	First, Last uint64
}

// pointKinds is how many kinds of data points there are; a request mixes them.
const pointKinds = 5

func (m *Maker) poisoned(seq uint64) bool { return m.PoisonEvery > 0 && seq%uint64(m.PoisonEvery) == 0 }

func (m *Maker) begin() {
	if !m.tagged {
		m.tag, m.tagged = item.TagOf(m.Run), true
	}
}

// Proto appends the request as protobuf.
func (m *Maker) Proto(b []byte, q Batch) []byte {
	m.begin()
	resource := m.scratch[0][:0]
	resource = appendStringAttribute(resource, 1, "service.name", []byte(item.Service))
	resource = appendStringAttribute(resource, 1, item.KeyRequest,
		item.AppendID(nil, m.Run, item.ID{Signal: q.Signal, Producer: q.Producer, Seq: q.Request}))
	m.scratch[0] = resource

	scope := m.scratch[1][:0]
	scope = appendMessage(scope, 1, appendString(nil, 1, "holdfast.load"))
	if q.Signal == item.Metrics {
		for part := range uint64(pointKinds) {
			scope = m.metric(scope, q, part)
		}
	} else {
		for seq := q.First; seq <= q.Last; seq++ {
			scope = appendMessage(scope, 2, m.item(q, seq))
		}
	}
	m.scratch[1] = scope

	group := protowire.SizeTag(1) + protowire.SizeBytes(len(resource)) + protowire.SizeTag(2) + protowire.SizeBytes(len(scope))
	b = protowire.AppendTag(b, 1, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(group))
	b = appendMessage(b, 1, resource)
	return appendMessage(b, 2, scope)
}

// item returns a span or a log record, in scratch space.
func (m *Maker) item(q Batch, seq uint64) []byte {
	id := item.ID{Signal: q.Signal, Producer: q.Producer, Seq: seq}
	trace, span := item.TraceID(m.tag, q.Producer, seq), item.SpanID(seq)
	start := item.Nanos(m.BaseMicro, id)
	b := m.scratch[2][:0]
	if q.Signal == item.Traces {
		b = appendMessage(b, 1, trace[:])
		b = appendMessage(b, 2, span[:])
		b = appendString(b, 5, "ledger item")
		b = protowire.AppendVarint(protowire.AppendTag(b, 6, protowire.VarintType), 2)
		b = appendFixed(b, 7, start)
		b = appendFixed(b, 8, start+1000)
		b = m.attributes(b, 9, id)
	} else {
		b = appendFixed(b, 1, start)
		b = protowire.AppendVarint(protowire.AppendTag(b, 2, protowire.VarintType), 9)
		b = appendString(b, 3, "INFO")
		m.pad = append(item.AppendID(m.pad[:0], m.Run, id), " is a log record of the ledger"...)
		b = protowire.AppendVarint(protowire.AppendTag(b, 5, protowire.BytesType),
			uint64(protowire.SizeTag(1)+protowire.SizeBytes(len(m.pad))))
		b = appendMessage(b, 1, m.pad)
		b = m.attributes(b, 6, id)
		b = appendMessage(b, 9, trace[:])
		b = appendMessage(b, 10, span[:])
		b = appendFixed(b, 11, start)
	}
	m.scratch[2] = b
	return b
}

// part is a fifth of a batch: its numbers, and the kind of points they go into. Numbers stay in order; which kind comes
// first changes with the request.
func (q Batch) part(n uint64) (first, last uint64, kind int) {
	items := q.Last - q.First + 1
	return q.First + items*n/pointKinds, q.First + items*(n+1)/pointKinds - 1, int((n + q.Request) % pointKinds)
}

// metricShape says how a kind of metric is built: its name, its field in Metric, and what follows the points.
type metricShape struct {
	name  string
	field protowire.Number
	after []byte
}

// Cumulative temporality is field 2, value 2; a sum that is monotonic adds field 3.
var metricShapes = [pointKinds]metricShape{
	{"ledger.gauge", 5, nil},
	{"ledger.sum", 7, []byte{0x10, 2, 0x18, 1}},
	{"ledger.histogram", 9, []byte{0x10, 2}},
	{"ledger.exponential", 10, []byte{0x10, 2}},
	{"ledger.summary", 11, nil},
}

func (m *Maker) metric(scope []byte, q Batch, part uint64) []byte {
	first, last, kind := q.part(part)
	if last < first {
		return scope
	}
	shape := metricShapes[kind]
	points := m.scratch[3][:0]
	for seq := first; seq <= last; seq++ {
		points = appendMessage(points, 1, m.point(q, kind, seq))
	}
	points = append(points, shape.after...)
	m.scratch[3] = points
	head := appendString(nil, 1, shape.name)
	head = appendString(head, 3, "1")
	size := len(head) + protowire.SizeTag(shape.field) + protowire.SizeBytes(len(points))
	scope = protowire.AppendTag(scope, 2, protowire.BytesType)
	scope = protowire.AppendVarint(scope, uint64(size))
	scope = append(scope, head...)
	return appendMessage(scope, shape.field, points)
}

// point returns a data point, in scratch space.
func (m *Maker) point(q Batch, kind int, seq uint64) []byte {
	id := item.ID{Signal: item.Metrics, Producer: q.Producer, Seq: seq}
	b := m.scratch[2][:0]
	b = appendFixed(b, 2, uint64(m.BaseMicro)*1000)
	b = appendFixed(b, 3, item.Nanos(m.BaseMicro, id))
	switch kind {
	case 0:
		b = appendFixed(b, 4, bitsOf(seq))
		b = m.attributes(b, 7, id)
	case 1:
		b = appendFixed(b, 6, seq)
		b = m.attributes(b, 7, id)
	case 2:
		b = appendFixed(b, 4, 2)
		b = appendFixed(b, 5, bitsOf(seq))
		b = appendPacked(b, 6, 1, 1)
		b = appendPacked(b, 7, bitsOf(10))
		b = m.attributes(b, 9, id)
	case 3:
		b = m.attributes(b, 1, id)
		b = appendFixed(b, 4, 2)
		b = appendFixed(b, 5, bitsOf(seq))
		b = protowire.AppendVarint(protowire.AppendTag(b, 6, protowire.VarintType), protowire.EncodeZigZag(1))
		b = appendFixed(b, 7, 1)
		buckets := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), protowire.EncodeZigZag(0))
		b = appendMessage(b, 8, appendMessage(buckets, 2, []byte{1}))
	case 4:
		b = appendFixed(b, 4, 2)
		b = appendFixed(b, 5, bitsOf(seq))
		b = appendMessage(b, 6, appendFixed(appendFixed(nil, 1, bitsOfFloat(0.5)), 2, bitsOf(seq)))
		b = m.attributes(b, 7, id)
	}
	m.scratch[2] = b
	return b
}

// attributes appends what identifies an item, as attributes at the given field.
func (m *Maker) attributes(b []byte, field protowire.Number, id item.ID) []byte {
	var space [64]byte
	b = appendStringAttribute(b, field, item.KeyID, item.AppendID(space[:0], m.Run, id))
	if m.poisoned(id.Seq) {
		kv := appendString(nil, 1, item.KeyPoison)
		kv = appendMessage(kv, 2, []byte{0x10, 1}) // bool_value: true
		b = appendMessage(b, field, kv)
	}
	m.pad = item.AppendPad(m.pad[:0], m.tag, id, m.ItemBytes)
	return appendStringAttribute(b, field, item.KeyPad, m.pad)
}

func appendMessage(b []byte, field protowire.Number, msg []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), msg)
}

func appendString(b []byte, field protowire.Number, text string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), text)
}

func appendFixed(b []byte, field protowire.Number, v uint64) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(b, field, protowire.Fixed64Type), v)
}

func appendPacked(b []byte, field protowire.Number, values ...uint64) []byte {
	var packed []byte
	for _, v := range values {
		packed = protowire.AppendFixed64(packed, v)
	}
	return appendMessage(b, field, packed)
}

// appendStringAttribute appends a KeyValue with a string.
func appendStringAttribute(b []byte, field protowire.Number, key string, text []byte) []byte {
	value := protowire.SizeTag(1) + protowire.SizeBytes(len(text))
	size := protowire.SizeTag(1) + protowire.SizeBytes(len(key)) + protowire.SizeTag(2) + protowire.SizeBytes(value)
	b = protowire.AppendTag(b, field, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(size))
	b = appendString(b, 1, key)
	b = protowire.AppendTag(b, 2, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(value))
	return appendMessage(b, 1, text)
}
