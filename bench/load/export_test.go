// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package load

// NewBroken sends requests that are cut short.
func NewBroken(target string) (*Loader, error) {
	l, err := New(target, Options{Spans: 1, InFlight: 1})
	if err == nil {
		for i, r := range l.requests {
			l.requests[i] = r[:len(r)-1]
		}
	}
	return l, err
}
