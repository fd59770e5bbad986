// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

// health sums up a destination's senders: a connector fares as its levels do together.
func (d *delivery) health() Health {
	if d.levels != nil {
		return d.levels.fortune.health(d.dest.Label)
	}
	return d.sender.health()
}
