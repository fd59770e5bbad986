// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package breaker

import "time"

// holdDown bounds how often a breaker may come and go. After a trip it stays down for
//
//	H(m) = min(hold_down × 2^m, hold_down_max)
//
// where m rises by one with each trip less than flap_window after the last return, and falls by one for each full
// flap_window between a return and a trip. m stays at or below M = ceil(log2(hold_down_max ÷ hold_down)), so that
//
//	trips in any W ≤ 1 + M + W ÷ hold_down_max + 2·W ÷ flap_window
//
// Each trip but the first either comes a flap_window after a return, at most W ÷ flap_window times; or raises m, at
// most M times and once more for each time that it fell, which took a flap_window too; or finds m at M, and is
// followed by hold_down_max. Trips that an all-down ended early are not bounded: then every return is welcome.
type holdDown struct {
	flaps    int       // m
	returned time.Time // last return, moved on for each flap_window that was counted; zero = none yet
	end      time.Time // of the last hold-down
}

// trip begins the hold-down of a trip.
func (h *holdDown) trip(now time.Time, set *Settings) {
	if !h.returned.IsZero() && now.Sub(h.returned) < set.FlapWindow {
		h.flaps++
	} else {
		h.decay(now, set)
	}
	h.flaps = min(h.flaps, set.maxFlaps())
	h.end = now.Add(set.holdDown(h.flaps))
}

// decay lets flaps fall for the time since the return.
func (h *holdDown) decay(now time.Time, set *Settings) {
	if h.returned.IsZero() || set.FlapWindow <= 0 {
		return
	}
	if n := int64(now.Sub(h.returned) / set.FlapWindow); n > 0 {
		h.flaps = int(max(int64(h.flaps)-n, 0))
		h.returned = h.returned.Add(time.Duration(n) * set.FlapWindow)
	}
}

func (h *holdDown) comeBack(now time.Time) { h.returned = now }

// holdDown is H(m).
func (s *Settings) holdDown(m int) time.Duration {
	h := s.HoldDown
	for ; m > 0 && h < s.HoldDownMax; m-- {
		h *= 2
	}
	return min(h, s.HoldDownMax)
}

// maxFlaps is M.
func (s *Settings) maxFlaps() int {
	m := 0
	for h := s.HoldDown; h > 0 && h < s.HoldDownMax; m++ {
		h *= 2
	}
	return m
}
