// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlp_test

import (
	"strconv"
	"strings"

	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

// protoFields is OTLP as the tests know it, written down apart from the product's own schema so that a slip in one
// shows. Each word is number:type; a type is varint, i64, i32, bytes, id16, id8, varints, i64s or a message.
var protoFields = map[string]string{
	"TracesRequest":   "1:ResourceSpans",
	"MetricsRequest":  "1:ResourceMetrics",
	"LogsRequest":     "1:ResourceLogs",
	"ProfilesRequest": "1:ResourceProfiles 2:Dictionary",

	"ResourceSpans":    "1:Resource 2:ScopeSpans 3:bytes 1000:ScopeSpans",
	"ResourceMetrics":  "1:Resource 2:ScopeMetrics 3:bytes 1000:ScopeMetrics",
	"ResourceLogs":     "1:Resource 2:ScopeLogs 3:bytes 1000:ScopeLogs",
	"ResourceProfiles": "1:Resource 2:ScopeProfiles 3:bytes",
	"ScopeSpans":       "1:Scope 2:Span 3:bytes",
	"ScopeMetrics":     "1:Scope 2:Metric 3:bytes",
	"ScopeLogs":        "1:Scope 2:LogRecord 3:bytes",
	"ScopeProfiles":    "1:Scope 2:Profile 3:bytes",

	"Resource":     "1:KeyValue 2:varint 3:EntityRef",
	"EntityRef":    "1:bytes 2:bytes 3:bytes 4:bytes",
	"Scope":        "1:bytes 2:bytes 3:KeyValue 4:varint",
	"KeyValue":     "1:bytes 2:AnyValue 3:varint",
	"AnyValue":     "1:bytes 2:varint 3:varint 4:i64 5:ArrayValue 6:KeyValueList 7:bytes 8:varint",
	"ArrayValue":   "1:AnyValue",
	"KeyValueList": "1:KeyValue",

	"Span": "1:id16 2:id8 3:bytes 4:id8 5:bytes 6:varint 7:i64 8:i64 9:KeyValue 10:varint 11:Event 12:varint " +
		"13:SpanLink 14:varint 15:Status 16:i32",
	"Event":    "1:i64 2:bytes 3:KeyValue 4:varint",
	"SpanLink": "1:id16 2:id8 3:bytes 4:KeyValue 5:varint 6:i32",
	"Status":   "2:bytes 3:varint",

	"LogRecord": "1:i64 2:varint 3:bytes 5:AnyValue 6:KeyValue 7:varint 8:i32 9:id16 10:id8 11:i64 12:bytes",

	"Metric": "1:bytes 2:bytes 3:bytes 5:Gauge 7:Sum 9:Histogram 10:ExpHistogram 11:Summary 12:KeyValue",
	"Gauge":  "1:NumberPoint", "Sum": "1:NumberPoint 2:varint 3:varint", "Histogram": "1:HistogramPoint 2:varint",
	"ExpHistogram": "1:ExpHistogramPoint 2:varint", "Summary": "1:SummaryPoint",
	"NumberPoint":    "2:i64 3:i64 4:i64 5:Exemplar 6:i64 7:KeyValue 8:varint",
	"Exemplar":       "2:i64 3:i64 4:id8 5:id16 6:i64 7:KeyValue",
	"HistogramPoint": "2:i64 3:i64 4:i64 5:i64 6:i64s 7:i64s 8:Exemplar 9:KeyValue 10:varint 11:i64 12:i64",
	"ExpHistogramPoint": "1:KeyValue 2:i64 3:i64 4:i64 5:i64 6:varint 7:i64 8:Buckets 9:Buckets 10:varint 11:Exemplar " +
		"12:i64 13:i64 14:i64",
	"Buckets":      "1:varint 2:varints",
	"SummaryPoint": "2:i64 3:i64 4:i64 5:i64 6:Quantile 7:KeyValue 8:varint",
	"Quantile":     "1:i64 2:i64",

	"Profile": "1:ValueType 2:Sample 3:i64 4:varint 5:ValueType 6:varint 7:id16 8:varint 9:bytes 10:bytes 11:varints",
	"Sample":  "1:varint 2:varints 3:varint 4:varints 5:i64s", "ValueType": "1:varint 2:varint",
	"Dictionary": "1:Mapping 2:Location 3:Function 4:Link 5:bytes 6:AttributeUnit 7:Stack",
	"Mapping":    "1:varint 2:varint 3:varint 4:varint 5:varints", "Location": "1:varint 2:varint 3:Line 4:varints",
	"Line": "1:varint 2:varint 3:varint", "Function": "1:varint 2:varint 3:varint 4:varint",
	"Link": "1:id16 2:id8", "AttributeUnit": "1:varint 2:AnyValue 3:varint", "Stack": "1:varints",
}

// requestMessages is the root message of each signal.
var requestMessages = map[otlp.Signal]string{
	otlp.Traces: "TracesRequest", otlp.Metrics: "MetricsRequest", otlp.Logs: "LogsRequest",
	otlp.Profiles: "ProfilesRequest",
}

type protoField struct {
	number int
	typ    string
}

// protoSchema is protoFields, parsed.
var protoSchema = func() map[string][]protoField {
	out := map[string][]protoField{}
	for message, words := range protoFields {
		for word := range strings.FieldsSeq(words) {
			number, typ, _ := strings.Cut(word, ":")
			n, err := strconv.Atoi(number)
			if err != nil {
				panic(err)
			}
			out[message] = append(out[message], protoField{n, typ})
		}
	}
	return out
}()

// typeOf returns the type of a field, or "".
func typeOf(message string, number int) string {
	for _, f := range protoSchema[message] {
		if f.number == number {
			return f.typ
		}
	}
	return ""
}

func isMessage(typ string) bool { return protoFields[typ] != "" }

// paths lists, for every message reachable from root, one way of field numbers to it.
func paths(root string) map[string][]int {
	out := map[string][]int{root: {}}
	for queue := []string{root}; len(queue) > 0; queue = queue[1:] {
		for _, f := range protoSchema[queue[0]] {
			if _, seen := out[f.typ]; !seen && isMessage(f.typ) {
				out[f.typ] = append(append([]int{}, out[queue[0]]...), f.number)
				queue = append(queue, f.typ)
			}
		}
	}
	return out
}
