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

// storage is implemented by the configuration of storages.
type storage interface {
	Caps() (directory string, maxBytes int64, synced bool)
}

// minJournalBytes is what a journal needs of its directory's cap (journal, section 10).
const minJournalBytes = 16 << 20

// checkStorages refuses caps that are too small for the journals below them.
func (b *builder) checkStorages(p *Plan) {
	heads := map[string]int{}
	for i := range p.Pipelines {
		if id := p.Pipelines[i].Storage; id != "" {
			heads[id]++
		}
	}
	for id, n := range heads {
		c := b.component(config.Extensions, id)
		if c == nil {
			continue
		}
		s, ok := c.Config.(storage)
		if !ok {
			b.note(config.Error, "extensions/"+id, "extensions::"+id, "", "%s is not a storage", id)
			continue
		}
		if _, limit, _ := s.Caps(); limit > 0 && limit < int64(n)*minJournalBytes {
			b.note(config.Error, "extensions/"+id, "extensions::"+id+"::max_file_size_mib", "",
				"max_file_size_mib is %d; %d journals need at least %d", limit>>20, n, n*minJournalBytes>>20)
		}
	}
}

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
			for _, e := range d.Exporters {
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
