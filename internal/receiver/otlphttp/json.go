// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlphttp

import (
	"encoding/json"
	"errors"
	"fmt"

	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/pprofile/pprofileotlp"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/door"
)

// maxJSONDepth is how deep arrays and objects may be nested (faults, part C).
const maxJSONDepth = 100

// message is an export request of pdata.
type message interface {
	UnmarshalJSON([]byte) error
	MarshalProto() ([]byte, error)
}

// translators turn JSON requests into wire bytes. This is the one place of the doors that decodes.
var translators = map[otlp.Signal]*door.Translator{
	otlp.Traces:   translator(otlp.Traces, func() message { return ptraceotlp.NewExportRequest() }),
	otlp.Metrics:  translator(otlp.Metrics, func() message { return pmetricotlp.NewExportRequest() }),
	otlp.Logs:     translator(otlp.Logs, func() message { return plogotlp.NewExportRequest() }),
	otlp.Profiles: translator(otlp.Profiles, func() message { return pprofileotlp.NewExportRequest() }),
}

func translator(s otlp.Signal, empty func() message) *door.Translator {
	return &door.Translator{Measure: measureJSON, Translate: func(text []byte) (wire []byte, err error) {
		defer func() {
			if r := recover(); r != nil {
				wire, err = nil, noRequest(s, text)
			}
		}()
		m := empty()
		if err := m.UnmarshalJSON(text); err != nil {
			return nil, noRequest(s, text)
		}
		if wire, err = m.MarshalProto(); err != nil {
			return nil, noRequest(s, text)
		}
		return wire, nil
	}}
}

// noRequest explains text that the reader refused. The reader's own words quote what it read, so they are not passed
// on; a syntax error is found again to name its place.
func noRequest(s otlp.Signal, text []byte) *receiver.Refusal {
	var syntax *json.SyntaxError
	if err := json.Unmarshal(text, &struct{}{}); errors.As(err, &syntax) {
		return badJSON(max(int(syntax.Offset)-1, 0), "syntax error") // it counts the byte it stumbled over
	}
	return door.Malformed(fmt.Sprintf("json: the text is no export request of %s", s))
}

func badJSON(at int, cause string) *receiver.Refusal {
	return door.Malformed(fmt.Sprintf("json at byte %d: %s", at, cause))
}

// measureJSON looks at nesting, and at what comes after the end, before anything that recurses or stops early reads
// the text, and counts objects. Everything else is left to the reader.
func measureJSON(text []byte) (objects int, err error) {
	var open [maxJSONDepth]byte // what closes the arrays and objects that are open
	depth, inString := 0, false
	for i := 0; i < len(text); i++ {
		c := text[i]
		if inString {
			switch c {
			case '\\':
				i++
			case '"':
				inString = false
			}
			continue
		}
		switch c {
		case '"':
			inString = true
		case '{', '[':
			if depth == maxJSONDepth {
				return 0, &receiver.Refusal{
					Code: receiver.Malformed, Reason: receiver.ReasonDepth,
					Text: fmt.Sprintf("json at byte %d: nested deeper than %d", i, maxJSONDepth),
				}
			}
			open[depth] = c + 2 // in ASCII the closing one is the next but one
			depth++
			if c == '{' {
				objects++
			}
		case '}', ']':
			if depth == 0 || open[depth-1] != c {
				return 0, badJSON(i, "unexpected end of an object or array")
			}
			if depth--; depth == 0 {
				return objects, checkEnd(text, i+1)
			}
		case ' ', '\t', '\r', '\n':
			continue
		}
		if depth == 0 {
			return 0, badJSON(i, "an object is expected")
		}
	}
	return 0, badJSON(len(text), "truncated")
}

// checkEnd says whether only white space follows.
func checkEnd(text []byte, at int) error {
	for ; at < len(text); at++ {
		switch text[at] {
		case ' ', '\t', '\r', '\n':
		default:
			return badJSON(at, "bytes after the end")
		}
	}
	return nil
}
