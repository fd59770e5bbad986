// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package failover

import (
	"slices"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/breaker"
)

// Remembered is a breaker that was down, for a process that starts: as JSON it may be kept in a file. It is believed if
// it is younger than 2 × retry_interval, and means no more than that the first thing sent there is a probe.
type Remembered struct {
	Connector string    `json:"connector"`
	Signal    string    `json:"signal"`
	Exporter  string    `json:"exporter"`
	Config    string    `json:"config"` // hash: of another configuration nothing is known
	At        time.Time `json:"at"`
	Since     time.Time `json:"since,omitzero"`
	Reason    string    `json:"reason"`
	Error     string    `json:"error,omitempty"`
	Flaps     int       `json:"flaps,omitempty"`
	Throttled time.Time `json:"throttled_until,omitzero"`
}

// memory is when what is down has to be told.
type memory struct {
	told  int       // how many were told last
	stale bool      // something went down or came back since
	next  time.Time // to tell again, before it grows old; zero = nothing is down
}

// Remember lists what a restart should know, as EffectRemember last told it or as it is by now: for the end of the
// process.
func (s *Switch) Remember(now time.Time) []Remembered {
	var list []Remembered
	for _, c := range s.order {
		m, down := c.b.Memory()
		if !down {
			continue
		}
		list = append(list, Remembered{
			Connector: c.seats[0].route.set.Connector, Signal: c.key.signal.String(), Exporter: c.key.sibling.exporter,
			Config: c.key.sibling.config, At: now.Round(0), Since: m.Since.Round(0), Reason: m.Reason.String(), Error: m.Error,
			Flaps: m.Flaps, Throttled: m.ThrottledUntil.Round(0),
		})
	}
	return list
}

// remember tells what is down when that has changed, and again every retry_interval.
func (s *Switch) remember(now time.Time, out []Effect) []Effect {
	m := &s.memory
	if !m.stale && (m.next.IsZero() || now.Before(m.next)) {
		return out
	}
	list := s.Remember(now)
	m.stale, m.next = false, time.Time{}
	for _, c := range s.order {
		if _, down := c.b.Memory(); down {
			m.next = sooner(m.next, now.Add(c.key.settings.RetryInterval))
		}
	}
	if len(list) == 0 && m.told == 0 {
		return out
	}
	m.told = len(list)
	return append(out, Effect{Kind: EffectRemember, Remembered: list})
}

// recall takes down what was down a moment before the process started.
func (s *Switch) recall(now time.Time, remembered []Remembered) {
	for i := range remembered {
		m := &remembered[i]
		for _, c := range s.order {
			age := now.Sub(m.At)
			if m.Exporter != c.key.sibling.exporter || m.Config != c.key.sibling.config ||
				m.Signal != c.key.signal.String() || age < -c.key.settings.RetryInterval ||
				age >= 2*c.key.settings.RetryInterval ||
				!slices.ContainsFunc(c.seats, func(at seat) bool { return at.route.set.Connector == m.Connector }) {
				continue
			}
			s.note(now, c, c.b.Recall(now, breaker.Memory{
				Since: m.Since, Reason: breaker.ReasonOf(m.Reason), Error: m.Error, Flaps: m.Flaps, ThrottledUntil: m.Throttled,
			}, s.scratch[:0]))
		}
	}
}
