// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/exporter/file"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
)

// A record that a journal resolves is gone from it, so a file must have it for good before it says so. Without a storage
// an answer after the write is all that a queue in memory asks for.
func TestAFileAnswersAfterItsSyncOnceThereIsAStorage(t *testing.T) {
	written := file.Default()
	g := &generation{plan: &plan.Plan{Storages: []plan.Storage{{Directory: "q"}}}}
	if got := g.synced("file", written).(*file.Config); !got.Synced || written.Synced {
		t.Errorf("synced %v; the configuration itself was changed: %v", got.Synced, written.Synced)
	}
	g.plan = &plan.Plan{}
	if got := g.synced("file", written).(*file.Config); got.Synced {
		t.Error("synced without a storage")
	}
	if other := new(int); g.synced("other", other) != any(other) {
		t.Error("another exporter's configuration was changed")
	}
}
