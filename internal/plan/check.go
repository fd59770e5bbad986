// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

// itemWord is one item of a signal, for people.
func itemWord(s otlp.Signal) string {
	return strings.ReplaceAll(strings.TrimSuffix(s.ItemName(), "s"), "_", " ")
}

// checkDoubleDelivery warns where one receiver reaches an exporter on two ways.
func (b *builder) checkDoubleDelivery(p *Plan) {
	type trip struct {
		receiver, exporter string
		signal             otlp.Signal
	}
	ways := map[trip][]string{}
	var order []trip
	for i := range p.Pipelines {
		pl := &p.Pipelines[i]
		for j := range pl.Destinations {
			d := &pl.Destinations[j]
			for _, e := range d.sends() {
				for _, r := range pl.Receivers {
					t := trip{r, e, pl.Signal}
					if ways[t] == nil {
						order = append(order, t)
					}
					way := pl.ID
					if slices.Contains(ways[t], way) {
						way = d.Label
					}
					ways[t] = append(ways[t], way)
				}
			}
		}
	}
	for _, t := range order {
		if n := len(ways[t]); n > 1 {
			times := "twice"
			if n > 2 {
				times = fmt.Sprintf("%d times", n)
			}
			b.note(config.Warning, "exporters/"+t.exporter, pipelinePath(ways[t][1]), "", "each %s of %s reaches %s %s: by %s",
				itemWord(t.signal), t.receiver, t.exporter, times, strings.Join(ways[t], " and by "))
		}
	}
}
