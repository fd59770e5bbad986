// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
)

// explanation is the plan in JSON; durations are Go's.
type explanation struct {
	Hash        string             `json:"hash"`
	Sources     []config.Source    `json:"sources"`
	Pipelines   []pipelineDocument `json:"pipelines"`
	Storages    []storageDocument  `json:"storages"`
	Listeners   []listenerDocument `json:"listeners"`
	Directories []directory        `json:"directories"`
	Memory      []bound            `json:"memory"`
	Findings    []findingDocument  `json:"findings"`
}

type pipelineDocument struct {
	ID           string                `json:"id"`
	Signal       string                `json:"signal"`
	Receivers    []string              `json:"receivers"`
	Processors   []string              `json:"processors"`
	Storage      string                `json:"storage"`
	Directory    string                `json:"directory"`
	Synced       bool                  `json:"synced"`
	Promise      plan.Promise          `json:"promise"`
	Destinations []destinationDocument `json:"destinations"`
}

type storageDocument struct {
	Directory    string   `json:"directory"`
	Extensions   []string `json:"extensions"`
	Pipelines    []string `json:"pipelines"`
	MaxBytes     int64    `json:"max_bytes"`     // 0 = 80 % of the volume
	JournalBytes int64    `json:"journal_bytes"` // 0 = no bound of its own
	MinFreeBytes int64    `json:"min_free_bytes"`
	Synced       bool     `json:"synced"`
	Overflow     string   `json:"overflow"`
	ParkedHold   string   `json:"parked_hold"`
	GivesWay     []string `json:"gives_way"`
	MemoryBytes  int64    `json:"memory_bytes"`
}

type destinationDocument struct {
	Name    string          `json:"name"`
	ID      string          `json:"id"`
	Waits   bool            `json:"waits"`
	Storage string          `json:"storage"`
	Queue   *queueDocument  `json:"queue"`
	Batch   *batchDocument  `json:"batch"`
	Workers int             `json:"workers"`
	Levels  []levelDocument `json:"levels"`
	Route   *routeDocument  `json:"route"`
}

type queueDocument struct {
	Sizer      string `json:"sizer"`
	Size       int64  `json:"size"`
	BatchItems uint32 `json:"batch_items"`
	Blocks     bool   `json:"blocks"`
}

type batchDocument struct {
	Sizer    string `json:"sizer"`
	Min      int64  `json:"min"`
	Max      int64  `json:"max"`
	MaxBytes int64  `json:"max_bytes"`
	Timeout  string `json:"timeout"`
}

type levelDocument struct {
	Pipelines []string       `json:"pipelines"`
	Exporters []string       `json:"exporters"`
	Workers   int            `json:"workers"`
	Timeout   string         `json:"timeout"`
	Retry     *retryDocument `json:"retry"`
	Emergency bool           `json:"emergency"`
}

type retryDocument struct {
	InitialInterval string  `json:"initial_interval"`
	Multiplier      float64 `json:"multiplier"`
	MaxInterval     string  `json:"max_interval"`
	MaxElapsedTime  string  `json:"max_elapsed_time"`
}

type routeDocument struct {
	Connector     string   `json:"connector"`
	RetryInterval string   `json:"retry_interval"`
	RetryGap      string   `json:"retry_gap"`
	MaxRetries    int      `json:"max_retries"`
	Lifted        []string `json:"lifted"`
}

type listenerDocument struct {
	Address   string `json:"address"`
	Network   string `json:"network"`
	Component string `json:"component"`
	Purpose   string `json:"purpose"`
	TLS       bool   `json:"tls"`
	ClientCA  bool   `json:"client_ca"`
	Auth      string `json:"auth"`
}

func explanationOf(c *Checked) explanation {
	doc := explanation{
		Hash: c.Config.Hash, Sources: c.Config.Sources, Pipelines: []pipelineDocument{}, Listeners: []listenerDocument{},
		Directories: append([]directory{}, directoriesOf(c.Config)...), Memory: boundsOf(c.Config, c.Plan),
		Findings: documentsOf(c.Findings),
	}
	for i := range c.Plan.Pipelines {
		doc.Pipelines = append(doc.Pipelines, pipelineOf(&c.Plan.Pipelines[i]))
	}
	doc.Storages = storagesOf(c)
	for _, l := range c.Plan.Listeners {
		doc.Listeners = append(doc.Listeners, listenerDocument{
			Address: l.Address, Network: l.Network, Component: l.Component, Purpose: l.Purpose, TLS: l.TLS,
			ClientCA: l.ClientCA, Auth: l.Auth,
		})
	}
	return doc
}

func storagesOf(c *Checked) []storageDocument {
	out := []storageDocument{}
	for i := range c.Plan.Storages {
		s := &c.Plan.Storages[i]
		d := describeStorage(c.Config, c.Plan, s)
		out = append(out, storageDocument{
			Directory: s.Directory, Extensions: s.IDs, Pipelines: append([]string{}, s.Heads...), MaxBytes: s.MaxBytes,
			JournalBytes: d.JournalBytes, MinFreeBytes: d.MinFreeBytes, Synced: s.Synced, Overflow: d.Overflow,
			ParkedHold: d.ParkedHold.String(), GivesWay: append([]string{}, d.GivesWay...),
			MemoryBytes: d.JournalMemoryBytes + d.CacheBytes,
		})
	}
	return out
}

func pipelineOf(p *plan.Pipeline) pipelineDocument {
	doc := pipelineDocument{
		ID: p.ID, Signal: p.Signal.String(), Receivers: append([]string{}, p.Receivers...),
		Processors: append([]string{}, p.Processors...), Storage: p.Storage, Directory: p.Directory, Synced: p.Synced,
		Promise: p.Promise(), Destinations: []destinationDocument{},
	}
	for i := range p.Destinations {
		doc.Destinations = append(doc.Destinations, destinationOf(&p.Destinations[i]))
	}
	return doc
}

func destinationOf(d *plan.Destination) destinationDocument {
	doc := destinationDocument{
		Name: d.Name, ID: d.Label, Waits: d.Wait, Storage: d.Storage, Workers: d.Workers, Levels: []levelDocument{},
	}
	if !d.Wait {
		doc.Queue = &queueDocument{d.Limit.Sizer.String(), d.Limit.Max, d.Limit.BatchItems, d.Limit.Block}
		doc.Batch = &batchDocument{
			Sizer: d.Want.Sizer.String(), Min: d.Want.Min, Max: d.Want.Max, MaxBytes: d.Want.MaxBytes,
			Timeout: d.Want.Linger.String(),
		}
	}
	for _, l := range d.Levels {
		level := levelDocument{
			Pipelines: append([]string{}, l.Pipelines...), Exporters: l.Exporters, Workers: l.Workers,
			Timeout: l.Timeout.String(), Emergency: l.Emergency,
		}
		if l.Retry.Enabled {
			level.Retry = &retryDocument{
				l.Retry.InitialInterval.String(), l.Retry.Multiplier, l.Retry.MaxInterval.String(),
				l.Retry.MaxElapsedTime.String(),
			}
		}
		doc.Levels = append(doc.Levels, level)
	}
	if r := d.Route; r != nil {
		doc.Route = &routeDocument{
			Connector: r.Connector, RetryInterval: r.RetryInterval.String(), RetryGap: r.RetryGap.String(),
			MaxRetries: r.MaxRetries, Lifted: append([]string{}, r.Lifted...),
		}
	}
	return doc
}
