// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package sockets_test

import (
	"testing"

	"go.uber.org/goleak"
)

// Every goroutine has ended when its Close returned, or the run fails.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
