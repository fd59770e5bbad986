// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package components

import (
	"fmt"
	"slices"

	"github.com/holdfast-telemetry/holdfast/internal/compression"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

// heap lends what a decoder asks for from the heap: splitting a compressed request is rare.
type heap struct{}

func (heap) Lend(b []byte, n int) ([]byte, error) { return slices.Grow(b, max(n-len(b), 0)), nil }

// Decode returns the identity form of a stored body; size is what it was counted with when it came in.
func Decode(e otlp.Encoding, body []byte, size int) ([]byte, error) {
	codec, ok := compression.Parse(e.String())
	if !ok {
		return nil, fmt.Errorf("decode: no codec for %s", e)
	}
	return compression.Decode(codec, body, size, heap{})
}
