// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package config turns configuration documents into typed values, and says exactly what is wrong with them.
//
// It reads the Collector's configuration language: URIs merged in order, ${} expanded by scheme, spellings of other
// days translated, what is missing supplied where that is safe. Every finding names file, line, component, key and
// the way out. It knows no component: their types arrive in a Registry. Only this package knows YAML.
//
// Its many files are the steps of Load, each by itself: source, document, expand, translate, supply, components (with
// fields, types and nearest), service, host. What is done with a loaded configuration is in walk, respell and print.
package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

// Kind is one of the five sections that define components.
type Kind string

// The kinds, spelled as the sections are.
const (
	Receivers  Kind = "receivers"
	Processors Kind = "processors"
	Exporters  Kind = "exporters"
	Connectors Kind = "connectors"
	Extensions Kind = "extensions"
)

// Kinds lists the sections in the order in which they are shown.
var Kinds = [...]Kind{Receivers, Processors, Exporters, Connectors, Extensions}

// Type describes one component type to the loader.
type Type struct {
	Kind    Kind
	Name    string   // canonical
	Aliases []string // other spellings
	Default func() any
	// Supplied says that a bare reference to an undefined component of this type is filled in (compat, 4.2).
	Supplied bool
	// Module and Stability are shown by `components`.
	Module, Stability string
}

// Registry is every type there is.
type Registry struct{ Types []Type }

// Component is one configured instance.
type Component struct {
	Kind     Kind
	ID       string // as written: type[/name]
	Type     string // canonical type
	Name     string // after the slash, or empty
	Config   any    // what Type.Default returned, filled in
	Position Position
	Supplied bool // not written by the user
	Assumed  bool // stands for what a fragment refers to and does not define; Config holds the type's defaults
}

// Canonical is the ID with the canonical type: queues and cursors use it, so that a rename to an alias moves no data.
func (c *Component) Canonical() string {
	if c.Name == "" {
		return c.Type
	}
	return c.Type + "/" + c.Name
}

// Pipeline is one entry of service::pipelines.
type Pipeline struct {
	ID         string // signal[/name]
	Signal     otlp.Signal
	Receivers  []string
	Processors []string
	Exporters  []string
	Position   Position
}

// Service is the service section without its component references.
type Service struct {
	Extensions []string
	Pipelines  []Pipeline // sorted by signal, then name
	Telemetry  Telemetry
	Admission  Admission
	Reload     Reload
}

// Admission is service::admission.
type Admission struct {
	LimitMiB int64 `mapstructure:"limit_mib"` // 0 = a quarter of the memory there is
}

// Reload is service::reload; its behaviour is in reload.md.
type Reload struct {
	Trial     time.Duration `mapstructure:"trial"`
	Preflight string        `mapstructure:"preflight"`
	Watch     bool          `mapstructure:"watch"`
	OnBadBoot string        `mapstructure:"on_bad_boot"`
}

// Source is one URI a configuration was read from.
type Source struct {
	URI    string `json:"uri"`
	SHA256 string `json:"sha256"`
}

// Config is a valid configuration.
type Config struct {
	Sources    []Source
	Hash       string // reload.md 1: SHA-256 of the text, or of the lines "uri NUL sha256 LF"
	Components map[Kind]map[string]*Component
	Service    Service
	Findings   []Finding // notes and warnings, sorted by place
	// Effective is the document after expansion, translation and supply, as plain maps; Original is it before
	// translation. Secrets are in clear; Redact masks them.
	Effective, Original map[string]any
	// Fragment says that parts are missing and were not asked for. A fragment cannot be run.
	Fragment bool

	docs documents
}

// Where returns the place of a key, as exporters::otlp::timeout; for what is not written, the nearest thing around it.
func (c *Config) Where(path string) Position { return c.docs.where(path) }

// Defines reports whether the document has a block of that kind and ID, usable or not.
func (c *Config) Defines(kind Kind, id string) bool {
	section, _ := c.Effective[string(kind)].(map[string]any)
	_, ok := section[id]
	return ok
}

// HashOf is the SHA-256, in hex, of a component's type and of its block after expansion, without the given keys: equal
// blocks are equal instances, whatever they are called. It is no secret's hiding place: never show it.
func (c *Config) HashOf(kind Kind, id string, without ...string) string {
	comp := c.Components[kind][id]
	section, _ := c.Effective[string(kind)].(map[string]any)
	block, _ := section[id].(map[string]any)
	kept := maps.Clone(block)
	maps.DeleteFunc(kept, func(k string, _ any) bool { return slices.Contains(without, k) })
	text, err := json.Marshal(kept)
	if comp == nil || err != nil {
		return ""
	}
	sum := sha256.Sum256(append([]byte(comp.Type+"\n"), text...))
	return hex.EncodeToString(sum[:])
}

// Written reports whether a source has the key.
func (c *Config) Written(path string) bool { return c.docs.written(path) }

// Severity orders findings.
type Severity string

// The severities. Only errors make a configuration invalid; notes never change an exit code.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
	Note    Severity = "note"
)

// Position is a place in a source; Line and Column count from 1, 0 = unknown.
type Position struct {
	File   string
	Line   int
	Column int
	source int // which of the sources, for sorting
}

func (p Position) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

// Finding is one thing to say about a configuration.
type Finding struct {
	Severity  Severity
	Position  Position
	Component string // kind/id, e.g. exporters/otlp/primary; empty for the document
	Key       string
	Text      string
	Hint      string
}

// String is the finding as `validate` prints it: FILE:LINE: severity: COMPONENT: text (hint).
func (f Finding) String() string {
	var b strings.Builder
	if place := f.Position.String(); place != "" {
		b.WriteString(place + ": ")
	}
	b.WriteString(string(f.Severity) + ": ")
	if f.Component != "" {
		b.WriteString(f.Component + ": ")
	}
	b.WriteString(f.Text)
	if f.Hint != "" {
		b.WriteString(" (" + f.Hint + ")")
	}
	return b.String()
}

// InvalidError is a configuration that cannot be used; Findings holds every error and all else there is to say.
type InvalidError struct {
	Findings []Finding
	// Partial is what could be read, for printing and for further findings; it cannot be run. Never nil.
	Partial *Config
}

func (e *InvalidError) Error() string {
	var lines []string
	for _, f := range e.Findings {
		if f.Severity == Error {
			lines = append(lines, f.String())
		}
	}
	return strings.Join(lines, "\n")
}
