// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package failover

import (
	"fmt"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/breaker"
)

// RouteStatus is a route for showing (failover, section 15). What a Router knows of it is added elsewhere.
type RouteStatus struct {
	RouteID
	Active  int // -1 = held
	AllDown bool
	Levels  []LevelStatus
}

// LevelStatus is a level for showing.
type LevelStatus struct {
	State     LevelState
	Emergency bool
	Members   []MemberStatus
}

// MemberStatus is a member for showing, with what its state stands on and what has to come for it to change.
type MemberStatus struct {
	Exporter string
	Breaker  BreakerID
	breaker.Snapshot
	ReturnsWhen string // empty while it carries
}

// Status copies what is to be shown of every route, in the plan's order.
func (s *Switch) Status(now time.Time) []RouteStatus {
	if now.Before(s.now) {
		now = s.now
	}
	out := make([]RouteStatus, 0, len(s.routes))
	for _, r := range s.routes {
		st := RouteStatus{RouteID: r.set.RouteID, Active: -1, AllDown: r.allDown}
		if r.view != nil {
			st.Active = r.view.Active
		}
		for i, members := range r.members {
			l := LevelStatus{Emergency: r.set.Levels[i].Emergency}
			for _, c := range members {
				m := MemberStatus{Exporter: c.key.sibling.exporter, Breaker: c.id, Snapshot: c.b.Snapshot(now)}
				m.ReturnsWhen = c.returnsWhen(&m.Snapshot, r.set.Gap)
				if m.NextProbe >= 0 && m.State != breaker.Held && !c.exempt() {
					m.NextProbe = max(m.NextProbe, c.gapEnds().Sub(now))
				}
				l.State = max(l.State, LevelState(m.State))
				l.Members = append(l.Members, m)
			}
			st.Levels = append(st.Levels, l)
		}
		out = append(out, st)
	}
	return out
}

// returnsWhen says what has to come before a member carries again.
func (c *cell) returnsWhen(s *breaker.Snapshot, gap time.Duration) string {
	apart := ""
	if !c.exempt() {
		apart = fmt.Sprintf(" %s apart", gap)
	}
	left := max(s.Needed-s.Confirmed, 0)
	switch {
	case s.State.Carries():
		return ""
	case c.key.settings.Emergency:
		return "a good write"
	case s.State == breaker.Held:
		return "the hold is over or released, and what comes then"
	case s.AwaitsRelease:
		return "holdfast failover release, then a live batch"
	case s.CanaryTaken:
		return "the live batch on its way is delivered"
	case s.CanaryWanted || left == 0:
		return "a live batch"
	case s.Live:
		return fmt.Sprintf("%d live batches%s", left+1, apart)
	case left == 1:
		return "a good probe, then a live batch"
	}
	return fmt.Sprintf("%d good probes%s, then a live batch", left, apart)
}
