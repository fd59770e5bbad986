// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"time"

	"github.com/holdfast-telemetry/holdfast/test/seedbed"
)

// kind says how a fault shows itself to who sends.
type kind uint8

const (
	said       kind = iota // an answer, or an error, at once
	silent                 // nothing, until the timeout
	throttling             // a wish to be left alone for longer than the connector waits
	patient                // a wish to be left alone for less
)

// fault is what a backend does wrong.
type fault struct {
	name  string
	texts map[seedbed.Seed][]string // for the backend (faults, section 8)
	kind  kind
	// seen says that the backend notes which items it failed: then the time to the next level is known item by item.
	seen bool
	// after is how long the backend asks to be left alone.
	after time.Duration
	note  string
}

func both(texts ...string) map[seedbed.Seed][]string {
	return map[seedbed.Seed][]string{seedbed.A: texts, seedbed.B: texts}
}

const (
	longWish  = 45 * time.Second // above throttle.failover_after (30 s)
	shortWish = 10 * time.Second
	// cut ends the connections that are there, for faults that new ones meet.
	cut = "refuse,for=100ms"
)

var faults = []fault{
	{name: "blackholed", texts: both("blackhole"), kind: silent,
		note: "connections are taken by the kernel, nothing is ever read; live ones go silent"},
	{name: "packets dropped", texts: both("drop"), kind: silent,
		note: "no handshake is answered, as behind `iptables … -j DROP`; live connections go silent"},
	{name: "hanging", texts: both("hang"), kind: silent, seen: true, note: "requests are read, and never answered"},
	{name: "slow", texts: map[seedbed.Seed][]string{seedbed.A: {"slow:40s"}, seedbed.B: {"slow:8s"}}, kind: silent, seen: true,
		note: "the answer is OK, but comes after the timeout (A: 40 s, B: 8 s); what is answered is stored, so duplicates are real"},
	{name: "429, 45 s", texts: both("status:RESOURCE_EXHAUSTED,retry_after=45s"), kind: throttling, seen: true, after: longWish,
		note: "ResourceExhausted with RetryInfo 45 s, more than `throttle.failover_after`; with both levels asking so, data is held"},
	{name: "429, 10 s", texts: both("status:RESOURCE_EXHAUSTED,retry_after=10s"), kind: patient, seen: true, after: shortWish,
		note: "ResourceExhausted with RetryInfo 10 s: the level is waited for, nothing switches"},
	{name: "refused", texts: both("refuse"), note: "the listener is closed, live connections are cut"},
	{name: "reset", texts: both("reset:headers"), note: "RST when a request begins"},
	{name: "reset after reading", texts: both("reset:answer,store=true"), seen: true,
		note: "RST after all was read and stored, before the answer: every such item arrives twice, and is counted"},
	{name: "503", texts: both("status:UNAVAILABLE"), seen: true, note: "Unavailable"},
	{name: "UNIMPLEMENTED", texts: both("status:UNIMPLEMENTED"), seen: true, note: "the service is not known"},
	{name: "expired certificate", texts: both("tls:expired", cut),
		note: "new connections meet a certificate that ended an hour ago; the seeds verify"},
}

// scenario is one case: a seed, a fault of the primary and, if both, later of the secondary too.
type scenario struct {
	fault
	seed seedbed.Seed
	both bool
}

func (c scenario) name() string {
	if c.both {
		return string(c.seed) + ", " + c.fault.name + ", then both"
	}
	return string(c.seed) + ", " + c.fault.name
}

// cases are all of them, the longest first, so that none begins late and alone.
func cases() (out []scenario) {
	for _, both := range []bool{true, false} {
		for _, f := range faults {
			for _, seed := range []seedbed.Seed{seedbed.A, seedbed.B} {
				if !both || f.kind != patient {
					out = append(out, scenario{f, seed, both})
				}
			}
		}
	}
	return out
}

// texts of this seed.
func (c scenario) set() []string { return c.fault.texts[c.seed] }

// switches says whether data goes to the next level at all.
func (c scenario) switches() bool { return c.kind != patient }

// holds says whether the second fault leaves no level: one that only asks for time is waited for.
func (c scenario) holds() bool { return c.kind != throttling }
