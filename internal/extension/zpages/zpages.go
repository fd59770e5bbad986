// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package zpages shows what runs, as JSON, at /debug/servicez, /debug/pipelinez and /debug/extensionz.
//
// It is off unless configured and listens on loopback unless told otherwise (faults, D10). The pages are made from
// the same snapshot as health; there are no HTML pages, because a linked template engine costs the binary 7 MB
// (compat, 1.1). There is no /debug/tracez: internal traces are not made.
package zpages

import (
	"context"
	"encoding/json"
	"errors"
	"expvar"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"time"

	"go.opentelemetry.io/collector/component"

	"github.com/holdfast-telemetry/holdfast/internal/extension"
	"github.com/holdfast-telemetry/holdfast/internal/snapshot"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// Pages serves the pages.
type Pages struct {
	set       extension.Settings
	cfg       *Config
	snapshots *snapshot.Desk[extension.Health]
	server    extension.Server
}

// Factory makes zpages extensions.
func Factory() extension.Factory {
	return extension.Factory{
		Type: "zpages", Default: Default, Supplied: true,
		New: func(set extension.Settings, cfg any) (extension.Extension, error) {
			c, ok := cfg.(*Config)
			if !ok {
				return nil, fmt.Errorf("configuration is a %T", cfg)
			}
			return New(set, c), nil
		},
	}
}

// New returns pages that are not served yet. cfg is not changed.
func New(set extension.Settings, cfg *Config) *Pages {
	p := &Pages{set: set, cfg: cfg, snapshots: snapshot.NewDesk(extension.Health{}, set.Status)}
	p.server.Listen = set.Listen
	return p
}

// Start implements extension.Extension.
func (p *Pages) Start(ctx context.Context, host component.Host) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/servicez", p.page(servicez))
	mux.HandleFunc("/debug/pipelinez", p.page(pipelinez))
	mux.HandleFunc("/debug/extensionz", p.page(func(h *extension.Health, _ time.Time) any {
		return map[string]any{"extensions": h.Extensions}
	}))
	if p.cfg.Expvar.Enabled {
		mux.Handle("/debug/expvarz", expvar.Handler())
	}
	return p.server.Start(ctx, p.cfg.ServerConfig, host, p.set.Telemetry, extension.Limit(extension.ReadOnly(mux)))
}

// Stop implements extension.Extension.
func (p *Pages) Stop(ctx context.Context) error {
	return errors.Join(p.server.Stop(ctx), p.snapshots.Wait(ctx))
}

// Addr is where the pages are served, nil if they are not.
func (p *Pages) Addr() net.Addr { return p.server.Addr() }

func (p *Pages) page(content func(*extension.Health, time.Time) any) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		h, _ := p.snapshots.Take(r.Context(), extension.SnapshotTime)
		text, err := json.MarshalIndent(content(&h, time.Now()), "", "  ")
		if err != nil {
			http.Error(w, "page cannot be shown", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(append(text, '\n')) // who asked has gone
	}
}

type servicePage struct {
	Phase      string     `json:"phase"`
	UpSince    time.Time  `json:"up_since,omitzero"`
	Uptime     string     `json:"uptime,omitempty"`
	Go         string     `json:"go"`
	Platform   string     `json:"platform"`
	CPUs       int        `json:"cpus"`
	Goroutines int        `json:"goroutines"`
	Loops      []loopLine `json:"loops,omitempty"`
	Degraded   []string   `json:"degraded,omitempty"`
}

type loopLine struct {
	Name      string  `json:"name"`
	SinceTick float64 `json:"since_tick_seconds"`
}

func servicez(h *extension.Health, now time.Time) any {
	s := servicePage{
		Phase: h.Phase.String(), UpSince: h.UpSince.UTC(), Go: runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.GOMAXPROCS(0), Goroutines: runtime.NumGoroutine(),
		Degraded: h.Degraded,
	}
	if !h.UpSince.IsZero() {
		s.Uptime = now.Sub(h.UpSince).String()
	}
	for _, l := range h.Loops {
		s.Loops = append(s.Loops, loopLine{l.Name, seconds(now.Sub(l.LastTick))})
	}
	return s
}

type pipelineLine struct {
	ID           string            `json:"id"`
	Accepting    bool              `json:"accepting"`
	Refusing     time.Time         `json:"refusing_since,omitzero"`
	Destinations []destinationLine `json:"destinations"`
}

type destinationLine struct {
	Name         string    `json:"name"`
	Delivered    int64     `json:"delivered_items"`
	Failed       int64     `json:"failed_attempts"` // since the last delivery
	Oldest       float64   `json:"oldest_seconds"`
	LastDelivery time.Time `json:"last_delivery,omitzero"`
	LastFailure  time.Time `json:"last_failure,omitzero"`
	LastError    string    `json:"last_error,omitempty"`
	Degraded     string    `json:"degraded,omitempty"`
}

func pipelinez(h *extension.Health, _ time.Time) any {
	lines := make([]pipelineLine, 0, len(h.Pipelines))
	for _, p := range h.Pipelines {
		line := pipelineLine{ID: p.ID, Accepting: p.Accepting, Refusing: p.RefusingSince.UTC()}
		for _, d := range h.Destinations {
			if d.Pipeline != p.ID {
				continue
			}
			line.Destinations = append(line.Destinations, destinationLine{
				Name: d.Name, Delivered: d.Delivered, Failed: d.Failed, Oldest: seconds(d.Oldest),
				LastDelivery: d.LastDelivery.UTC(), LastFailure: d.LastFailure.UTC(),
				LastError: telemetry.Escape(d.LastError), Degraded: telemetry.Escape(d.Degraded),
			})
		}
		lines = append(lines, line)
	}
	return map[string]any{"pipelines": lines}
}

func seconds(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }

var _ extension.Extension = (*Pages)(nil)
