// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

// health is how a destination fares: a connector as its levels do together.
func (x *dispatch) health() Health { return x.fortune.health(x.dest.Label) }
