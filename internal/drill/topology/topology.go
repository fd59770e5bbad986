// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package topology reads from a plan what a drill can play, and how the configuration is led away from the world.
//
// It stands between a user's configuration and internal/drill. It promises that a configuration it redirects neither
// listens, nor sends, nor writes anywhere but where it was told to, and that what is kept is the user's: protocols, TLS,
// headers, compression, timeouts, queues. What it cannot lead away it refuses in words. It
// opens nothing, but looks whether a certificate can be read.
package topology

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
)

// Topology is what a configuration is made of, as far as a drill can see it from outside.
type Topology struct {
	Doors     []Door
	Backends  []Backend
	Files     []File
	Storages  []Storage
	Pipelines []Pipeline
	// Filtered says that a processor may take items out on purpose, or change them.
	Filtered []string
	// Weak says in plain words what this configuration would lose, and when.
	Weak []string

	cfg  *config.Config
	plan *plan.Plan
}

// Door is a port that takes telemetry.
type Door struct {
	Receiver string // ID as written
	HTTP     bool
	TLS      bool
	ClientCA bool // it asks for a certificate
	listener int  // in the plan
}

// Storage is a directory with queues in it.
type Storage struct {
	IDs         []string // of the extensions that name it
	Journals    int64
	Synced      bool
	DropsOldest bool // what is full gives up its oldest, instead of refusing
}

// Backend is the far end of one exporter.
type Backend struct {
	ID         string // of the exporter, as written
	HTTP, TLS  bool
	ClientCert bool          // it shows a certificate
	Timeout    time.Duration // of an attempt; 0 = none
	JSON       bool
}

// File is the file of an exporter that writes one.
type File struct {
	ID   string
	Path string // as written
}

// harmless are the processors that neither take out nor change anything.
var harmless = []string{"batch", "memory_limiter"}

// Pipeline takes data and owes it to each of its destinations.
type Pipeline struct {
	ID, Signal   string
	Receivers    []string
	Durable      bool
	Kill         string        // what kill -9 costs, in the plan's words; "nothing …" if nothing
	Linger       time.Duration // of a batch that does not get full
	BatchItems   uint64        // a full batch; 0 = there are none
	Destinations []Destination
}

// Destination is a plain exporter, or a connector with its levels.
type Destination struct {
	Label     string
	Connector bool
	Queued    bool
	Emergency bool
	Levels    [][]string // exporter IDs
}

