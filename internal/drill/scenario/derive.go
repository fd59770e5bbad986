// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"fmt"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/drill/topology"
)

// kind is what a backend may do wrong; name is the scenario's.
type kind struct {
	name, text, title string
	stays             bool // data does not go to another level
	secure            bool // it needs TLS
}

var kinds = []kind{
	{name: "refused", text: "refuse", title: "connections to %s are refused"},
	{name: "blackhole", text: "blackhole", title: "%s takes connections and never answers"},
	{name: "hang", text: "hang", title: "%s reads everything and never answers"},
	{name: "reset", text: "reset:headers", title: "%s resets the connection when a request begins"},
	{name: "unauthenticated", text: "status:UNAUTHENTICATED", title: "%s does not know who sends any more"},
	{name: "expired", text: "tls:expired", title: "the certificate of %s expires", secure: true},
	{name: "unavailable", text: "status:UNAVAILABLE", title: "%s answers that it is unavailable"},
	{name: "throttle", text: "status:RESOURCE_EXHAUSTED,retry_after=2s", title: "%s asks for two seconds of silence, again and again",
		stays: true},
	{name: "slow", text: "slow:700ms", title: "%s takes its time for every answer", stays: true},
	{name: "reject", text: "reject_marked", title: "%s rejects one item in 97 for good", stays: true},
	{name: "flap", text: "flap:1s/1s", title: "%s comes and goes every second", stays: true},
}

// poisonEvery marks one item in so many, where a backend rejects what is marked.
const poisonEvery = 97

// Derive makes the scenarios that a configuration has, in the order in which they are played. The first is the control.
func Derive(t *topology.Topology) []Scenario {
	out := []Scenario{{Name: "control", Title: "no fault", Steps: []Step{{Do: Wait, For: 2 * time.Second}}}}
	for _, b := range t.Backends {
		for _, k := range kinds {
			out = append(out, ofBackend(k.name+":"+b.ID, k, b))
		}
	}
	for _, c := range t.Connectors() {
		out = append(out, allDown(t, c))
	}
	for _, c := range t.Connectors() {
		out = append(out, recovery(t, c))
	}
	return append(out, kill(t, "kill"), term(t, "term"), full(t, "kill-full", Kill), full(t, "term-full", Term), diskCap(t), diskFull(t),
		slowDisk(t), memory(t), reloadBroken(), reloadUndelivering(t))
}

func on(ids ...string) []string { return ids }

func ofBackend(name string, k kind, b topology.Backend) Scenario {
	s := Scenario{Name: name, Title: fmt.Sprintf(k.title, b.ID)}
	if k.secure && !b.TLS {
		s.Why = b.ID + " does not use TLS"
		return s
	}
	faults := []string{k.text}
	switch {
	case k.secure: // new connections meet it; those that are there are cut
		faults = append(faults, "refuse,for=100ms")
	case k.name == "reject":
		s.Load.Poison, s.Load.Rejects = poisonEvery, true
	case k.name == "slow" && b.Timeout > 0: // slow, and not too late
		faults = []string{fmt.Sprintf("slow:%s", min(700*time.Millisecond, b.Timeout/3))}
	}
	s.Steps = []Step{
		{Do: Expose, On: on(b.ID), Within: switchTime},
		{Do: Fault, On: on(b.ID), Faults: faults},
		{Do: Met, On: on(b.ID), Within: seeTime},
	}
	if k.stays {
		s.Steps = append(s.Steps, Step{Do: Wait, For: 4 * time.Second})
	} else {
		s.Steps = append(s.Steps, Step{Do: Away, On: on(b.ID), Within: switchTime + b.Timeout})
	}
	s.Steps = append(s.Steps, goesOn()...)
	return s
}

// goesOn is how most outages end: the door has accepted all the time, everything heals, data comes home.
func goesOn() []Step {
	return []Step{{Do: Accepted, Count: some, Within: seeTime}, {Do: Wait, For: lookOn}, {Do: Restore}, {Do: Home, Within: returnTime}}
}

