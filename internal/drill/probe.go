// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package drill

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/holdfast-telemetry/holdfast/internal/app"
	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/drill/stage"
	"github.com/holdfast-telemetry/holdfast/internal/drill/topology"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
)

// probe loads the redirected configuration as the child will: what is wrong with it is found before anything starts.
func (r *Rehearsal) probe(ctx context.Context, dir string) error {
	place := topology.Place{Host: "127.0.0.2", Dir: dir, Backends: map[string]string{}, Hurry: r.o.Hurry,
		CA: filepath.Join(dir, "ca.pem"), DoorCert: filepath.Join(dir, "door.pem"), DoorKey: filepath.Join(dir, "door.key"),
		DoorCA: filepath.Join(dir, "ca.pem"), Cert: func(string) (string, string) { return "", "" }}
	for i, b := range r.topology.Backends {
		place.Backends[b.ID] = fmt.Sprintf("127.0.0.2:%d", stage.FirstBackend+i)
	}
	o := r.o.Config
	o.Texts = nil
	for i, t := range r.texts {
		o.Texts = append(o.Texts, config.Text{URI: o.URIs[i], Text: t})
	}
	o.Sets = append(slices.Clone(o.Sets), r.topology.Redirect(place).Sets...)
	o.Here = false
	cfg, err := config.Load(ctx, o)
	if err != nil {
		return fmt.Errorf("the redirected configuration is not valid: %w", err)
	}
	p, _ := plan.Build(cfg, app.ExporterQueue)
	for i := range p.Listeners {
		if l := &p.Listeners[i]; l.Network != "unix" && !strings.HasPrefix(l.Address, "127.0.0.2:") {
			return fmt.Errorf("%s still listens on %s: it cannot be led away (%s)", l.Component, l.Address, l.Key)
		}
	}
	for _, s := range p.Storages {
		if !strings.HasPrefix(s.Directory, dir) {
			return fmt.Errorf("the storage %s still writes to %s: it cannot be led away", strings.Join(s.IDs, ", "), s.Directory)
		}
	}
	return nil
}
