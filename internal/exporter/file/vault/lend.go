// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"errors"
	"io/fs"
	"slices"
	"time"
)

const (
	// maxUnsaid is how many settlements may wait for the disk. At so many nothing is lent.
	maxUnsaid = 128
	// maxInDoubt bounds the debts that count as possible duplicates after a process did not end in order: what it had in
	// flight, and what it had no time to settle.
	maxInDoubt = 2 * maxUnsaid
)

// maxPassed is after how many leases settled debts in the middle of the list are taken off.
const maxPassed = 256

// Debt is data that is owed and lent to somebody who pays.
type Debt struct {
	Receipt
	Data []byte
	// Again: it may have been paid before, by a process that ended before it could say so.
	Again bool
}

// Lend leases the oldest debt of o that nobody has and that does not rest; false if there is none now. Its data holds,
// or it is passed by. Whoever has it calls Settle, Return or Refuse.
func (v *Vault) Lend(o Owner) (Debt, bool, error) {
	for {
		e := v.leaseNext(o)
		if e == nil {
			return Debt{}, false, nil
		}
		b, err := v.readOf(e)
		switch {
		case errors.Is(err, ErrDamaged):
			v.spoil(e, err)
		case err != nil:
			v.Return(e.N, lookEvery)
			return Debt{}, false, err
		default:
			v.mu.Lock()
			d := Debt{Receipt: e.Receipt, Data: b}
			if e.before && !e.offered && v.mu.doubt > 0 {
				d.Again = true
				v.mu.doubt--
			}
			e.offered = true
			v.mu.Unlock()
			return d, true, nil
		}
	}
}

// leaseNext finds a debt to lend. What is in nobody's way is few: leased, refused, damaged.
func (v *Vault) leaseNext(o Owner) *entry {
	now := time.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	a := v.mu.accounts[o]
	if a == nil || v.mu.unsaid >= maxUnsaid {
		return nil
	}
	if a.passed++; a.passed >= maxPassed { // one may stay at the front while those behind it are settled
		a.passed = 0
		a.queue = slices.DeleteFunc(a.queue, func(e *entry) bool { return e.how != "" })
	}
	for _, e := range a.queue {
		if e.how == "" && !e.leased && !e.refused && !e.bad && !e.rest.After(now) {
			e.leased = true
			return e
		}
	}
	return nil
}

// readOf reads a debt's data. Its file may get another name in between.
func (v *Vault) readOf(e *entry) ([]byte, error) {
	for try := 0; ; try++ {
		v.mu.Lock()
		r := e.Receipt
		v.mu.Unlock()
		b, err := v.read(&r)
		if try < 5 && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		return b, err
	}
}

// Return ends a lease: the debt is lent again after a rest.
func (v *Vault) Return(n uint64, rest time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if e := v.mu.byN[n]; e != nil {
		e.leased, e.rest = false, time.Now().Add(rest)
	}
}

// Refuse ends a lease: nobody takes the data. It stays where it is, owed, and is lent by the next process.
func (v *Vault) Refuse(n uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if e := v.mu.byN[n]; e != nil {
		e.leased, e.refused = false, true
	}
}

// Wake ends all rests.
func (v *Vault) Wake() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, a := range v.mu.accounts {
		for _, e := range a.queue {
			e.rest = time.Time{}
		}
	}
}

// Spoil says that the data of a lent debt, though whole, cannot be read.
func (v *Vault) Spoil(n uint64, cause error) {
	v.mu.Lock()
	e := v.mu.byN[n]
	if e != nil {
		e.leased = false
	}
	v.mu.Unlock()
	if e != nil {
		v.spoil(e, cause)
	}
}
