// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
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

// storages finds the directories that hold journals and which pipelines write to each, and refuses caps that are too
// small for them. Directories are told apart by their names here; where one is a link to another, the start finds out.
func (b *builder) storages(p *Plan) {
	for _, id := range b.cfg.Service.Extensions {
		if c := b.component(config.Extensions, id); c != nil {
			if s, ok := c.Config.(storage); ok {
				b.addStorage(p, id, s)
			}
		}
	}
	for i := range p.Pipelines {
		pl := &p.Pipelines[i]
		if pl.Storage == "" {
			continue
		}
		c := b.component(config.Extensions, pl.Storage)
		if c == nil {
			continue
		}
		s, ok := c.Config.(storage)
		if !ok {
			b.note(config.Error, "extensions/"+pl.Storage, "extensions::"+pl.Storage, "", "%s is not a storage", pl.Storage)
			continue
		}
		at := b.addStorage(p, pl.Storage, s) // a fragment may use one that it does not enable
		at.Heads = append(at.Heads, pl.ID)
	}
	for i := range p.Pipelines {
		pl := &p.Pipelines[i]
		for j := range p.Storages {
			if slices.Contains(p.Storages[j].Heads, pl.ID) {
				pl.Directory, pl.Synced = p.Storages[j].Directory, p.Storages[j].Synced
			}
		}
	}
	for i := range p.Storages {
		b.checkStorage(&p.Storages[i])
	}
}

// addStorage merges the storage id into the directory it leads to.
func (b *builder) addStorage(p *Plan, id string, s storage) *Storage {
	directory, limit, synced := s.Caps()
	at := slices.IndexFunc(p.Storages, func(o Storage) bool { return o.Directory == directory })
	if at < 0 {
		at = len(p.Storages)
		p.Storages = append(p.Storages, Storage{Directory: directory})
	}
	one := &p.Storages[at]
	if !slices.Contains(one.IDs, id) {
		one.IDs = append(one.IDs, id)
	}
	one.Synced = one.Synced || synced
	if limit > 0 && (one.MaxBytes == 0 || limit < one.MaxBytes) {
		one.MaxBytes = limit
	}
	return one
}

func (b *builder) checkStorage(s *Storage) {
	last := s.IDs[len(s.IDs)-1]
	if len(s.IDs) > 1 {
		b.note(config.Note, "extensions/"+last, "extensions::"+last+"::directory", "",
			"%s share %s: the stricter settings hold", strings.Join(s.IDs, " and "), s.Directory)
	}
	if n := int64(len(s.Heads)); s.MaxBytes > 0 && s.MaxBytes < n*minJournalBytes {
		id := last
		for _, one := range s.IDs {
			if c := b.component(config.Extensions, one); c != nil {
				if _, limit, _ := c.Config.(storage).Caps(); limit == s.MaxBytes {
					id = one
				}
			}
		}
		b.note(config.Error, "extensions/"+id, "extensions::"+id+"::max_file_size_mib", "",
			"max_file_size_mib is %d; %d journals need at least %d", s.MaxBytes>>20, n, n*minJournalBytes>>20)
	}
}

// Heir is who takes over what waits for a destination that left the configuration: the first destination in
// configuration order, in a pipeline of the same signal, that has one of its exporters (journal, section 9).
// exporters are canonical IDs. A destination without a queue takes over nothing, since nobody would send for it.
func (p *Plan) Heir(s otlp.Signal, exporters []string) (*Pipeline, *Destination, bool) {
	for i := range p.Pipelines {
		pl := &p.Pipelines[i]
		if pl.Signal != s {
			continue
		}
		for j := range pl.Destinations {
			d := &pl.Destinations[j]
			if !d.Wait && slices.ContainsFunc(d.Exporters, func(id string) bool { return slices.Contains(exporters, id) }) {
				return pl, d, true
			}
		}
	}
	return nil, nil, false
}

// sends lists the exporters behind d as they are written.
func (d *Destination) sends() []string {
	var ids []string
	for i := range d.Levels {
		ids = append(ids, d.Levels[i].Exporters...)
	}
	return ids
}
