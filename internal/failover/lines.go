// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package failover

import "github.com/holdfast-telemetry/holdfast/internal/breaker"

// Severity is how much a line in the log matters.
type Severity uint8

// The severities.
const (
	Debug Severity = iota
	Info
	Warn
	Error
)

// probeLines is how often a failing recovery is worth a line: the first failure, and then one of so many.
const probeLines = 10

// Lines appends what an effect says in the log. The words are fixed: people and their alerts look for them.
func (e *Effect) Lines(out []Line) []Line {
	switch e.Kind {
	case EffectChanged:
		return append(out, e.changeLine())
	case EffectPublish:
		if e.Before == nil || len(e.View.Levels) == 1 { // the only level's own lines say all there is to say
			return out
		}
		if e.View.Active != e.Before.Active {
			out = append(out, Line{Info, "Failover: active level changed"})
		}
		if e.Before.AllDown && !e.View.AllDown {
			out = append(out, Line{Info, "Failover: all levels down ended"})
		}
		if !e.Before.AllDown && e.View.AllDown && e.View.Active < 0 {
			out = append(out, Line{Warn, LineAllDown})
		}
	}
	return out
}

// LineAllDown is said when all levels are down and no file takes the data, and again every minute while that is so.
const LineAllDown = "Failover: all levels down, data is held"

// Line is one line in the log, without its fields.
type Line struct {
	Severity Severity
	Text     string
}

func (e *Effect) changeLine() Line {
	c := &e.Change
	switch c.Kind {
	case breaker.Struck:
		return Line{Debug, "Failover: level failed again"}
	case breaker.Confirmed:
		if c.Reason == breaker.StillGood {
			return Line{Debug, "Failover: retry probe succeeded, a batch is waited for"}
		}
		return Line{Info, "Failover: retry probe succeeded"}
	case breaker.Refuted:
		return probeFailed(c.Failed)
	case breaker.PutOff:
		return Line{Warn, "Failover: level asks for retry later"}
	case breaker.Warned:
		return Line{Warn, "Failover: health probe was never good, it is not heeded"}
	}
	switch {
	case c.To == breaker.Down && c.From == breaker.Probing:
		return probeFailed(c.Failed)
	case c.To == breaker.Down:
		return e.downLine()
	case c.To == breaker.Healthy && c.From == breaker.Suspect:
		return Line{Debug, "Failover: level is well again"}
	case c.To == breaker.Healthy && c.From == breaker.Ramping:
		return Line{Info, "Failover: level has its whole share again"}
	case c.To == breaker.Healthy, c.To == breaker.Ramping:
		return Line{Info, "Failover: level is back"}
	case c.To == breaker.Held:
		return Line{Info, "Failover: hold"}
	case c.From == breaker.Held:
		return Line{Info, "Failover: release"}
	case c.To == breaker.Probing:
		return Line{Debug, "Failover: level is probed"}
	}
	return Line{Debug, "Failover: level is suspected"}
}

func probeFailed(n int) Line {
	if n == 1 || n%probeLines == 0 {
		return Line{Warn, "Failover: retry probe failed"}
	}
	return Line{Debug, "Failover: retry probe failed"}
}

func (e *Effect) downLine() Line {
	l := Line{Severity: Warn}
	if e.Change.Reason == breaker.Standing { // nobody but a person can end that
		l.Severity = Error
	}
	switch e.Goes {
	case GoesNext:
		l.Text = "Failover: level is down, data goes to the next level"
	case GoesEmergency:
		l.Text = "Failover: level is down, data goes to the emergency file"
	case GoesNowhere:
		l.Text = "Failover: level is down, data is held"
	default:
		l.Text = "Failover: level is down, data goes elsewhere already"
	}
	return l
}
