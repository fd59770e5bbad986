// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package reload

import "time"

// Sample is what can be seen of one instance at one moment. Counters never fall while the instance lives; what they
// counted before its switch is not looked at.
//
// "Changed" means here: new, or not the same as in the generation a rollback would lead to, which is the last committed
// one. Its twin in that generation has the same ID, or is the one it replaces in the same pipeline and level.
type Sample struct {
	Senders   []Sender
	Queues    []Queue
	Doors     []Door
	Listeners []Listener
	Memory    uint64   // bytes in use
	HardLimit uint64   // of the memory limiter; 0 = none
	Fatal     []string // goroutines of this generation that panicked, fatal errors of hosted components; latest last
}

// Sender is one exporter instance, also inside a failover level: per connector, failover would hide a broken primary.
type Sender struct {
	ID      string
	Twin    string // "" = the one of the same ID, if there is any
	Changed bool
	Host    string // where it sends to: host:port, or another word that is equal for equal backends

	// Attempts by verdict.
	Delivered, Retry, RetryAfter, Ambiguous, Misconfigured uint64
	// Rejected counts payloads, each once however often it is offered again during the trial.
	Rejected uint64
	// Payloads that were attempted at least once.
	Payloads uint64

	LastDelivery time.Time // zero = never, as far as is known
	LastFailure  time.Time // retry, ambiguous or misconfigured
	LastRejected time.Time
}

// Queue is the appending side of one pipeline.
type Queue struct {
	Pipeline   string
	Twin       string // "" = the one of the same pipeline
	Changed    bool
	Appended   uint64
	Failed     uint64 // appends that a healthy queue with room would have taken: its disk refused, or it is closed
	LastAppend time.Time
}

// Door is one receiver and its auth.
type Door struct {
	ID           string
	Twin         string
	Changed      bool
	Accepted     uint64
	Refused      uint64 // by TLS, auth or limits
	LastAccepted time.Time
}

// Listener is one address this generation serves.
type Listener struct {
	Address      string
	FailedChecks int // connect checks that failed in a row, one a second; 0 = the last one was good, or none was made
}

// Probe is how the preflight of one sender went.
type Probe struct {
	Sender, Twin string
	// Good: delivered, retry-after or rejected. An answer that refuses an empty export is an answer all the same.
	Good bool
	Text string // why not
	// TwinAsked says that the twin was asked too, TwinGood how that went.
	TwinAsked, TwinGood bool
}

// health is what is known of a sender over the time before a switch.
type health uint8

const (
	unknown health = iota
	delivering
	failing
)

// BaselineSpan is how far back a baseline looks.
const BaselineSpan = 5 * time.Minute

// baseline is how the generation a rollback leads to fared before it was switched out. Never changed once made.
type baseline struct {
	senders  map[string]health
	rejected map[string]bool // senders with rejected data
	queues   map[string]bool // those that took data
	doors    map[string]bool // those that accepted
	memory   uint64          // most of the time before
}

// baselineOf reads the last five minutes out of s.
func baselineOf(s *Sample, peak uint64, now time.Time) *baseline {
	b := &baseline{senders: map[string]health{}, rejected: map[string]bool{}, queues: map[string]bool{},
		doors: map[string]bool{}, memory: max(peak, s.Memory)}
	recent := func(at time.Time) bool { return !at.IsZero() && now.Sub(at) <= BaselineSpan }
	for i := range s.Senders {
		x := &s.Senders[i]
		switch {
		case recent(x.LastFailure) && !x.LastFailure.Before(x.LastDelivery):
			b.senders[x.ID] = failing
		case recent(x.LastDelivery):
			b.senders[x.ID] = delivering
		default:
			b.senders[x.ID] = unknown
		}
		b.rejected[x.ID] = recent(x.LastRejected)
	}
	for i := range s.Queues {
		b.queues[s.Queues[i].Pipeline] = recent(s.Queues[i].LastAppend)
	}
	for i := range s.Doors {
		b.doors[s.Doors[i].ID] = recent(s.Doors[i].LastAccepted)
	}
	return b
}

// storedSpan is how old a delivery may be that was remembered over a restart.
const storedSpan = 15 * time.Minute

// rememberedBaseline is what the store knows after a restart: who delivered.
func rememberedBaseline(deliveries map[string]time.Time, now time.Time) *baseline {
	b := &baseline{senders: map[string]health{}}
	for id, at := range deliveries {
		b.senders[id] = unknown
		if age := now.Sub(at); age <= storedSpan {
			b.senders[id] = delivering
		}
	}
	return b
}

// withProbes is b with what the preflight found out about twins nobody knew enough of.
func (b *baseline) withProbes(probes []Probe) *baseline {
	to := *b
	to.senders = make(map[string]health, len(b.senders))
	for id, h := range b.senders {
		to.senders[id] = h
	}
	for _, p := range probes {
		twin := twinOf(p.Sender, p.Twin)
		if h, known := to.senders[twin]; p.TwinAsked && known && h == unknown {
			to.senders[twin] = failing
			if p.TwinGood {
				to.senders[twin] = delivering
			}
		}
	}
	return &to
}

func twinOf(id, twin string) string {
	if twin != "" {
		return twin
	}
	return id
}

// judgePreflight finds the first sender that cannot deliver although its twin does. All else is a note: an outage must
// not block a reload.
func judgePreflight(probes []Probe, b *baseline) error {
	b = b.withProbes(probes)
	for _, p := range probes {
		if twin := twinOf(p.Sender, p.Twin); !p.Good && b.senders[twin] == delivering {
			return refuse(ReasonPreflight, "%s does not answer an empty export, and %s delivered until now: %s", p.Sender,
				twin, p.Text)
		}
	}
	return nil
}