// Read makes the topology of a valid configuration. The error lists everything that cannot be led away.
func Read(cfg *config.Config, p *plan.Plan) (*Topology, error) {
	t := &Topology{cfg: cfg, plan: p}
	var errs []error
	for i := range p.Pipelines {
		t.pipeline(&p.Pipelines[i])
	}
	used := map[string]bool{}
	for _, pl := range t.Pipelines {
		for _, d := range pl.Destinations {
			for _, l := range d.Levels {
				for _, id := range l {
					used[id] = true
				}
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(used)) {
		errs = append(errs, t.exporter(id))
	}
	if len(t.Backends) == 0 {
		errs = append(errs, errors.New("no exporter sends OTLP: there is no backend that could fail"))
	}
	for i := range p.Storages {
		st := &p.Storages[i]
		one := Storage{IDs: st.IDs, Journals: int64(len(st.Heads)), Synced: st.Synced}
		for _, id := range st.IDs {
			one.DropsOldest = one.DropsOldest || text(t.block(config.Extensions, id)["overflow"]) == "drop_oldest"
		}
		if one.Journals > 0 {
			t.Storages = append(t.Storages, one)
		}
	}
	errs = append(errs, t.doors())
	t.weaknesses()
	return t, errors.Join(errs...)
}

func (t *Topology) pipeline(p *plan.Pipeline) {
	promise := p.Promise()
	out := Pipeline{ID: p.ID, Signal: p.Signal.String(), Receivers: p.Receivers, Durable: p.Storage != "", Kill: promise.Kill}
	if p.Batch != nil {
		out.Linger, out.BatchItems = p.Batch.Timeout, uint64(p.Batch.Size)
	}
	for _, id := range p.Processors {
		if c := t.cfg.Components[config.Processors][id]; c != nil && !slices.Contains(harmless, c.Type) && !slices.Contains(t.Filtered, id) {
			t.Filtered = append(t.Filtered, id)
		}
	}
	for i := range p.Destinations {
		d := &p.Destinations[i]
		to := Destination{Label: d.Label, Connector: d.Route != nil, Queued: !d.Wait}
		for _, l := range d.Levels {
			to.Levels = append(to.Levels, l.Exporters)
			to.Emergency = to.Emergency || l.Emergency
		}
		out.Destinations = append(out.Destinations, to)
	}
	t.Pipelines = append(t.Pipelines, out)
}

// exporter sorts one exporter in.
func (t *Topology) exporter(id string) error {
	c := t.cfg.Components[config.Exporters][id]
	if c == nil {
		return fmt.Errorf("exporters/%s is not there", id)
	}
	block := t.block(config.Exporters, id)
	switch c.Type {
	case "otlp_grpc":
		b := Backend{ID: id, TLS: secureGRPC(block), ClientCert: hasClientCert(block)}
		b.Timeout = t.timeout(id)
		t.Backends = append(t.Backends, b)
	case "otlp_http":
		b := Backend{ID: id, HTTP: true, ClientCert: hasClientCert(block), JSON: text(block["encoding"]) == "json"}
		schemes := map[bool]bool{}
		for _, key := range endpoints {
			if url := text(block[key]); url != "" {
				schemes[strings.HasPrefix(url, "https:")] = true
			}
		}
		if len(schemes) > 1 {
			return fmt.Errorf("exporters/%s: some endpoints use TLS and some do not: a drill has one backend for them", id)
		}
		b.TLS = schemes[true]
		b.Timeout = t.timeout(id)
		t.Backends = append(t.Backends, b)
	case "file":
		t.Files = append(t.Files, File{ID: id, Path: text(block["path"])})
	case "debug", "nop": // nothing leaves the process
	default:
		return fmt.Errorf("exporters/%s: a drill cannot stand in for what %s sends to", id, c.Type)
	}
	return nil
}

// timeout is the longest an attempt may take, as planned.
func (t *Topology) timeout(id string) (most time.Duration) {
	for i := range t.plan.Pipelines {
		for _, d := range t.plan.Pipelines[i].Destinations {
			for _, l := range d.Levels {
				if slices.Contains(l.Exporters, id) {
					most = max(most, l.Timeout)
				}
			}
		}
	}
	return most
}

// doors finds the ports that take telemetry.
func (t *Topology) doors() error {
	for i := range t.plan.Listeners {
		l := &t.plan.Listeners[i]
		id, ok := strings.CutPrefix(l.Component, "receivers/")
		if !ok {
			continue
		}
		c := t.cfg.Components[config.Receivers][id]
		if c == nil || c.Type != "otlp" {
			return fmt.Errorf("%s: a drill can send OTLP only", l.Component)
		}
		t.Doors = append(t.Doors, Door{Receiver: id, HTTP: strings.Contains(l.Key, "::http::"), TLS: l.TLS,
			ClientCA: l.ClientCA, listener: i})
	}
	if len(t.Doors) == 0 {
		return errors.New("no receiver takes OTLP: there is no door to send to")
	}
	return nil
}

func (t *Topology) connector(id string) *failover.Config {
	c := t.cfg.Components[config.Connectors][id]
	if c == nil {
		return nil
	}
	out, _ := c.Config.(*failover.Config) // a connector of another kind has none
	return out
}

func (t *Topology) block(kind config.Kind, id string) map[string]any {
	section, _ := t.cfg.Effective[string(kind)].(map[string]any)
	block, _ := section[id].(map[string]any)
	return block
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

func secureGRPC(block map[string]any) bool {
	if strings.HasPrefix(text(block["endpoint"]), "http://") {
		return false
	}
	tls, _ := block["tls"].(map[string]any)
	insecure, _ := tls["insecure"].(bool)
	return !insecure
}

func hasClientCert(block map[string]any) bool {
	tls, _ := block["tls"].(map[string]any)
	return tls["cert_file"] != nil || tls["cert_pem"] != nil
}
