// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package failover

import (
	"sync/atomic"
	"time"
)

// View is what the Router of one route sees of the Switch. It is published by atomic pointer and never changed after
// that, but for the tokens, which are claimed in place.
type View struct {
	Number    uint64    // rises with each view of this route, from 1
	Active    int       // level a fresh batch would go to; -1 = held
	AllDown   bool      // every ordinary level is down, probing or held, and none only throttled
	NextProbe time.Time // earliest recovery probe of an ordinary level; zero = none is due
	Levels    []LevelView
}

// LevelView is one level. What is said of it is the worst said of any member.
type LevelView struct {
	State          LevelState
	Eligible       bool      // all members healthy, suspect or ramping
	Silent         bool      // a strike came, and no sign of life since; see package breaker
	Emergency      bool      // takes what no ordinary level takes
	ThrottledUntil time.Time // nobody sends before; zero or past = not throttled
	Share          float64   // of fresh batches, while Ramping; 1 otherwise
	Members        []MemberView
}

// MemberView is one exporter of a level.
type MemberView struct {
	Exporter   string
	Breaker    BreakerID // goes back with the outcome
	Generation uint64    // goes back with the outcome; those of an older generation are counted and else ignored
	// Token is nil unless a live batch is wanted as a proof. It is shown only where all members of the level are
	// eligible or have one, so that a level with a token can be sent to.
	Token  *Token
	Canary bool // what the token is for: the proof before a return, else evidence of a suspect
}

// BreakerID names a breaker within its Switch. It is never used again for another one.
type BreakerID uint32

// LevelState is where a level or one of its members stands; of two, the greater is the worse.
type LevelState uint8

// The states (failover, section 5.3).
const (
	Healthy   LevelState = iota
	Suspect              // failed lately; takes batches and is looked at
	Ramping              // is back, takes a growing share of fresh batches
	Probing              // proves that it is back; takes a canary
	Down                 // takes nothing
	HeldLevel            // taken out by an operator
)

var levelWords = [...]string{"healthy", "suspect", "ramping", "probing", "down", "held"}

// String is the state's word in metrics, logs and the status.
func (s LevelState) String() string {
	if int(s) < len(levelWords) {
		return levelWords[s]
	}
	return "none"
}

// Claim takes every token of the level for one batch, all or none, and reports whether the batch may go. A level
// without tokens grants it. Any number of goroutines may call it at once, on any view. Whoever claimed a canary and
// does not send tells the Switch CanaryLost.
func (l *LevelView) Claim() bool {
	for i := range l.Members {
		if t := l.Members[i].Token; t != nil && !t.state.CompareAndSwap(tokenFree, tokenReserved) {
			for j := range i {
				if t := l.Members[j].Token; t != nil {
					t.state.CompareAndSwap(tokenReserved, tokenFree)
				}
			}
			return false
		}
	}
	for i := range l.Members {
		if t := l.Members[i].Token; t != nil { // one withdrawn since was claimed a moment before
			t.state.CompareAndSwap(tokenReserved, tokenClaimed)
		}
	}
	return true
}

// Wanted reports whether the level has tokens, and whether one of them wants a canary.
func (l *LevelView) Wanted() (proof, canary bool) {
	for i := range l.Members {
		if l.Members[i].Token != nil {
			proof, canary = true, canary || l.Members[i].Canary
		}
	}
	return proof, canary
}

// Token lets one batch, of whatever route, be the proof that a breaker waits for.
//
//	free ──► reserved ──► claimed        reserved: a batch has some of a level's tokens, and not yet all
//	  ◄──────────┘           │           claimed: the Switch takes note of it, and waits for the outcome
//	  ◄────────Lost──────────┘           withdrawn, from free or reserved: the Switch wants this one no more
type Token struct{ state atomic.Uint32 }

const (
	tokenFree uint32 = iota
	tokenReserved
	tokenClaimed
	tokenWithdrawn
)

// Claim takes the token; one caller gets it, once. Whoever has it sends, and tells the Switch the outcome or the loss.
func (t *Token) Claim() bool { return t.state.CompareAndSwap(tokenFree, tokenClaimed) }

// Lost gives back a claim of which no use was made. It does not spare telling the Switch CanaryLost, which may have
// seen the claim, and publishes a new view for those that wait.
func (t *Token) Lost() { t.state.CompareAndSwap(tokenClaimed, tokenFree) }

// claimed reports whether a batch has it.
func (t *Token) claimed() bool { return t.state.Load() == tokenClaimed }

// withdraw ends the token, unless a batch has it: views that still show it cannot be claimed from.
func (t *Token) withdraw() bool {
	return t.state.CompareAndSwap(tokenFree, tokenWithdrawn) || t.state.CompareAndSwap(tokenReserved, tokenWithdrawn)
}
