// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc_test

import (
	"testing"

	"go.uber.org/goleak"
)

// Every goroutine that a Start began has ended when its Stop returned, or the run fails.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
