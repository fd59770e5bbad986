// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

// health sums up a destination's senders: a connector fares as its levels do together.
func (d *delivery) health() Health {
	h := d.sender.health()
	if d.levels == nil {
		return h
	}
	for _, level := range d.levels.senders {
		for _, s := range level {
			one := s.health()
			h.Delivered += one.Delivered
			h.Failed += one.Failed
			if one.LastFailure.After(h.LastFailure) {
				h.LastFailure, h.LastError = one.LastFailure, one.LastError
			}
			if one.LastDelivery.After(h.LastDelivery) {
				h.LastDelivery = one.LastDelivery
			}
		}
	}
	if h.LastDelivery.After(h.LastFailure) {
		h.Failed = 0
	}
	return h
}
