// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package memory_test

import (
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/queue/memory"
	"github.com/holdfast-telemetry/holdfast/internal/queue/queuetest"
)

func TestQueueContract(t *testing.T) {
	open := func(*testing.T) queue.Queue { return memory.New(memory.Settings{}) }
	queuetest.Run(t, open, queuetest.Capabilities{DropsOverflow: true, ShutdownDrops: true, FreesAtOnce: true})
}
