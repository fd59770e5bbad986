// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
)

// explainListeners lists what can be talked to, and who may.
func explainListeners(p page, pl *plan.Plan) {
	if len(pl.Listeners) == 0 {
		return
	}
	p.title("Listens on")
	width := len("localhost:13133")
	for _, l := range pl.Listeners {
		width = max(width, len(l.Address))
	}
	for _, l := range pl.Listeners {
		owner := l.Component
		if owner != "" {
			owner = " (" + owner + ")"
		}
		p.line(1, "", "%-*s  %s%s; %s", width, l.Address, l.Purpose, owner, guard(&l))
	}
	if !slices.ContainsFunc(pl.Listeners, func(l plan.Listener) bool { return l.Purpose == "health check" }) {
		p.line(1, "", "%-*s  health, without being asked: --implicit-health; in Kubernetes on 0.0.0.0", width,
			"localhost:13133")
	}
}

func guard(l *plan.Listener) string {
	var parts []string
	switch {
	case l.ClientCA:
		parts = append(parts, "TLS with client certificates")
	case l.TLS:
		parts = append(parts, "TLS")
	default:
		parts = append(parts, "no TLS")
	}
	if l.Auth != "" {
		parts = append(parts, "authenticated by "+l.Auth)
	} else {
		parts = append(parts, "no authentication")
	}
	return strings.Join(parts, ", ")
}

// directory is a place on disk that a configuration writes to.
type directory struct {
	Path      string `json:"path"`
	Component string `json:"component"`
	Text      string `json:"text"`
}

// directoriesOf finds what the components in use write to.
func directoriesOf(cfg *config.Config) []directory {
	var out []directory
	for _, id := range cfg.Service.Extensions {
		c := cfg.Components[config.Extensions][id]
		if c == nil {
			continue
		}
		if s, ok := c.Config.(interface {
			Caps() (directory string, maxBytes int64, synced bool)
		}); ok {
			dir, limit, synced := s.Caps()
			text := "at most 80 % of the volume"
			if limit > 0 {
				text = "at most " + byteText(limit)
			}
			if !synced {
				text += "; synced within 200ms"
			}
			out = append(out, directory{dir, "extensions/" + id, text})
		}
	}
	for _, id := range slices.Sorted(maps.Keys(cfg.Components[config.Exporters])) {
		section, _ := cfg.Effective["exporters"].(map[string]any)
		block, _ := section[id].(map[string]any)
		path, ok := block["path"].(string)
		if !ok || cfg.Components[config.Exporters][id].Type != "file" || !exported(cfg, id) {
			continue
		}
		text := "one file that grows"
		if r, ok := block["rotation"]; ok {
			text = "rotated"
			if m, ok := r.(map[string]any); ok && m["max_megabytes"] != nil {
				text = fmt.Sprintf("rotated at %v MB", m["max_megabytes"])
			}
		}
		out = append(out, directory{path, "exporters/" + id, text})
	}
	return out
}

// exported reports whether a pipeline or a connector's level names the exporter.
func exported(cfg *config.Config, id string) bool {
	if slices.ContainsFunc(cfg.Service.Pipelines, func(p config.Pipeline) bool {
		return slices.Contains(p.Exporters, id)
	}) {
		return true
	}
	section, _ := cfg.Effective["connectors"].(map[string]any)
	return strings.Contains(fmt.Sprint(section), id)
}

func explainDirectories(p page, cfg *config.Config) {
	dirs := directoriesOf(cfg)
	if len(dirs) == 0 {
		return
	}
	p.title("Writes to")
	for _, d := range dirs {
		p.line(1, "", "%s  (%s) %s", d.Path, d.Component, d.Text)
	}
}

// explainStorages says of each directory of journals who writes there, what bounds it and what happens at its bounds.
func explainStorages(p page, cfg *config.Config, pl *plan.Plan) {
	for i := range pl.Storages {
		s := &pl.Storages[i]
		d := describeStorage(cfg, pl, s)
		p.title("Storage %s", s.Directory)
		p.line(1, "named by", "%s", strings.Join(s.IDs, ", "))
		switch len(s.Heads) {
		case 0:
			p.line(1, "journals", "none is written here; what is found is delivered")
		default:
			p.line(1, "journals", "%s; one copy of the data each, whatever the number of destinations", strings.Join(s.Heads, ", "))
		}
		p.line(1, "bounds", "%s", storageBounds(s, &d))
		if s.Synced {
			p.line(1, "answers", "after the sync")
		} else {
			p.line(1, "answers", "after the write; synced within 200ms")
		}
		p.line(1, "at its bounds", "given up first, and listed: %s; then new data is refused", strings.Join(d.GivesWay, ", then "))
		p.line(1, "what is left", "a destination that leaves the configuration keeps its backlog: it follows its exporters, or waits")
	}
}

func storageBounds(s *plan.Storage, d *storageDescription) string {
	text := "80 % of the volume for everything below it"
	if s.MaxBytes > 0 {
		text = byteText(s.MaxBytes) + " for everything below it"
	}
	if n := len(s.Heads); n > 1 {
		text += fmt.Sprintf(", half of it kept in %d equal shares", n)
	}
	if d.JournalBytes > 0 {
		text += fmt.Sprintf("; %s for one journal", byteText(d.JournalBytes))
	}
	if d.MinFreeBytes > 0 {
		return text + fmt.Sprintf("; %s of the volume stay free", byteText(d.MinFreeBytes))
	}
	return text + "; 5 % of the volume stay free, within 16 and 1024 MiB"
}

// bound is a limit on memory.
type bound struct {
	Component string `json:"component"`
	Text      string `json:"text"`
}

func boundsOf(cfg *config.Config, pl *plan.Plan) []bound {
	limit := "a quarter of the memory there is"
	if n := cfg.Service.Admission.LimitMiB; n > 0 {
		limit = fmt.Sprintf("%d MiB", n)
	}
	out := []bound{{"admission", "requests being read, decoded or stored: at most " + limit + ", then new ones are refused"}}
	seen := map[string]bool{}
	for i := range pl.Pipelines {
		for _, id := range pl.Pipelines[i].MemoryLimiters {
			c := cfg.Components[config.Processors][id]
			if c == nil || seen[id] {
				continue
			}
			seen[id] = true
			if b, ok := c.Config.(interface{ Bounds() string }); ok {
				out = append(out, bound{"processors/" + id, b.Bounds()})
			}
		}
	}
	for i := range pl.Storages {
		s := &pl.Storages[i]
		d := describeStorage(cfg, pl, s)
		if len(s.Heads) == 0 {
			continue
		}
		out = append(out, bound{"extensions/" + s.IDs[0], fmt.Sprintf(
			"at most %s of what waits for the disk or for a delivery, %s of what was just written; then new data waits, and is refused after 5s",
			byteText(d.JournalMemoryBytes), byteText(d.CacheBytes))})
	}
	return out
}

func explainMemory(p page, cfg *config.Config, pl *plan.Plan) {
	p.title("Memory")
	for _, b := range boundsOf(cfg, pl) {
		p.line(1, "", "%s: %s", b.Component, b.Text)
	}
}
