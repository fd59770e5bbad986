// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/holdfast-telemetry/holdfast/internal/drill/topology"
	"github.com/holdfast-telemetry/holdfast/internal/drill/verdict"
	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
	"github.com/holdfast-telemetry/holdfast/internal/loadgen"
)

const (
	producers    = 2 // per signal and receiver
	requestItems = 25
	itemBytes    = 200
	// A flood is this many producers with one request each, of so many items of this size: twice what admission takes.
	floodProducers = 36
	floodItems     = 100
	floodBytes     = 20_000
	// notSent begins what the load says of a request of which no byte was sent.
	notSent = "not sent"
)

// load is a load under way.
type load struct {
	end  chan struct{}
	once sync.Once
	done sync.WaitGroup
	err  error
}

// send begins the load: all receivers together get the scenario's rate.
func (m *room) send(ctx context.Context) error {
	bytes := m.scene.Load.ItemBytes
	if bytes == 0 {
		bytes = itemBytes
	}
	return m.each(ctx, loadgen.Options{Producers: producers, Items: requestItems, ItemBytes: bytes}, m.scene.Rate())
}

// flood sends much at once.
func (m *room) flood(ctx context.Context) error {
	signals := 0
	for _, d := range m.play.Topology.Doors {
		signals = max(signals, len(m.play.Topology.SignalsOf(d.Receiver)))
	}
	m.say("%d requests of %.1f MiB at once", floodProducers, float64(floodItems*floodBytes)/(1<<20))
	return m.each(ctx, loadgen.Options{Producers: floodProducers / max(signals, 1), Requests: 1, Items: floodItems, ItemBytes: floodBytes}, 0)
}

// each begins a load for every receiver.
func (m *room) each(ctx context.Context, o loadgen.Options, rate float64) error {
	t := m.play.Topology
	doors := map[string][]int{}
	for i, d := range t.Doors {
		doors[d.Receiver] = append(doors[d.Receiver], i)
	}
	signals := 0
	for receiver := range doors {
		signals += len(t.SignalsOf(receiver))
	}
	began := len(m.loads)
	for receiver, at := range doors {
		o.Signals = signalsOf(t, receiver)
		if len(o.Signals) == 0 {
			continue
		}
		o.Rate = rate * float64(len(o.Signals)) / float64(max(signals, 1))
		m.start(ctx, receiver, at, o)
	}
	if len(m.loads) == began {
		return errors.New("no receiver feeds a pipeline for traces, metrics or logs")
	}
	return nil
}

func signalsOf(t *topology.Topology, receiver string) (out []item.Signal) {
	for _, word := range t.SignalsOf(receiver) {
		for _, s := range item.Signals {
			if s.String() == word {
				out = append(out, s)
			}
		}
	}
	return out
}

// start begins a load for the doors of a receiver.
func (m *room) start(ctx context.Context, receiver string, doors []int, o loadgen.Options) {
	l := &load{end: make(chan struct{})}
	o.Run, o.Dir, o.Want, o.Stop, o.Timeout = runName(m.out.Name), m.notes(), "any", l.end, 5*time.Second
	o.PoisonEvery, o.Headers, o.CAPEM, o.SkipVerify = m.scene.Load.Poison, m.play.Headers, m.door.CA, m.to.Unchecked
	for _, i := range doors {
		o.To = append(o.To, m.to.Doors[i])
		if m.play.Topology.Doors[i].ClientCA {
			o.Cert, o.Key = m.path("certificates", "load.pem"), m.path("certificates", "load.key")
		}
	}
	o.Progress = func(a ledger.Attempt, res ledger.Result) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.via[verdict.Source{Signal: a.Signal, Producer: a.Producer}] = receiver
		switch {
		case res.State == ledger.Acked:
			m.mu.acked += a.Last - a.First + 1
		case res.State == ledger.Refused && strings.HasPrefix(res.Text, notSent): // between two lives nobody is there who could refuse
		case res.State == ledger.Refused:
			m.mu.final++
			m.mu.answer = res.Code + " " + plain(res.Text)
		case res.Code == "UNAVAILABLE" || res.Code == "RESOURCE_EXHAUSTED" || res.Code == "503" || res.Code == "429":
			m.mu.turned++
			m.mu.hint = res.Code + " " + plain(res.Text)
		}
	}
	l.done.Go(func() { _, l.err = loadgen.Run(ctx, o) })
	m.loads = append(m.loads, l)
}

// plain is what people can read of an answer's text, which may be a message in protobuf.
func plain(text string) string {
	text, _, _ = strings.Cut(text, "type.googleapis.com")
	readable := func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}
	return strings.TrimRight(strings.Map(readable, text), " (6")
}

// runName is the name of a run for the ledger.
func runName(scenario string) string {
	plain := func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}
	name := strings.Map(plain, strings.ToLower(scenario))
	return name[:min(len(name), 32)]
}

// stopLoads ends the load: what was begun gets its answer.
func (m *room) stopLoads() error {
	var errs []error
	for _, l := range m.loads {
		l.once.Do(func() { close(l.end) })
		l.done.Wait()
		errs = append(errs, l.err)
	}
	return errors.Join(errs...)
}
