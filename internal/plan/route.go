// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// route plans a failover connector above which p stands, for p's signal. It returns nil where the levels cannot be
// resolved; the findings say why.
func (b *builder) route(p *Pipeline, conn *config.Component) *Destination {
	r := resolver{builder: b, conn: conn, signal: p.Signal, cfg: conn.Config.(*failover.Config)}
	r.resolve()
	if r.broken || len(r.levels) == 0 {
		return nil
	}
	d := &Destination{Destination: queue.Destination{Name: conn.Canonical()}, Label: conn.ID, Route: &Route{
		Connector: conn.ID, RetryInterval: r.cfg.RetryInterval, MaxRetries: r.cfg.MaxRetries, Config: r.cfg,
	}}
	for _, l := range r.levels {
		for _, id := range l.exporters {
			d.Exporters = append(d.Exporters, b.component(config.Exporters, id).Canonical())
		}
	}
	r.lift(p, d)
	r.timers(d)
	return d
}

// resolver turns priority_levels into levels for one signal (failover, section 4.3).
type resolver struct {
	*builder
	conn   *config.Component
	cfg    *failover.Config
	signal otlp.Signal
	levels []level
	broken bool
}

// level is a level in the making.
type level struct {
	pipelines []string
	exporters []string
	maxItems  uint32
	assumed   bool // a fragment does not say all
	emergency bool
}

func (r *resolver) path(keys ...any) string {
	path := "connectors::" + r.conn.ID
	for _, k := range keys {
		path += fmt.Sprintf("::%v", k)
	}
	return path
}

func (r *resolver) say(severity config.Severity, path, hint, format string, args ...any) {
	r.broken = r.broken || severity == config.Error
	r.note(severity, "connectors/"+r.conn.ID, path, hint, format, args...)
}

func (r *resolver) resolve() {
	if !r.cfg.Lift {
		r.say(config.Error, r.path("lift"), "", "lift: false is not available in this version")
	}
	seen := map[string]int{}
	for i, entries := range r.cfg.PriorityLevels {
		var l level
		for j, entry := range entries {
			r.entry(&l, i, j, strings.TrimSpace(entry))
		}
		if len(l.pipelines) == 0 && !l.assumed && !r.broken {
			r.say(config.Error, r.path("priority_levels", i), "", "level %d has no entry for %s", i, r.signal)
		}
		r.checkTwice(seen, &l, i)
		if len(l.exporters) > 0 {
			r.levels = append(r.levels, l)
		}
	}
	for _, pl := range r.fed() {
		if _, ok := seen[pl.ID]; !ok && !r.broken {
			r.say(config.Warning, pipelinePath(pl.ID), "", "pipeline %s receives from %s but is in none of its levels",
				pl.ID, r.conn.ID)
		}
	}
	r.checkProbes()
	r.checkHealth()
	r.markEmergency()
}

// checkTwice refuses exporters and pipelines that are in two levels, or twice in one.
func (r *resolver) checkTwice(seen map[string]int, l *level, i int) {
	again := false // an exporter in two levels often is its pipeline in two; one of them is enough to say
	for _, ids := range [][]string{l.exporters, l.pipelines} {
		for _, id := range ids {
			if at, ok := seen[id]; ok && !again {
				again = true
				r.say(config.Error, r.path("priority_levels", i), "", "%s is in level %d and again in level %d", id, at, i)
			}
			seen[id] = i
		}
	}
}

// fed are the pipelines of the signal that receive from the connector.
func (r *resolver) fed() []*config.Pipeline {
	var fed []*config.Pipeline
	for i := range r.cfgs().Pipelines {
		p := &r.cfgs().Pipelines[i]
		if p.Signal == r.signal && slices.Contains(p.Receivers, r.conn.ID) {
			fed = append(fed, p)
		}
	}
	return fed
}

func (r *resolver) cfgs() *config.Service { return &r.builder.cfg.Service }

// entry resolves one entry of level i: a pipeline, or an exporter that a pipeline serves.
func (r *resolver) entry(l *level, i, j int, id string) {
	path := r.path("priority_levels", i, j)
	for k := range r.cfgs().Pipelines {
		p := &r.cfgs().Pipelines[k]
		if p.ID != id {
			continue
		}
		switch {
		case p.Signal != r.signal:
		case !slices.Contains(p.Receivers, r.conn.ID):
			r.say(config.Error, path, "add it to the pipeline's receivers",
				"level %d: pipeline %s does not receive from %s", i, id, r.conn.ID)
		default:
			r.take(l, p, i)
		}
		return
	}
	if r.component(config.Exporters, id) != nil {
		r.exporterEntry(l, i, path, id)
		return
	}
	if r.builder.cfg.Defines(config.Exporters, id) {
		l.assumed = true // it has an error of its own
		return
	}
	if r.builder.cfg.Fragment {
		l.assumed = true
		r.say(config.Note, path, "", "assumed: %s", id)
		return
	}
	r.say(config.Error, path, r.candidates(id), "level %d: %q is neither a pipeline nor an exporter", i, id)
}

func (r *resolver) candidates(id string) string {
	names := slices.Sorted(maps.Keys(r.builder.cfg.Components[config.Exporters]))
	for i := range r.cfgs().Pipelines {
		if p := &r.cfgs().Pipelines[i]; p.Signal == r.signal {
			names = append(names, p.ID)
		}
	}
	if near := config.Nearest(id, names); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return "there are: " + strings.Join(names, ", ")
}

