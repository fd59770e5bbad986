// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"slices"
	"strings"
)

// Promise says where a pipeline answers its clients, and what of what was answered three kinds of disaster would cost.
type Promise struct {
	Acknowledged string `json:"acknowledged"`
	Kill         string `json:"kill"`       // kill -9, a crash, running out of memory
	PowerCut     string `json:"power_cut"`  // the machine stops and comes back
	NodeLost     string `json:"lost_node"`  // the machine does not come back
	WhenFull     string `json:"when_full"`  // no room is left; empty without a queue
	Duplicates   string `json:"duplicates"` // when a client that sends again makes two of one
}

const nothing = "nothing that was acknowledged"

// Promise describes p.
func (p *Pipeline) Promise() Promise {
	out := p.queuePromise()
	var waits []string
	queued := 0
	for i := range p.Destinations {
		if p.Destinations[i].Wait {
			waits = append(waits, p.Destinations[i].Label)
		} else {
			queued++
		}
	}
	switch {
	case len(p.Destinations) == 0:
		return Promise{Acknowledged: "never: no destination is known"}
	case queued == 0:
		out = Promise{
			Acknowledged: "after " + strings.Join(waits, " and ") + " took it; there is no queue",
			Kill:         nothing, PowerCut: nothing + " and that the backend kept", NodeLost: nothing,
			Duplicates: "a client that does not see the answer sends again",
		}
		if len(waits) > 1 {
			out.Duplicates += "; one destination that refuses makes it send to all again"
		}
	case len(waits) > 0:
		out.Acknowledged += ", and " + strings.Join(waits, " and ") + " took it"
		out.Duplicates = join("; ", out.Duplicates, "what a waiting destination refuses is sent again to all")
	}
	if queued > 0 {
		out.WhenFull = p.whenFull(queued)
	}
	return out
}

// queuePromise is what the queue alone promises.
func (p *Pipeline) queuePromise() Promise {
	switch {
	case p.Storage == "":
		return Promise{
			Acknowledged: "once it is in the memory queue",
			Kill:         "everything that is queued" + p.bound(),
			PowerCut:     "everything that is queued", NodeLost: "everything that is queued",
		}
	case p.Synced:
		return Promise{
			Acknowledged: fmt.Sprintf("after it is synced to %s (%s)", p.Directory, p.Storage),
			Kill:         nothing, PowerCut: nothing, Duplicates: afterCrash,
			NodeLost: "what is queued, unless the volume comes back elsewhere",
		}
	}
	return Promise{
		Acknowledged: fmt.Sprintf("after it is written to %s (%s), synced within 200ms", p.Directory, p.Storage),
		Kill:         nothing, PowerCut: "the last 200ms of what was acknowledged", Duplicates: afterCrash,
		NodeLost: "what is queued, unless the volume comes back elsewhere",
	}
}

// afterCrash is what a journal repeats (journal, G9): it knows what was delivered as of its last cursor write.
const afterCrash = "after a crash, what was in flight and what was delivered in the last 100ms (slow disks: more)"

// join puts the parts that are not empty together.
func join(sep string, parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), sep)
}

// bound says how much a memory queue may hold.
func (p *Pipeline) bound() string {
	var limits []string
	for i := range p.Destinations {
		if d := &p.Destinations[i]; !d.Wait && d.Limit.Max > 0 {
			limits = append(limits, fmt.Sprintf("%d %s for %s", d.Limit.Max, d.Limit.Sizer, d.Label))
		}
	}
	if len(limits) == 0 {
		return ""
	}
	return ", at most " + strings.Join(limits, ", ")
}

func (p *Pipeline) whenFull(queued int) string {
	answer := "new data is refused, with a hint when to come back"
	for i := range p.Destinations {
		if d := &p.Destinations[i]; !d.Wait && d.Limit.Block {
			answer = "senders wait until there is room or their deadline ends"
		}
	}
	switch {
	case p.Storage == "" && queued == 1:
		return answer
	case p.Storage == "":
		return "one destination: its oldest are dropped and listed; all of them: " + answer
	case queued == 1:
		return "the queue or the directory: " + answer
	}
	text := "one destination: it grows on up to the limits of the directory; all of them, or the directory: " + answer
	if first := p.GivesWay(); len(first) > 0 {
		text += "; before that the oldest of " + strings.Join(first, " and ") + " are dropped and listed"
	}
	return text
}

// GivesWay lists the destinations of a durable pipeline that name no storage: their data goes first when the directory is
// full (journal, section 10).
func (p *Pipeline) GivesWay() []string {
	var labels []string
	for i := range p.Destinations {
		if d := &p.Destinations[i]; p.Storage != "" && !d.Wait && !d.Stored {
			labels = append(labels, d.Label)
		}
	}
	return labels
}
