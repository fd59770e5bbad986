// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

// kind names a message type of OTLP 1.x (opentelemetry-proto, common, resource, trace, metrics, logs, profiles).
type kind uint8

const (
	kindRequest kind = iota
	kindResourceGroup
	kindScopeGroup
	kindSpan
	kindLogRecord
	kindMetric
	kindMetricData
	kindNumberPoint
	kindProfile
	kindResource
	kindEntityRef
	kindScope
	kindKeyValue
	kindAnyValue
	kindArrayValue
	kindKeyValueList
	kindSpanEvent
	kindSpanLink
	kindSpanStatus
	kindExemplar
	kindHistogramPoint
	kindExpHistogramPoint
	kindBuckets
	kindSummaryPoint
	kindQuantile
	kindDictionary
	kindMapping
	kindLocation
	kindLine
	kindFunction
	kindLink
	kindAttributeUnit
	kindStack
	kindSample
	kindValueType
	kinds
)

var kindWords = [kinds]string{
	kindRequest: "request", kindResourceGroup: "resource group", kindScopeGroup: "scope group",
	kindSpan: "span", kindLogRecord: "log record", kindMetric: "metric", kindMetricData: "metric data",
	kindNumberPoint: "number data point", kindProfile: "profile", kindResource: "resource",
	kindEntityRef: "entity reference", kindScope: "scope", kindKeyValue: "attribute", kindAnyValue: "attribute value",
	kindArrayValue: "array value", kindKeyValueList: "key value list", kindSpanEvent: "span event",
	kindSpanLink: "span link", kindSpanStatus: "span status", kindExemplar: "exemplar",
	kindHistogramPoint: "histogram data point", kindExpHistogramPoint: "exponential histogram data point",
	kindBuckets: "histogram buckets", kindSummaryPoint: "summary data point", kindQuantile: "summary quantile",
	kindDictionary: "profiles dictionary", kindMapping: "mapping", kindLocation: "location", kindLine: "line",
	kindFunction: "function", kindLink: "link", kindAttributeUnit: "attribute with unit", kindStack: "stack",
	kindSample: "sample", kindValueType: "value type",
}

// shape says how a field is written on the wire.
type shape uint8

const (
	shapeUnknown shape = iota // not a field of this message
	shapeVarint               // wire type 0
	shapeI64                  // wire type 1
	shapeI32                  // wire type 5
	shapeBytes                // wire type 2, strings and bytes; UTF-8 is not checked, as in the reference decoder
	shapeID16                 // wire type 2, 16 bytes or none
	shapeID8                  // wire type 2, 8 bytes or none
	shapeMessage              // wire type 2, a message
	shapeVarints              // repeated: wire type 0, or packed in wire type 2
	shapeI64s                 // repeated: wire type 1, or packed in wire type 2
)

// field is one field of a message that walk reads.
type field struct {
	shape shape
	child kind // of shapeMessage
}

var (
	fVarint  = field{shape: shapeVarint}
	fI64     = field{shape: shapeI64}
	fI32     = field{shape: shapeI32}
	fBytes   = field{shape: shapeBytes}
	fID16    = field{shape: shapeID16}
	fID8     = field{shape: shapeID8}
	fVarints = field{shape: shapeVarints}
	fI64s    = field{shape: shapeI64s}
)

func fMessage(k kind) field { return field{shape: shapeMessage, child: k} }

// maxField is one more than the highest field number in schema.
const maxField = 16

// schema holds the messages that walk reads, by field number. The messages that make up most of a request have
// functions of their own instead.
var schema = [kinds][maxField]field{
	kindResource:     {1: fMessage(kindKeyValue), 2: fVarint, 3: fMessage(kindEntityRef)},
	kindEntityRef:    {1: fBytes, 2: fBytes, 3: fBytes, 4: fBytes},
	kindScope:        {1: fBytes, 2: fBytes, 3: fMessage(kindKeyValue), 4: fVarint},
	kindKeyValue:     {1: fBytes, 2: fMessage(kindAnyValue), 3: fVarint},
	kindArrayValue:   {1: fMessage(kindAnyValue)},
	kindKeyValueList: {1: fMessage(kindKeyValue)},
	kindAnyValue: {
		1: fBytes, 2: fVarint, 3: fVarint, 4: fI64, 5: fMessage(kindArrayValue), 6: fMessage(kindKeyValueList),
		7: fBytes, 8: fVarint,
	},
	kindSpanEvent:  {1: fI64, 2: fBytes, 3: fMessage(kindKeyValue), 4: fVarint},
	kindSpanLink:   {1: fID16, 2: fID8, 3: fBytes, 4: fMessage(kindKeyValue), 5: fVarint, 6: fI32},
	kindSpanStatus: {2: fBytes, 3: fVarint},
	kindExemplar:   {2: fI64, 3: fI64, 4: fID8, 5: fID16, 6: fI64, 7: fMessage(kindKeyValue)},
	kindHistogramPoint: {
		2: fI64, 3: fI64, 4: fI64, 5: fI64, 6: fI64s, 7: fI64s, 8: fMessage(kindExemplar), 9: fMessage(kindKeyValue),
		10: fVarint, 11: fI64, 12: fI64,
	},
	kindExpHistogramPoint: {
		1: fMessage(kindKeyValue), 2: fI64, 3: fI64, 4: fI64, 5: fI64, 6: fVarint, 7: fI64, 8: fMessage(kindBuckets),
		9: fMessage(kindBuckets), 10: fVarint, 11: fMessage(kindExemplar), 12: fI64, 13: fI64, 14: fI64,
	},
	kindBuckets: {1: fVarint, 2: fVarints},
	kindSummaryPoint: {
		2: fI64, 3: fI64, 4: fI64, 5: fI64, 6: fMessage(kindQuantile), 7: fMessage(kindKeyValue), 8: fVarint,
	},
	kindQuantile: {1: fI64, 2: fI64},
	kindDictionary: {
		1: fMessage(kindMapping), 2: fMessage(kindLocation), 3: fMessage(kindFunction), 4: fMessage(kindLink), 5: fBytes,
		6: fMessage(kindAttributeUnit), 7: fMessage(kindStack),
	},
	kindMapping:       {1: fVarint, 2: fVarint, 3: fVarint, 4: fVarint, 5: fVarints},
	kindLocation:      {1: fVarint, 2: fVarint, 3: fMessage(kindLine), 4: fVarints},
	kindLine:          {1: fVarint, 2: fVarint, 3: fVarint},
	kindFunction:      {1: fVarint, 2: fVarint, 3: fVarint, 4: fVarint},
	kindLink:          {1: fID16, 2: fID8},
	kindAttributeUnit: {1: fVarint, 2: fMessage(kindAnyValue), 3: fVarint},
	kindStack:         {1: fVarints},
	kindSample:        {1: fVarint, 2: fVarints, 3: fVarint, 4: fVarints, 5: fI64s},
	kindValueType:     {1: fVarint, 2: fVarint},
}