func (r *resolver) exporterEntry(l *level, i int, path, id string) {
	var serving []*config.Pipeline
	var ids []string
	for _, p := range r.fed() {
		if slices.Contains(p.Exporters, id) {
			serving, ids = append(serving, p), append(ids, p.ID)
		}
	}
	switch len(serving) {
	case 0:
		implicit := r.implicitID(id)
		l.pipelines = append(l.pipelines, implicit)
		l.exporters = append(l.exporters, id)
		r.say(config.Note, path, "", "level %d: %s is served by pipeline %s", i, id, implicit)
	case 1:
		r.take(l, serving[0], i)
		r.say(config.Note, path, "", "level %d: %s is served by pipeline %s", i, id, ids[0])
	default:
		r.say(config.Error, path, "name the pipeline instead", "level %d: %s is served by %s", i, id,
			strings.Join(ids, " and "))
	}
}

// implicitID names the pipeline that nobody wrote.
func (r *resolver) implicitID(exporterID string) string {
	parts := []string{failoverType, r.conn.Name, strings.ReplaceAll(exporterID, "/", ".")}
	parts = slices.DeleteFunc(parts, func(s string) bool { return s == "" })
	return r.signal.String() + "/" + strings.Join(parts, ".")
}

// take makes the exporters of p members of the level.
func (r *resolver) take(l *level, p *config.Pipeline, i int) {
	l.pipelines = append(l.pipelines, p.ID)
	for j, id := range p.Exporters {
		switch {
		case r.connector(id) != nil:
			r.say(config.Error, fmt.Sprintf("%s::exporters::%d", pipelinePath(p.ID), j), "",
				"level %d: %s leads to another failover, %s", i, p.ID, id)
		case r.component(config.Exporters, id) != nil:
			l.exporters = append(l.exporters, id)
		default:
			l.assumed = true
		}
	}
	for j, id := range p.Processors {
		proc := r.component(config.Processors, id)
		if proc == nil {
			continue
		}
		if asked, ok := proc.Config.(batcher); ok {
			_, l.maxItems, _, _ = asked.Batching()
		}
		if proc.Type == memoryLimiterType {
			r.note(config.Note, "processors/"+id, fmt.Sprintf("%s::processors::%d", pipelinePath(p.ID), j),
				"put it into the pipeline above the connector",
				"%s has no effect below %s: what arrives here is accepted already", id, r.conn.ID)
		}
	}
}

// checkProbes refuses overrides for exporters that are in no level.
func (r *resolver) checkProbes() {
	var members []string
	for _, l := range r.levels {
		members = append(members, l.exporters...)
	}
	for _, id := range slices.Sorted(maps.Keys(r.cfg.Probe.Exporters)) {
		if slices.Contains(members, id) || r.builder.cfg.Fragment || r.broken {
			continue
		}
		hint := "there are: " + strings.Join(members, ", ")
		if near := config.Nearest(id, members); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		r.say(config.Error, r.path("probe", "exporters", id), hint, "probe::exporters: %s is in no level", id)
	}
}

// checkHealth refuses health checks over gRPC of exporters that do not speak it.
func (r *resolver) checkHealth() {
	for i, l := range r.levels {
		for _, id := range l.exporters {
			if r.cfg.For(id, i == 0).Kind != "grpc_health" || r.component(config.Exporters, id).Type == grpcType {
				continue
			}
			path := r.path("probe", "kind")
			if _, own := r.cfg.Probe.Exporters[id]; own {
				path = r.path("probe", "exporters", id, "kind")
			}
			r.say(config.Error, path, "use http, tcp or empty", "probe::kind grpc_health: %s does not speak gRPC", id)
		}
	}
}

// markEmergency finds the last level of files (failover, sections 1 and 12).
func (r *resolver) markEmergency() {
	mode, err := r.cfg.Emergency.Mode()
	if err != nil || len(r.levels) == 0 || r.broken {
		return
	}
	last := &r.levels[len(r.levels)-1]
	files := len(r.levels) > 1 && !slices.ContainsFunc(last.exporters, func(id string) bool {
		return r.component(config.Exporters, id).Type != fileType
	})
	if mode == "true" && !files {
		r.say(config.Error, r.path("emergency", "enabled"), "",
			"emergency: the last level is not one: it must hold only file exporters, below another level")
	}
	last.emergency = files && mode != "false"
}

// checkUnfed reports connectors that pipelines receive from and that none of the same signal exports to.
func (b *builder) checkUnfed() {
	if b.cfg.Fragment {
		return
	}
	for i := range b.cfg.Service.Pipelines {
		p := &b.cfg.Service.Pipelines[i]
		for j, id := range p.Receivers {
			if b.connector(id) == nil || slices.ContainsFunc(b.cfg.Service.Pipelines, func(o config.Pipeline) bool {
				return o.Signal == p.Signal && slices.Contains(o.Exporters, id)
			}) {
				continue
			}
			b.note(config.Error, "connectors/"+id, fmt.Sprintf("%s::receivers::%d", pipelinePath(p.ID), j), "",
				"no %s pipeline exports to %s, so %s would receive nothing", p.Signal, id, p.ID)
		}
	}
}
