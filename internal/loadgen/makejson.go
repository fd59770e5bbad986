// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package loadgen

import (
	"encoding/hex"
	"math"
	"strconv"

	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
)

func bitsOf(seq uint64) uint64         { return math.Float64bits(float64(seq)) }
func bitsOfFloat(value float64) uint64 { return math.Float64bits(value) }

// JSON appends the request in OTLP's JSON form. No text of ours needs escaping.
func (m *Maker) JSON(b []byte, q Batch) []byte {
	m.begin()
	group, scope, items := "resourceSpans", "scopeSpans", "spans"
	switch q.Signal {
	case item.Logs:
		group, scope, items = "resourceLogs", "scopeLogs", "logRecords"
	case item.Metrics:
		group, scope, items = "resourceMetrics", "scopeMetrics", "metrics"
	}
	b = append(b, `{"`+group+`":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"`+item.Service+`"}},`...)
	b = append(b, `{"key":"`+item.KeyRequest+`","value":{"stringValue":"`...)
	b = item.AppendID(b, m.Run, item.ID{Signal: q.Signal, Producer: q.Producer, Seq: q.Request})
	b = append(b, `"}}]},"`+scope+`":[{"scope":{"name":"holdfast.load"},"`+items+`":[`...)
	if q.Signal == item.Metrics {
		comma := false
		for part := range uint64(pointKinds) {
			if first, last, kind := q.part(part); last >= first {
				if comma {
					b = append(b, ',')
				}
				b, comma = m.metricJSON(b, q, kind, first, last), true
			}
		}
	} else {
		for seq := q.First; seq <= q.Last; seq++ {
			if seq > q.First {
				b = append(b, ',')
			}
			b = m.itemJSON(b, q, seq)
		}
	}
	return append(b, `]}]}]}`...)
}

func (m *Maker) itemJSON(b []byte, q Batch, seq uint64) []byte {
	id := item.ID{Signal: q.Signal, Producer: q.Producer, Seq: seq}
	trace, span := item.TraceID(m.tag, q.Producer, seq), item.SpanID(seq)
	b = append(b, `{"traceId":"`...)
	b = hex.AppendEncode(b, trace[:])
	b = append(b, `","spanId":"`...)
	b = hex.AppendEncode(b, span[:])
	if q.Signal == item.Traces {
		b = append(b, `","name":"ledger item","kind":2,"startTimeUnixNano":"`...)
		b = strconv.AppendUint(b, item.Nanos(m.BaseMicro, id), 10)
		b = append(b, `","endTimeUnixNano":"`...)
		b = strconv.AppendUint(b, item.Nanos(m.BaseMicro, id)+1000, 10)
	} else {
		b = append(b, `","timeUnixNano":"`...)
		b = strconv.AppendUint(b, item.Nanos(m.BaseMicro, id), 10)
		b = append(b, `","severityNumber":9,"severityText":"INFO","body":{"stringValue":"`...)
		b = item.AppendID(b, m.Run, id)
		b = append(b, ` is a log record of the ledger"},"observedTimeUnixNano":"`...)
		b = strconv.AppendUint(b, item.Nanos(m.BaseMicro, id), 10)
	}
	b = append(b, `",`...)
	return append(m.attributesJSON(b, id), '}')
}

// JSON names of the kinds of metrics, and what follows the points.
var jsonShapes = [pointKinds]struct{ name, after string }{
	{"gauge", ``},
	{"sum", `,"aggregationTemporality":2,"isMonotonic":true`},
	{"histogram", `,"aggregationTemporality":2`},
	{"exponentialHistogram", `,"aggregationTemporality":2`},
	{"summary", ``},
}

func (m *Maker) metricJSON(b []byte, q Batch, kind int, first, last uint64) []byte {
	b = append(b, `{"name":"`+metricShapes[kind].name+`","unit":"1","`+jsonShapes[kind].name+`":{"dataPoints":[`...)
	for seq := first; seq <= last; seq++ {
		if seq > first {
			b = append(b, ',')
		}
		id := item.ID{Signal: item.Metrics, Producer: q.Producer, Seq: seq}
		b = append(b, `{"startTimeUnixNano":"`...)
		b = strconv.AppendUint(b, uint64(m.BaseMicro)*1000, 10)
		b = append(b, `","timeUnixNano":"`...)
		b = strconv.AppendUint(b, item.Nanos(m.BaseMicro, id), 10)
		b = append(b, `",`...)
		number := strconv.FormatUint(seq, 10)
		switch kind {
		case 0:
			b = append(b, `"asDouble":`+number...)
		case 1:
			b = append(b, `"asInt":"`+number+`"`...)
		case 2:
			b = append(b, `"count":"2","sum":`+number+`,"bucketCounts":["1","1"],"explicitBounds":[10]`...)
		case 3:
			b = append(b, `"count":"2","sum":`+number+`,"scale":1,"zeroCount":"1","positive":{"offset":0,"bucketCounts":["1"]}`...)
		case 4:
			b = append(b, `"count":"2","sum":`+number+`,"quantileValues":[{"quantile":0.5,"value":`+number+`}]`...)
		}
		b = append(b, ',')
		b = append(m.attributesJSON(b, id), '}')
	}
	b = append(b, `]`...)
	b = append(b, jsonShapes[kind].after...)
	return append(b, `}}`...)
}

func (m *Maker) attributesJSON(b []byte, id item.ID) []byte {
	b = append(b, `"attributes":[{"key":"`+item.KeyID+`","value":{"stringValue":"`...)
	b = item.AppendID(b, m.Run, id)
	b = append(b, `"}},`...)
	if m.poisoned(id.Seq) {
		b = append(b, `{"key":"`+item.KeyPoison+`","value":{"boolValue":true}},`...)
	}
	b = append(b, `{"key":"`+item.KeyPad+`","value":{"stringValue":"`...)
	b = item.AppendPad(b, m.tag, id, m.ItemBytes)
	return append(b, `"}}]`...)
}
