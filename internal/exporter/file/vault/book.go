// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"slices"
	"time"
)

// maxNamed is how many records of the queue are known to lie in the file.
const maxNamed = 65536

// book is what the receipts say, in memory: about 200 bytes for each that is kept.
type book struct {
	entries  []*entry // by N; those that are open, whose file is there, or that name records still known
	byN      map[uint64]*entry
	files    map[string]*paper
	accounts map[Owner]*account
	named    map[name]*entry
	names    int
	oldest   int // entries before it name nothing any more
	next     uint64
	damaged  uint64 // lines, and receipts whose data does not hold
}

// entry is one receipt and what became of it.
type entry struct {
	Receipt
	how      string // empty = open
	rejected uint32
	leased   bool
	refused  bool // every backend refused it: kept, and not offered again by this process
	bad      bool // the data does not hold
	offered  bool
	before   bool // there when the vault was opened
	rest     time.Time
}

// paper is what the receipts say of one file.
type paper struct {
	claimed int64 // bytes under receipts, settled ones too
	end     int64 // of the last receipt
	open    int
}

type name struct {
	Owner
	Record
}

// account is what one owner owes.
type account struct {
	Sums
	queue  []*entry // by N; settled ones at the front are taken off
	passed int      // leases since the list was tidied
}

// Sums are what an owner's receipts come to. Removed and Rejected are for ever, the rest is open now.
type Sums struct {
	Receipts, Items, Bytes int64
	Oldest                 time.Time // of the oldest open receipt; zero = none
	Removed, Rejected      uint64    // items
}

// Add adds what another owner's receipts come to.
func (s *Sums) Add(o Sums) {
	s.Receipts, s.Items, s.Bytes = s.Receipts+o.Receipts, s.Items+o.Items, s.Bytes+o.Bytes
	s.Removed, s.Rejected = s.Removed+o.Removed, s.Rejected+o.Rejected
	if s.Oldest.IsZero() || !o.Oldest.IsZero() && o.Oldest.Before(s.Oldest) {
		s.Oldest = o.Oldest
	}
}

func newBook() *book {
	return &book{
		byN: map[uint64]*entry{}, files: map[string]*paper{}, accounts: map[Owner]*account{}, named: map[name]*entry{},
		next: 1,
	}
}

func (b *book) account(o Owner) *account {
	a := b.accounts[o]
	if a == nil {
		a = &account{}
		b.accounts[o] = a
	}
	return a
}

func (b *book) paper(file string) *paper {
	p := b.files[file]
	if p == nil {
		p = &paper{}
		b.files[file] = p
	}
	return p
}

// add enters a receipt, which is open.
func (b *book) add(r Receipt) *entry {
	e := &entry{Receipt: r}
	b.entries = append(b.entries, e)
	b.byN[r.N] = e
	b.next = max(b.next, r.N+1)
	p := b.paper(r.File)
	p.claimed, p.end, p.open = p.claimed+r.Length, max(p.end, r.Offset+r.Length), p.open+1
	a := b.account(r.Owner)
	a.Receipts, a.Items, a.Bytes = a.Receipts+1, a.Items+int64(r.Items), a.Bytes+r.Length
	a.queue = append(a.queue, e)
	for _, rec := range r.Records {
		b.named[name{r.Owner, rec}] = e
	}
	b.names += len(r.Records)
	for b.names > maxNamed && b.oldest < len(b.entries)-1 {
		b.forget(b.entries[b.oldest])
		b.oldest++
	}
	return e
}

// forget ends that a receipt names records.
func (b *book) forget(e *entry) {
	for _, rec := range e.Records {
		if b.named[name{e.Owner, rec}] == e {
			delete(b.named, name{e.Owner, rec})
		}
	}
	b.names -= len(e.Records)
	e.Records = nil
}

// settle closes an open receipt; false if there is none of that number.
func (b *book) settle(n uint64, how string, rejected uint32) bool {
	e := b.byN[n]
	if e == nil || e.how != "" {
		return false
	}
	e.how, e.rejected = how, rejected
	b.paper(e.File).open--
	a := b.account(e.Owner)
	a.Receipts, a.Items, a.Bytes = a.Receipts-1, a.Items-int64(e.Items), a.Bytes-e.Length
	if how == Removed {
		a.Removed += uint64(e.Items)
		b.forget(e) // whoever has the record still had better send it
	} else {
		a.Rejected += uint64(rejected)
	}
	for len(a.queue) > 0 && a.queue[0].how != "" {
		a.queue = a.queue[1:]
	}
	return true
}

// rename gives every receipt of a file its new name.
func (b *book) rename(from, to string) {
	p := b.files[from]
	if p == nil {
		return
	}
	delete(b.files, from)
	b.files[to] = p
	for _, e := range slices.Backward(b.entries) {
		if e.File == from {
			e.File = to
		}
	}
}

// openIn lists the open receipts of a file.
func (b *book) openIn(file string) []*entry {
	var out []*entry
	for _, e := range b.entries {
		if e.File == file && e.how == "" {
			out = append(out, e)
		}
	}
	return out
}

// sums copies an account.
func (b *book) sums(o Owner) Sums {
	a := b.accounts[o]
	if a == nil {
		return Sums{}
	}
	s := a.Sums
	if len(a.queue) > 0 {
		s.Oldest = a.queue[0].Time
	}
	return s
}

// prune lets go of what needs no line any more: settled, of a file that is gone, and naming nothing. The last receipt
// stays, for its number.
func (b *book) prune(there func(file string) bool) (gone []totals) {
	kept := b.entries[:0]
	oldest := 0
	for i, e := range b.entries {
		if i < len(b.entries)-1 && e.how != "" && len(e.Records) == 0 && !there(e.File) {
			delete(b.byN, e.N)
			continue
		}
		if i < b.oldest {
			oldest++
		}
		kept = append(kept, e)
	}
	clear(b.entries[len(kept):])
	b.entries, b.oldest = kept, oldest
	for file, p := range b.files {
		if p.open == 0 && !there(file) {
			delete(b.files, file)
		}
	}
	for o, a := range b.accounts { // what the kept lines do not say is said as a total
		t := totals{Owner: o, Removed: a.Removed, Rejected: a.Rejected}
		for _, e := range b.entries {
			if e.Owner == o && e.how == Removed {
				t.Removed -= uint64(e.Items)
			} else if e.Owner == o {
				t.Rejected -= uint64(e.rejected)
			}
		}
		if t.Removed+t.Rejected > 0 {
			gone = append(gone, t)
		}
	}
	return gone
}
