// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/app/emergency"
	"github.com/holdfast-telemetry/holdfast/internal/app/series"
	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/file"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/file/vault"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// openEmergencies opens the file of every emergency level before anything sends to it, and hands each to its exporters.
// Files belong to the application, not to an exporter or a generation, which gets those that are open already: a file has
// one writer.
func (g *generation) openEmergencies(disk vfs.FS) error {
	g.heirs = map[string][]vault.Owner{}
	if g.app.debts == nil {
		g.app.debts = g.app.owedOn
	}
	for i := range g.plan.Pipelines {
		p := &g.plan.Pipelines[i]
		for k := range p.Destinations {
			d := &p.Destinations[k]
			for _, l := range d.Levels {
				if !l.Emergency || d.Route == nil {
					continue
				}
				for m, id := range l.Exporters {
					path, err := g.openEmergency(disk, id, d.Route.Config.Emergency.MaxBytes)
					if err != nil {
						return g.blame(config.Exporters, id, err)
					}
					if path != "" && m == 0 { // the first file of a level is the one that is owed
						g.heirs[path] = append(g.heirs[path], ownerOf(p, d))
					}
				}
			}
		}
	}
	return nil
}

func ownerOf(p *plan.Pipeline, d *plan.Destination) vault.Owner {
	return vault.Owner{Pipeline: p.ID, Connector: d.Label, Signal: p.Signal.String()}
}

// openEmergency opens the file of one exporter, once; empty if it is none that receipts can be kept of.
func (g *generation) openEmergency(disk vfs.FS, id string, most int64) (string, error) {
	c, err := g.component(config.Exporters, id)
	if err != nil {
		return "", err
	}
	cfg, ok := c.Config.(*file.Config)
	if !ok {
		return "", nil
	}
	e, ok := g.instances[id].(*file.Exporter)
	if !ok {
		return "", fmt.Errorf("is a %T", g.instances[id])
	}
	set, ok := cfg.Emergency(most, g.app.log)
	if !ok {
		g.app.log.Warn("Emergency file: of a device no receipts are kept, what it took counts as delivered",
			zap.String("path", cfg.Path))
		return "", nil
	}
	path := filepath.Clean(cfg.Path)
	v := g.app.vault(path)
	if v == nil {
		if v, err = vault.Open(disk, set); err != nil {
			return "", err
		}
		g.app.disks.Lock()
		g.app.disks.vaults[path] = v
		g.app.disks.Unlock()
		g.app.began("store emergency "+path, v.Close)
		var items, bytes int64
		for _, o := range v.Owners() {
			s := v.Sums(o)
			items, bytes = items+s.Items, bytes+s.Bytes
		}
		g.app.log.Info("Emergency file: opened", zap.String("path", path), zap.Int64("items", items), zap.Int64("bytes", bytes),
			zap.Uint64("damaged", v.Damaged()))
	}
	return path, e.UseVault(v, set.Framed)
}

// vault is the emergency file at a path, nil if it is not open.
func (a *App) vault(path string) *vault.Vault {
	a.disks.RLock()
	defer a.disks.RUnlock()
	return a.disks.vaults[path]
}

// debtsOf is what a destination's emergency level owes; nil if it has none.
func (g *generation) debtsOf(p *plan.Pipeline, d *plan.Destination) pipeline.Debts {
	if x := g.debtBooks(p, d); x != nil {
		return x
	}
	return nil
}

func (g *generation) debtBooks(p *plan.Pipeline, d *plan.Destination) *emergency.Debts {
	us := ownerOf(p, d)
	for path, heirs := range g.heirs {
		if x := emergency.Of(g.app.vault(path), us, p.Signal, heirs); x != nil {
			return x
		}
	}
	return nil
}

// withParked makes a destination's books those of its queue and of its emergency file.
func (g *generation) withParked(p *plan.Pipeline, b pipeline.Books, reasons []string) (func() queue.Counts, []string) {
	for i := range p.Destinations {
		d := &p.Destinations[i]
		if d.Label != b.Label || d.Wait {
			continue
		}
		if x := g.debtBooks(p, d); x != nil {
			return emergency.NewBooks(b.Read, x).Counts, append(reasons[:len(reasons):len(reasons)], emergency.ReasonRemoved)
		}
	}
	return b.Read, reasons
}

// owes is what the emergency file owes a route; without receipts, nothing.
func (a *App) owes(id failover.RouteID) series.Debt {
	if a.debts == nil {
		return series.Debt{}
	}
	return a.debts(id)
}

// owedOn sums up what the emergency level of a route owes, in all pipelines that share it.
func (a *App) owedOn(id failover.RouteID) series.Debt {
	var sum vault.Sums
	g := a.now()
	for i := range g.plan.Pipelines {
		p := &g.plan.Pipelines[i]
		for k := range p.Destinations {
			d := &p.Destinations[k]
			if d.Route == nil || pipeline.RouteID(p.Signal, d) != id {
				continue
			}
			if x := g.debtBooks(p, d); x != nil {
				sum.Add(x.Sums())
			}
		}
	}
	out := series.Debt{Items: sum.Items, Bytes: sum.Bytes}
	if !sum.Oldest.IsZero() {
		out.Oldest = max(time.Since(sum.Oldest), 0)
	}
	return out
}
