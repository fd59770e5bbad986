// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package item

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
)

// The JSON form of OTLP: names in lowerCamelCase, trace and span IDs in hex, 64-bit integers as decimal strings (numbers
// are accepted), unknown names ignored (OTLP specification, JSON Protobuf Encoding).

type jsonRequest struct {
	Spans   []jsonGroup `json:"resourceSpans"`
	Logs    []jsonGroup `json:"resourceLogs"`
	Metrics []jsonGroup `json:"resourceMetrics"`
}

type jsonGroup struct {
	Resource struct {
		Attributes []jsonKeyValue `json:"attributes"`
	} `json:"resource"`
	ScopeSpans   []jsonScope `json:"scopeSpans"`
	ScopeLogs    []jsonScope `json:"scopeLogs"`
	ScopeMetrics []jsonScope `json:"scopeMetrics"`
}

type jsonScope struct {
	Spans   []jsonItem   `json:"spans"`
	Logs    []jsonItem   `json:"logRecords"`
	Metrics []jsonMetric `json:"metrics"`
}

// jsonItem is a span or a log record.
type jsonItem struct {
	TraceID    string         `json:"traceId"`
	SpanID     string         `json:"spanId"`
	Start      *jsonUint      `json:"startTimeUnixNano"`
	Time       *jsonUint      `json:"timeUnixNano"`
	Body       *jsonAny       `json:"body"`
	Attributes []jsonKeyValue `json:"attributes"`
}

type jsonMetric struct {
	Gauge     *jsonPoints `json:"gauge"`
	Sum       *jsonPoints `json:"sum"`
	Histogram *jsonPoints `json:"histogram"`
	ExpHist   *jsonPoints `json:"exponentialHistogram"`
	Summary   *jsonPoints `json:"summary"`
}

type jsonPoints struct {
	Points []jsonPoint `json:"dataPoints"`
}

type jsonPoint struct {
	Time       *jsonUint      `json:"timeUnixNano"`
	Int        *jsonInt       `json:"asInt"`
	Double     *jsonFloat     `json:"asDouble"`
	Sum        *jsonFloat     `json:"sum"`
	Attributes []jsonKeyValue `json:"attributes"`
}

type jsonKeyValue struct {
	Key   string  `json:"key"`
	Value jsonAny `json:"value"`
}

type jsonAny struct {
	Text *string `json:"stringValue"`
	Bool bool    `json:"boolValue"`
}

func unquote(b []byte) string { return string(bytes.Trim(b, `"`)) }

type jsonUint uint64

func (n *jsonUint) UnmarshalJSON(b []byte) error {
	v, err := strconv.ParseUint(unquote(b), 10, 64)
	*n = jsonUint(v)
	return err
}

type jsonInt int64

func (n *jsonInt) UnmarshalJSON(b []byte) error {
	v, err := strconv.ParseInt(unquote(b), 10, 64)
	*n = jsonInt(v)
	return err
}

type jsonFloat float64

func (n *jsonFloat) UnmarshalJSON(b []byte) error {
	v, err := strconv.ParseFloat(unquote(b), 64) // reads NaN and Infinity too
	*n = jsonFloat(v)
	return err
}

var errOtherSignal = errors.New("another signal")

func (r *reading) json(body []byte) error {
	var req jsonRequest
	if err := json.Unmarshal(body, &req); err != nil {
		return err
	}
	groups := map[Signal][]jsonGroup{Traces: req.Spans, Logs: req.Logs, Metrics: req.Metrics}
	for s, g := range groups {
		if s != r.signal && len(g) > 0 {
			return errOtherSignal
		}
	}
	for i := range groups[r.signal] {
		g := &groups[r.signal][i]
		r.setResource(nil)
		for _, kv := range g.Resource.Attributes {
			if kv.Key == KeyRequest && kv.Value.Text != nil {
				r.setResource([]byte(*kv.Value.Text))
			}
		}
		for _, scopes := range [][]jsonScope{g.ScopeSpans, g.ScopeLogs, g.ScopeMetrics} {
			if err := r.jsonScopes(scopes); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *reading) jsonScopes(scopes []jsonScope) error {
	for i := range scopes {
		for _, items := range [][]jsonItem{scopes[i].Spans, scopes[i].Logs} {
			for j := range items {
				if err := r.jsonItem(&items[j]); err != nil {
					return err
				}
			}
		}
		for _, m := range scopes[i].Metrics {
			for _, points := range []*jsonPoints{m.Gauge, m.Sum, m.Histogram, m.ExpHist, m.Summary} {
				if points == nil {
					continue
				}
				for j := range points.Points {
					r.jsonPoint(&points.Points[j])
				}
			}
		}
	}
	return nil
}

func (r *reading) jsonItem(in *jsonItem) error {
	var i raw
	var err error
	if i.traceID, err = hex.DecodeString(in.TraceID); err != nil {
		return fmt.Errorf("traceId: %w", err)
	}
	if i.spanID, err = hex.DecodeString(in.SpanID); err != nil {
		return fmt.Errorf("spanId: %w", err)
	}
	when := in.Time
	if r.signal == Traces {
		when = in.Start
	}
	if when != nil {
		i.nanos, i.hasTime = uint64(*when), true
	}
	if in.Body != nil && in.Body.Text != nil {
		i.text, i.hasText = []byte(*in.Body.Text), true
	}
	i.jsonAttributes(in.Attributes)
	r.judge(&i)
	return nil
}

func (r *reading) jsonPoint(in *jsonPoint) {
	var i raw
	if in.Time != nil {
		i.nanos, i.hasTime = uint64(*in.Time), true
	}
	switch {
	case in.Int != nil:
		i.value, i.hasValue = float64(*in.Int), true
	case in.Double != nil:
		i.value, i.hasValue = float64(*in.Double), true
	case in.Sum != nil:
		i.value, i.hasValue = float64(*in.Sum), true
	}
	if math.IsNaN(i.value) {
		i.hasValue = false
	}
	i.jsonAttributes(in.Attributes)
	r.judge(&i)
}

func (i *raw) jsonAttributes(attributes []jsonKeyValue) {
	for _, kv := range attributes {
		var text []byte
		if kv.Value.Text != nil {
			text = []byte(*kv.Value.Text)
		}
		switch kv.Key {
		case KeyID:
			i.id, i.hasID = text, true
		case KeyPad:
			i.pad, i.hasPad = text, true
		case KeyPoison:
			i.poison = kv.Value.Bool
		}
	}
}

// SignalOfJSON says which signal a JSON request holds, by its top-level key; false if it holds none or several.
func SignalOfJSON(body []byte) (Signal, bool) {
	var keys map[string]json.RawMessage
	if json.Unmarshal(body, &keys) != nil {
		return 0, false
	}
	var found Signal
	for s, key := range map[Signal]string{Traces: "resourceSpans", Logs: "resourceLogs", Metrics: "resourceMetrics"} {
		if _, ok := keys[key]; ok {
			if found != 0 {
				return 0, false
			}
			found = s
		}
	}
	return found, found != 0
}
