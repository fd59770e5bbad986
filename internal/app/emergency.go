// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/app/series"
	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/file"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/file/vault"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// reasonRemoved is why items are dropped whose emergency file somebody removed.
const reasonRemoved = "emergency_file_removed"

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

func (g *generation) debtBooks(p *plan.Pipeline, d *plan.Destination) *debts {
	us := ownerOf(p, d)
	for path, heirs := range g.heirs {
		i := slices.Index(heirs, us)
		if i < 0 {
			continue
		}
		// What nobody owes any more, because its connector or pipeline has another name now, is the first heir's of the
		// signal.
		first := slices.IndexFunc(heirs, func(o vault.Owner) bool { return o.Signal == us.Signal }) == i
		return &debts{vault: g.app.vault(path), us: us, signal: p.Signal, first: first, heirs: heirs}
	}
	return nil
}

// debts shows a destination its part of a vault.
type debts struct {
	vault  *vault.Vault
	us     vault.Owner
	signal otlp.Signal
	first  bool
	heirs  []vault.Owner
}

var _ pipeline.Debts = (*debts)(nil)

// owners are those whose receipts are the destination's to repay.
func (d *debts) owners() []vault.Owner {
	out := []vault.Owner{d.us}
	if d.first {
		for _, o := range d.vault.Owners() {
			if o.Signal == d.us.Signal && !slices.Contains(d.heirs, o) {
				out = append(out, o)
			}
		}
	}
	return out
}

// Kept implements pipeline.Debts.
func (d *debts) Kept(seq queue.Seq, accepted time.Time) bool {
	return d.vault.Named(d.us, vault.Record{Seq: uint64(seq), Accepted: accepted.UnixNano()})
}

// Lend implements pipeline.Debts.
func (d *debts) Lend() (pipeline.Debt, bool, error) {
	for _, o := range d.owners() {
		for {
			b, ok, err := d.vault.Lend(o)
			if err != nil {
				return pipeline.Debt{}, false, err
			}
			if !ok {
				break
			}
			body, err := d.body(&b)
			if err != nil {
				d.vault.Spoil(b.N, err)
				continue
			}
			return pipeline.Debt{N: b.N, Items: b.Items, Body: body, Since: b.Time, Again: b.Again}, true, nil
		}
	}
	return pipeline.Debt{}, false, nil
}

// body turns what lies in the file back into a request, and checks that it is the one that was put there.
func (d *debts) body(b *vault.Debt) ([]byte, error) {
	body, err := file.Requests(d.signal, b.Data)
	if err != nil {
		return nil, err
	}
	items, err := otlp.Scan(d.signal, body)
	if err == nil && items != b.Items {
		err = fmt.Errorf("%d items where the receipt says %d", items, b.Items)
	}
	return body, err
}

// Settle implements pipeline.Debts.
func (d *debts) Settle(n uint64, rejected uint32) { d.vault.Settle(n, rejected) }

// Return implements pipeline.Debts.
func (d *debts) Return(n uint64, rest time.Duration) { d.vault.Return(n, rest) }

// Refuse implements pipeline.Debts.
func (d *debts) Refuse(n uint64) { d.vault.Refuse(n) }

// Wake implements pipeline.Debts.
func (d *debts) Wake() { d.vault.Wake() }

// Owed implements pipeline.Debts.
func (d *debts) Owed() (receipts, items int64) {
	s := d.sums()
	return s.Receipts, s.Items
}

func (d *debts) sums() vault.Sums {
	var sum vault.Sums
	for _, o := range d.owners() {
		sum.Add(d.vault.Sums(o))
	}
	return sum
}

// parkedBooks are a destination's books with what lies in the emergency file: the queue let go of it as of what was
// delivered, but it is owed (failover, section 12).
type parkedBooks struct {
	read  func() queue.Counts
	debts *debts
	// base is what lies there from before the queue's books begin: a queue in memory begins with the process.
	base uint64
	mu   struct {
		sync.Mutex
		most uint64 // delivered, at most so far
	}
}

func newParkedBooks(read func() queue.Counts, d *debts) *parkedBooks {
	b := &parkedBooks{read: read, debts: d}
	if gone, counts := b.gone(d.sums()), read(); gone > counts.Delivered {
		b.base = gone - counts.Delivered
	}
	return b
}

// gone is what the queue calls delivered and is not.
func (b *parkedBooks) gone(s vault.Sums) uint64 { return uint64(s.Items) + s.Removed + s.Rejected }

// Counts reads the books. What was put into the file a moment ago and is not resolved yet is queued, and not parked
// before it is; delivered is shown as it was until then, so that no counter goes back.
func (b *parkedBooks) Counts() queue.Counts {
	sums := b.debts.sums()
	c := b.read()
	c.Accepted += b.base
	c.Parked += uint64(sums.Items)
	c.Rejected += sums.Rejected
	dropped := map[string]uint64{reasonRemoved: sums.Removed}
	for reason, n := range c.Dropped {
		dropped[reason] += n
	}
	c.Dropped = dropped
	delivered := c.Delivered + b.base
	delivered -= min(b.gone(sums), delivered)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.most = max(b.mu.most, delivered)
	unresolved := b.mu.most + b.gone(sums) - min(c.Delivered+b.base, b.mu.most+b.gone(sums))
	c.Parked -= min(unresolved, uint64(sums.Items))
	c.Delivered = b.mu.most
	return c
}

// withParked makes a destination's books those of its queue and of its emergency file.
func (g *generation) withParked(p *plan.Pipeline, b pipeline.Books, reasons []string) (func() queue.Counts, []string) {
	for i := range p.Destinations {
		d := &p.Destinations[i]
		if d.Label != b.Label || d.Wait {
			continue
		}
		if x := g.debtBooks(p, d); x != nil {
			return newParkedBooks(b.Read, x).Counts, append(reasons[:len(reasons):len(reasons)], reasonRemoved)
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
				sum.Add(x.sums())
			}
		}
	}
	out := series.Debt{Items: sum.Items, Bytes: sum.Bytes}
	if !sum.Oldest.IsZero() {
		out.Oldest = max(time.Since(sum.Oldest), 0)
	}
	return out
}
