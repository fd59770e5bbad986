// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/otlpgrpc"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/otlphttp"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/probe"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/failover/statefile"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline/switchroom"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/reload"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// switchPlan is what the switch is to know of the generation.
func (g *generation) switchPlan() *failover.SwitchPlan {
	return pipeline.SwitchPlan(g.plan, g.member, rand.Float64)
}

// learnRoutes makes the destinations known to the room above them, which the first generation makes.
func (g *generation) learnRoutes() error {
	if a := g.app; a.switches == nil {
		set := switchroom.Settings{Plan: g.switchPlan(), Telemetry: a.opts.Telemetry, Probe: a.probe}
		if a.keeper = statefile.New(vfs.OS(), a.memoryDirs(vfs.OS()), a.log); a.keeper != nil {
			set.Remembered, set.Remember = a.keeper.Recall(), a.keeper.Tell
		}
		a.switches = switchroom.New(set)
		return nil
	}
	g.app.switches.Learn(g.switchPlan())
	return nil
}

// memoryDirs are where what was down is kept, and where it was before: several processes may share a state directory, each
// with sources of its own. The store of configurations makes the directory; without a store there is only the older place.
func (a *App) memoryDirs(disk vfs.FS) []string {
	if a.stateDir == "" {
		return nil
	}
	dirs := []string{a.stateDir}
	if s := a.opts.Sources; s != nil {
		own := reload.DirOf(a.stateDir, s.URIs)
		if info, err := disk.Stat(own); err == nil && info.Mode.IsDir() {
			dirs = []string{own, a.stateDir}
		}
	}
	return dirs
}

// member says what an exporter's configuration is, and how it is asked for itself. Its queue and retries are not the
// exporter's but the destination's.
func (g *generation) member(id string) (hash, kind string) {
	hash = g.cfg.HashOf(config.Exporters, id, "sending_queue", "retry_on_failure")
	if p, ok := g.instances[id].(exporter.Prober); ok {
		return hash, string(p.ProbeKind())
	}
	return hash, ""
}

// probe asks whether an exporter's backend would take data, at the door the order names.
func (a *App) probe(ctx context.Context, o *failover.ProbeOrder) exporter.Verdict {
	g := a.now()
	v := g.probe(ctx, o)
	if ctx.Err() == nil {
		g.probed.Note(o.Exporter, v.Kind, time.Now())
	}
	return v
}

func (g *generation) probe(ctx context.Context, o *failover.ProbeOrder) exporter.Verdict {
	if o.What.Kind == "http" || o.What.Kind == "tcp" {
		addr, set, err := g.door(ctx, o.Exporter)
		switch {
		case err != nil:
			return exporter.Verdict{Kind: exporter.Misconfigured, Err: err}
		case o.What.Kind == "http":
			return probe.HTTP(ctx, o.What.URL, o.What.Expect, set)
		}
		return probe.TCP(ctx, addr, set)
	}
	if h, ok := g.instances[o.Exporter].(exporter.HealthProber); ok && o.What.Kind == string(exporter.ProbeHealth) {
		return h.ProbeHealth(ctx, o.What.Service, o.Signal)
	}
	p, ok := g.instances[o.Exporter].(exporter.Prober)
	if !ok || o.What.Kind != string(p.ProbeKind()) {
		return exporter.Verdict{Err: fmt.Errorf("exporters/%s: no probe of kind %s", o.Exporter, o.What.Kind)}
	}
	return p.Probe(ctx, o.Signal)
}

// door is where an exporter's backend listens, and its TLS settings; nil = it speaks no TLS, or has no settings.
func (g *generation) door(ctx context.Context, id string) (addr string, set *tls.Config, err error) {
	c, err := g.component(config.Exporters, id)
	if err != nil {
		return "", nil, err
	}
	switch cfg := c.Config.(type) {
	case *otlpgrpc.Config:
		addr = cfg.Client.Endpoint
		set, err = cfg.Client.TLS.LoadTLSConfig(ctx)
	case *otlphttp.Config:
		addr = cfg.Client.Endpoint
		if set, err = cfg.Client.TLS.LoadTLSConfig(ctx); strings.HasPrefix(addr, "http://") {
			set = nil
		}
	}
	return hostPort(addr), set, err
}

// hostPort is the address of an endpoint, which may be a URL or a target of gRPC.
func hostPort(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" {
		return strings.TrimLeft(endpoint[strings.LastIndex(endpoint, "/")+1:], ":")
	}
	switch {
	case u.Port() != "":
		return u.Host
	case u.Scheme == "https":
		return net.JoinHostPort(u.Hostname(), "443")
	}
	return net.JoinHostPort(u.Hostname(), "80")
}

// emergency reports whether an exporter is the last resort of some route: what it took is gone from the queue.
func (g *generation) emergency(id string) bool {
	for i := range g.plan.Pipelines {
		for k := range g.plan.Pipelines[i].Destinations {
			for _, l := range g.plan.Pipelines[i].Destinations[k].Levels {
				for _, member := range l.Exporters {
					if l.Emergency && member == id {
						return true
					}
				}
			}
		}
	}
	return false
}

// sayRoutes says at start what a connector makes of settings that are written elsewhere, or differently.
func (a *App) sayRoutes() {
	g := a.now()
	said := map[string]bool{}
	once := func(connector, text string, fields ...zap.Field) {
		if key := connector + " " + text; !said[key] {
			said[key] = true
			a.log.Info(text, append([]zap.Field{zap.String("connector", connector)}, fields...)...)
		}
	}
	for i := range g.plan.Pipelines {
		for k := range g.plan.Pipelines[i].Destinations {
			r := g.plan.Pipelines[i].Destinations[k].Route
			if r == nil || r.Config == nil {
				continue
			}
			if r.RetryGap < r.Config.RetryGap {
				once(r.Connector, "Failover: retry_gap shortened", zap.Duration("from", r.Config.RetryGap),
					zap.Duration("to", r.RetryGap), zap.Duration("retry_interval", r.RetryInterval))
			}
			for _, id := range r.Lifted {
				once(r.Connector, "Failover: queue and retry settings of "+id+" belong to the connector",
					zap.String("exporter", id))
			}
		}
	}
}

// routeFill is what waits for a route in all its pipelines.
func (a *App) routeFill(id failover.RouteID) queue.Fill {
	g := a.now()
	var sum queue.Fill
	for _, p := range g.pipelines {
		for _, d := range p.Show() {
			if d.Route != nil && d.Route.ID == id {
				sum.Items, sum.Size, sum.Capacity = sum.Items+d.Fill.Items, sum.Size+d.Fill.Size, sum.Capacity+d.Fill.Capacity
				sum.Oldest = max(sum.Oldest, d.Fill.Oldest)
			}
		}
	}
	return sum
}