func allDown(t *topology.Topology, label string) Scenario {
	return Scenario{Name: "all-down:" + label, Title: "every backend of " + label + " is gone, then all come back",
		Steps: append([]Step{
			{Do: Fault, On: backendsOf(t, label), Faults: []string{"refuse"}},
			{Do: Down, On: on(label), Within: switchTime},
		}, goesOn()...)}
}

// recovery lets a backlog meet a backend with little room.
func recovery(t *topology.Topology, label string) Scenario {
	s := Scenario{Name: "recovery:" + label, Title: "a backlog meets a first level that has room for twice the telemetry there is"}
	ids := backendsOf(t, label)
	var first []string
	for _, p := range t.Pipelines {
		for _, d := range p.Destinations {
			if d.Label == label && first == nil {
				first = d.Levels[0]
			}
		}
	}
	var room []string
	for _, id := range first {
		if _, ok := t.Backend(id); ok {
			room = append(room, id)
		}
	}
	if len(room) == 0 {
		s.Why = "the first level of " + label + " sends to no backend"
		return s
	}
	s.Steps = []Step{
		{Do: Fault, On: ids, Faults: []string{"refuse"}},
		{Do: Down, On: on(label), Within: switchTime},
		{Do: Backlog, Count: 4 * usual / uint64(max(len(t.Connectors()), 1)), Within: switchTime},
		{Do: Restore},
		{Do: Fault, On: room, Faults: []string{fmt.Sprintf("%s%d", Capacity, 2*usual)}},
		{Do: CaughtUp, Within: 45 * time.Second},
		{Do: Home, Within: returnTime},
		{Do: Restore},
	}
	return s
}

// backlog lets everything wait.
func backlog(t *topology.Topology) []Step {
	return []Step{{Do: Fault, On: all(t), Faults: []string{"refuse"}}, {Do: Backlog, Count: 2 * usual, Within: switchTime}}
}

func kill(t *topology.Topology, name string) Scenario {
	// Enough is delivered that a process which forgets what it has delivered is told from one that may repeat a little.
	steps := []Step{{Do: Wait, For: 4 * time.Second}, {Do: Kill}}
	steps = append(steps, backlog(t)...)
	steps = append(steps, Step{Do: Kill}, Step{Do: Restore}, Step{Do: Home, Within: returnTime})
	return Scenario{Name: name, Title: "kill -9 while data flows, and again with a backlog", Steps: steps}
}

func term(t *topology.Topology, name string) Scenario {
	steps := append(backlog(t), Step{Do: Term}, Step{Do: Restore}, Step{Do: Home, Within: returnTime})
	return Scenario{Name: name, Title: "SIGTERM with a backlog, then a new start", Steps: steps}
}

func reloadBroken() Scenario {
	return Scenario{Name: "reload-broken", Title: "SIGHUP with a broken configuration: the good one goes on", Steps: []Step{
		{Do: Reload, On: on("broken"), Within: seeTime},
		{Do: Accepted, Count: some, Within: seeTime},
		{Do: Reload, On: on("good"), Within: seeTime},
		{Do: Accepted, Count: some, Within: seeTime},
		{Do: Wait, For: lookOn},
	}}
}

// reloadUndelivering leads the first levels to backends that answer probes and reject everything else for good.
func reloadUndelivering(t *topology.Topology) Scenario {
	s := Scenario{Name: "reload-undelivering", Title: "SIGHUP with a valid configuration that delivers nothing: it is rolled back",
		Double: true, Load: Load{Poison: 1}, Sets: []string{"service::reload::trial=30s"}}
	if len(firstLevel(t)) == 0 {
		s.Why = "no first level sends to a backend"
		return s
	}
	s.Steps = []Step{
		{Do: Reload, On: on("undelivering"), Within: seeTime},
		{Do: RolledBack, Within: 50 * time.Second},
		{Do: Accepted, Count: some, Within: seeTime},
		{Do: Reload, On: on("good"), Within: seeTime},
		{Do: Delivered, On: firstLevel(t)[:1], Count: some, Within: seeTime},
		{Do: Wait, For: lookOn},
	}
	return s
}
