// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package emergency is what becomes of data in the file of an emergency level: owed, repaid, and counted as parked until
// then.
//
// It stands between a destination's delivery, which repays, and the vault, which keeps the receipts (failover, section 12).
// It promises that what lies in the file is in the books of exactly one destination, and that no counter goes back. It opens
// no file, sends nothing, and does not know when a level is up.
package emergency

import (
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/exporter/file"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/file/vault"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// Debts shows a destination its part of a vault. It may be used from any goroutine.
type Debts struct {
	vault  *vault.Vault
	us     vault.Owner
	signal otlp.Signal
	first  bool
	heirs  []vault.Owner
}

// Of is what one of the heirs of an emergency file owes; nil if us is none of them. What nobody owes any more, because its
// connector or pipeline has another name now, is the first heir's of the signal.
func Of(v *vault.Vault, us vault.Owner, signal otlp.Signal, heirs []vault.Owner) *Debts {
	i := slices.Index(heirs, us)
	if i < 0 {
		return nil
	}
	first := slices.IndexFunc(heirs, func(o vault.Owner) bool { return o.Signal == us.Signal }) == i
	return &Debts{vault: v, us: us, signal: signal, first: first, heirs: heirs}
}

// owners are those whose receipts are the destination's to repay.
func (d *Debts) owners() []vault.Owner {
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
func (d *Debts) Kept(seq queue.Seq, accepted time.Time) bool {
	return d.vault.Named(d.us, vault.Record{Seq: uint64(seq), Accepted: accepted.UnixNano()})
}

// Lend implements pipeline.Debts.
func (d *Debts) Lend() (pipeline.Debt, bool, error) {
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
func (d *Debts) body(b *vault.Debt) ([]byte, error) {
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
func (d *Debts) Settle(n uint64, rejected uint32) { d.vault.Settle(n, rejected) }

// Return implements pipeline.Debts.
func (d *Debts) Return(n uint64, rest time.Duration) { d.vault.Return(n, rest) }

// Refuse implements pipeline.Debts.
func (d *Debts) Refuse(n uint64) { d.vault.Refuse(n) }

// Wake implements pipeline.Debts.
func (d *Debts) Wake() { d.vault.Wake() }

// Owed implements pipeline.Debts.
func (d *Debts) Owed() (receipts, items int64) {
	s := d.Sums()
	return s.Receipts, s.Items
}

// Sums are its open receipts, and what became of those that were closed.
func (d *Debts) Sums() vault.Sums {
	var sum vault.Sums
	for _, o := range d.owners() {
		sum.Add(d.vault.Sums(o))
	}
	return sum
}

var _ pipeline.Debts = (*Debts)(nil)
