// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package failover

import (
	"strings"

	"github.com/holdfast-telemetry/holdfast/internal/breaker"
	"github.com/holdfast-telemetry/holdfast/internal/exporter"
)

// maxText bounds what is kept of a cause (failover, section 15).
const maxText = 1 << 10

// Conditions say which failures count (condition.error). The zero value counts every failure but rejections.
type Conditions struct {
	texts     []string
	permanent bool
}

// Conditions returns the connector's; they are valid once the configuration is.
func (c *Config) Conditions() Conditions {
	texts, _ := c.Condition.Error.Texts()
	return Conditions{texts: texts, permanent: c.Condition.Error.Permanent}
}

// Outcome is what the Switch is told of a verdict; the caller adds Batch, Generation and Took. It is for workers, not
// for the switch room: it looks into texts.
func (c *Conditions) Outcome(v *exporter.Verdict) breaker.Outcome {
	o := breaker.Outcome{Class: breaker.Local, Unclear: v.Unclear, After: v.After}
	if int(v.Kind) < len(classes) {
		o.Class = classes[v.Kind]
	}
	if v.Kind == exporter.Delivered || v.Kind == exporter.RetryAfter {
		return o
	}
	o.Text = v.Message
	if v.Err != nil {
		o.Text = v.Err.Error()
	}
	if len(o.Text) > maxText {
		o.Text = strings.ToValidUTF8(o.Text[:maxText], "")
	}
	o.Counted = c.Counts(v)
	return o
}

// Counts reports whether a failure is a strike, and moves a batch before its patience ends.
func (c *Conditions) Counts(v *exporter.Verdict) bool {
	switch v.Kind {
	case exporter.Retry, exporter.Ambiguous, exporter.Misconfigured:
	case exporter.Rejected:
		if !c.permanent {
			return false
		}
	default:
		return false
	}
	if len(c.texts) == 0 {
		return true
	}
	text := v.Message
	if v.Err != nil {
		text = v.Err.Error()
	}
	text = strings.ToLower(text)
	for _, t := range c.texts {
		if strings.Contains(text, t) {
			return true
		}
	}
	return false
}

// classes are the classes of the verdicts, by kind; no verdict is local.
var classes = [...]breaker.Class{
	breaker.Local, breaker.Delivered, breaker.Retry, breaker.RetryAfter, breaker.Ambiguous, breaker.Misconfigured,
	breaker.Rejected,
}

// SpeaksAgainst reports whether an answer speaks against an exporter's backend.
func SpeaksAgainst(k exporter.Kind) bool {
	return k == exporter.Retry || k == exporter.Ambiguous || k == exporter.Misconfigured
}

// VerdictWord is a verdict's word in metrics: none is local.
func VerdictWord(k exporter.Kind) string {
	if k == 0 {
		return "local"
	}
	return k.String()
}
