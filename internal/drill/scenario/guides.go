// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/drill/topology"
)

// Named are scenarios that are played only when somebody asks for them: the tests by hand of two public guides. Each ends
// with the three things that the guides say to watch: data at the next level, no gap in the time line, a clean switch back.
func Named(t *topology.Topology) []Scenario {
	drop := kind{name: "drop", text: "drop", title: "packets to %s are dropped, as behind a firewall's DROP"}
	first, next := t.Backends[0], ""
	for _, p := range t.Pipelines {
		for _, d := range p.Destinations {
			if d.Connector && len(d.Levels) > 1 && next == "" {
				if b, ok := t.Backend(d.Levels[0][0]); ok {
					first = b
				}
				if _, ok := t.Backend(d.Levels[1][0]); ok {
					next = d.Levels[1][0]
				}
			}
		}
	}
	killed := kill(t, "seed-a-kill-pod")
	killed.Title = "guide A, kill a pod: " + killed.Title
	killed.Steps = append(killed.Steps, Step{Do: NoGap})
	files := term(t, "seed-a-files")
	files.Title = "guide A, look at the queue's files: a backlog is on disk, and is there after kill -9"
	for i := range files.Steps {
		if files.Steps[i].Do == Term {
			files.Steps[i].Do = Kill
		}
	}
	files.Steps = append(files.Steps, Step{Do: NoGap})
	dropA, dropB := ofBackend("seed-a-drop-packets", drop, first), ofBackend("seed-b-block", drop, first)
	dropA.Title, dropB.Title = "guide A, drop packets: "+dropA.Title, "guide B, block the primary: "+dropB.Title
	for _, s := range []*Scenario{&dropA, &dropB} {
		s.Steps = watched(s.Steps, first.ID, next)
	}
	return []Scenario{killed, dropA, files, dropB}
}

// watched adds the three things to watch to an outage of first.
func watched(steps []Step, first, next string) (out []Step) {
	for _, s := range steps {
		if out = append(out, s); s.Do == Away && next != "" {
			out = append(out, Step{Do: Delivered, On: on(next), Count: some, Within: switchTime})
		}
	}
	out = append(out, Step{Do: Delivered, On: on(first), Count: some, Within: returnTime})
	if next != "" { // what went to it before may still be on its way
		out = append(out, Step{Do: Wait, For: time.Second}, Step{Do: Silent, On: on(next), For: 2 * time.Second})
	}
	return append(out, Step{Do: NoGap})
}
