// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package drill

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/holdfast-telemetry/holdfast/internal/app/components"
	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/drill/stage"
	"github.com/holdfast-telemetry/holdfast/internal/drill/topology"
	"github.com/holdfast-telemetry/holdfast/internal/mockbackend"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
)

// probe loads the redirected configuration as the child will: what is wrong with it is found before anything starts.
func (r *Rehearsal) probe(ctx context.Context, dir string) error {
	certs, err := mockbackend.NewCertificates("localhost")
	if err != nil {
		return err
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	for name, text := range map[string][]byte{"ca.pem": certs.CA, "door.pem": certs.Cert, "door.key": certs.Key, "client.pem": certs.ClientCert,
		"client.key": certs.ClientKey} {
		if err := os.WriteFile(file(name), text, 0o600); err != nil {
			return err
		}
	}
	place := topology.Place{Host: "127.0.0.2", Dir: dir, Backends: map[string]string{}, Hurry: r.o.Hurry, CA: file("ca.pem"),
		DoorCert: file("door.pem"), DoorKey: file("door.key"), DoorCA: file("ca.pem"),
		Cert: func(string) (string, string) { return file("client.pem"), file("client.key") }}
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
	p, _ := plan.Build(cfg, components.ExporterQueue)
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
