// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/app/components"
	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/fan"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/sockets"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/swap"
)

// leaveTime is how long the clients of a receiver that was switched out have to leave (reload, section 6).
const leaveTime = 60 * time.Second

// door is a receiver while it serves. One whose settings do not change lives on in the next generation, with its server
// and its connections, and leads to the pipelines of that.
type door struct {
	id       string
	receiver receiver.Receiver
	sinks    map[otlp.Signal]*swap.Sink

	mu           sync.Mutex
	accepted     uint64 // items, as last looked at
	lastAccepted time.Time
}

// buildReceivers makes each receiver once, with a sink per signal that feeds every pipeline it is named in. Those of the
// generation before that say the same are taken over.
func (g *generation) buildReceivers() error {
	for _, id := range g.receiverIDs() {
		signals := g.signalsOf(id)
		if d := g.inheritedDoor(id, signals); d != nil {
			g.keepListeners(config.Receivers, id)
			g.doors = append(g.doors, d)
			continue
		}
		c, err := g.component(config.Receivers, id)
		if err != nil {
			return err
		}
		f, ok := components.Receiver(c.Type)
		if !ok {
			return g.blame(config.Receivers, id, fmt.Errorf("no implementation of type %q", c.Type))
		}
		d := &door{id: id, sinks: map[otlp.Signal]*swap.Sink{}}
		set := receiver.Settings{
			ID: id, Telemetry: g.app.opts.Telemetry.For("receiver", id), Sinks: map[otlp.Signal]receiver.Sink{},
			Admission: g.app.gate, Ready: g.app.ready, Listen: g.listen(config.Receivers, id),
			Panicked: func(text string) { g.app.now().panics.Note("receivers/" + id + ": " + text) },
		}
		for _, s := range signals {
			d.sinks[s] = swap.New(fan.New(g.entries(id, s)))
			set.Sinks[s] = d.sinks[s]
		}
		if d.receiver, err = f.New(set, c.Config); err != nil {
			return g.blame(config.Receivers, id, err)
		}
		g.doors, g.newDoors = append(g.doors, d), append(g.newDoors, d)
	}
	return nil
}

// listen opens the listeners of a component.
func (g *generation) listen(kind config.Kind, id string) receiver.ListenFunc {
	if g.deaf {
		return func(_ context.Context, network, address string) (net.Listener, error) {
			return sockets.Deaf(network, address), nil
		}
	}
	return func(ctx context.Context, network, address string) (net.Listener, error) {
		ln, err := g.seatsOf(kind).Listen(ctx, network, address)
		if err == nil {
			key := string(kind) + "/" + id
			g.listeners[key] = append(g.listeners[key], ln)
		}
		return ln, err
	}
}

// seatsOf are the listeners of the generation's components of a kind.
func (g *generation) seatsOf(kind config.Kind) *sockets.Seats {
	if kind == config.Extensions {
		return g.ports
	}
	return g.seats
}

// keepListeners makes the listeners of a component that was taken over this generation's: else a commit would close
// them as nobody's.
func (g *generation) keepListeners(kind config.Kind, id string) {
	key := string(kind) + "/" + id
	g.listeners[key] = g.before.listeners[key]
	for _, ln := range g.listeners[key] {
		g.seatsOf(kind).Keep(ln)
	}
}

// startReceivers opens the new ones' listeners; nobody gets a connection before the seats are taken.
func (g *generation) startReceivers(ctx context.Context) error {
	for _, d := range g.newDoors {
		if err := d.receiver.Start(ctx, components.Host{}); err != nil {
			return g.blame(config.Receivers, d.id, err)
		}
		g.began("receiver "+d.id, d.receiver.Stop, d)
	}
	return nil
}

// doorSet are receivers whose clients are leaving: what they still send goes where the running generation has it.
type doorSet struct {
	sync.Mutex
	all []*door
}

func (s *doorSet) list() []*door {
	s.Lock()
	defer s.Unlock()
	return slices.Clone(s.all)
}

// leave asks the clients to go, serves them until they have, and stops the server. When the process ends they are not
// waited for.
func (d *door) leave(ctx context.Context, a *App) error {
	a.leaving.Lock()
	a.leaving.all = append(a.leaving.all, d)
	a.leaving.Unlock()
	defer func() {
		a.leaving.Lock()
		a.leaving.all = slices.DeleteFunc(a.leaving.all, func(x *door) bool { return x == d })
		a.leaving.Unlock()
	}()
	ctx, cancel := context.WithTimeout(ctx, leaveTime)
	defer cancel()
	go func() { // ends with ctx
		select {
		case <-a.ending:
			cancel()
		case <-ctx.Done():
		}
	}()
	var err error
	if r, ok := d.receiver.(receiver.Retirer); ok {
		err = r.Retire(ctx)
	}
	return errors.Join(err, d.receiver.Stop(ctx))
}

// inheritedDoor is the receiver of the generation before, if it can stay as it is.
func (g *generation) inheritedDoor(id string, signals []otlp.Signal) *door {
	if g.before == nil || !same(g.before.cfg, g.cfg, config.Receivers, id) {
		return nil
	}
	for _, d := range g.before.doors {
		if d.id == id && slices.Equal(signals, slices.Sorted(maps.Keys(d.sinks))) {
			return d
		}
	}
	return nil
}

// receiverIDs are the receivers that feed a pipeline, as written.
func (g *generation) receiverIDs() []string {
	ids := map[string]bool{}
	for i := range g.plan.Pipelines {
		for _, id := range g.plan.Pipelines[i].Receivers {
			ids[id] = true
		}
	}
	return slices.Sorted(maps.Keys(ids))
}

func (g *generation) signalsOf(receiverID string) []otlp.Signal {
	signals := map[otlp.Signal]bool{}
	for i := range g.plan.Pipelines {
		if p := &g.plan.Pipelines[i]; slices.Contains(p.Receivers, receiverID) {
			signals[p.Signal] = true
		}
	}
	return slices.Sorted(maps.Keys(signals))
}

// entries are where a receiver's data of a signal goes.
func (g *generation) entries(receiverID string, s otlp.Signal) []receiver.Sink {
	var out []receiver.Sink
	for i := range g.plan.Pipelines {
		if p := &g.plan.Pipelines[i]; p.Signal == s && slices.Contains(p.Receivers, receiverID) {
			out = append(out, g.pipelines[i].Entry())
		}
	}
	return out
}
