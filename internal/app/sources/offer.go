// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package sources

import (
	"encoding/json"
	"fmt"

	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/reload"
)

// Offer is a configuration that was loaded: what it says, and what it will do.
type Offer struct {
	Config *config.Config
	Plan   *plan.Plan
}

// Expanded implements reload.Candidate.
func (o *Offer) Expanded() []byte {
	text, err := json.Marshal(o.Config.Effective) // keys are sorted
	if err != nil {
		return []byte(fmt.Sprintf("%#v", o.Config.Effective))
	}
	return text
}

// Settings implements reload.Candidate.
func (o *Offer) Settings() reload.Settings {
	r := &o.Config.Service.Reload
	return reload.Settings{Trial: r.Trial, Preflight: r.Preflight != "off", BadBootFails: r.OnBadBoot == "fail", Watch: r.Watch}
}

// Storages implements reload.Candidate.
func (o *Offer) Storages() []string { return StorageDirs(o.Config) }

// StorageDirs are the directories of the storages in use, in the service's order.
func StorageDirs(cfg *config.Config) []string {
	out := []string{}
	for _, id := range cfg.Service.Extensions {
		if c := cfg.Components[config.Extensions][id]; c != nil {
			if set, ok := c.Config.(*journal.Config); ok {
				out = append(out, set.Directory)
			}
		}
	}
	return out
}

var _ reload.Candidate = (*Offer)(nil)
