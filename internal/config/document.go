// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Bounds of what is read (reload, section 3). A document beyond them is a mistake or an attack. Merging and expanding
// copies a value once for every level above it, so what is bounded is the sum of all depths, aliases included: large
// configurations reach some fifty thousand; this many take a few seconds.
const (
	maxSourceBytes = 8 << 20
	maxTotalBytes  = 32 << 20
	maxDepth       = 100
	maxWeight      = 250_000
)

// separator joins keys to paths, as in the Collector.
const separator = "::"

// document is one source: its tree, and where in the text each key stands.
type document struct {
	uri, name string // as written; how positions call it
	source    int    // its place among the sources
	text      string
	tree      map[string]any
	places    map[string]Position // of the key, by path; entries of lists by number
	expanded  []reference         // texts with ${}
}

// reference is a scalar that is expanded.
type reference struct {
	path, text string
	position   Position
}

// parse reads d.text. The findings hold everything that is wrong with it; the tree is what could be read.
func (d *document) parse() []Finding {
	d.places = map[string]Position{}
	p := parser{doc: d, scanned: map[*yaml.Node]bool{}}
	if !utf8.ValidString(d.text) {
		return []Finding{{Severity: Error, Position: d.position(0, 0), Text: "the text is not UTF-8"}}
	}
	var root yaml.Node
	dec := yaml.NewDecoder(strings.NewReader(d.text))
	switch err := dec.Decode(&root); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return []Finding{d.syntax(err)}
	}
	switch v := p.value(&root, "", 0).(type) {
	case map[string]any:
		if !p.full { // half a document would only raise more questions
			d.tree = v
		}
	case nil:
	default:
		p.add(&root, "expected a mapping with sections like receivers and exporters, got "+describe(v), "")
	}
	var next yaml.Node
	if err := dec.Decode(&next); !errors.Is(err, io.EOF) {
		p.findings = append(p.findings, Finding{
			Severity: Warning, Position: d.at(&next),
			Text: "only the first document of this file is read",
		})
	}
	return p.findings
}

func (d *document) position(line, column int) Position {
	return Position{File: d.name, Line: line, Column: column, source: d.source}
}

func (d *document) at(n *yaml.Node) Position { return d.position(n.Line, n.Column) }

var lineOf = regexp.MustCompile(`^(?:yaml: )?line (\d+): `)

// syntax turns the parser's error into a finding.
func (d *document) syntax(err error) Finding {
	f := Finding{Severity: Error, Position: d.position(0, 0)}
	text := err.Error()
	if m := lineOf.FindStringSubmatch(text); m != nil {
		f.Position.Line, _ = strconv.Atoi(m[1])
		text = text[len(m[0]):]
	}
	f.Text = "not YAML: " + strings.TrimPrefix(text, "yaml: ")
	if bytes.ContainsRune([]byte(d.text), '\t') && strings.Contains(text, "cannot start any token") {
		f.Hint = "YAML is indented with blanks, not tabs"
	}
	return f
}

// parser turns nodes into plain values.
type parser struct {
	doc      *document
	findings []Finding
	weight   int  // sum of the depths of all values
	full     bool // a bound was passed; the rest is not read
	scanned  map[*yaml.Node]bool
}

func (p *parser) add(n *yaml.Node, text, hint string) {
	p.findings = append(p.findings, Finding{
		Severity: Error, Position: p.doc.at(n), Text: text, Hint: hint,
	})
}

// value returns map[string]any, []any, a scalar or nil.
func (p *parser) value(n *yaml.Node, path string, depth int) any {
	if p.weight += depth + 1; p.full || p.weight > maxWeight || depth > maxDepth {
		if !p.full {
			p.full = true
			p.add(n, fmt.Sprintf("too large: too many values, or nested deeper than %d, aliases included", maxDepth), "")
		}
		return nil
	}
	switch n.Kind {
	case yaml.DocumentNode:
		if len(n.Content) != 1 {
			return nil
		}
		return p.value(n.Content[0], path, depth)
	case yaml.AliasNode:
		return p.value(n.Alias, path, depth+1)
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for i, e := range n.Content {
			at := join(path, strconv.Itoa(i))
			p.place(at, e)
			list = append(list, p.value(e, at, depth+1))
		}
		return list
	case yaml.MappingNode:
		return p.mapping(n, path, depth)
	case yaml.ScalarNode:
		return p.scalar(n, path)
	}
	return nil
}

func (p *parser) place(path string, n *yaml.Node) {
	if _, ok := p.doc.places[path]; !ok {
		p.doc.places[path] = p.doc.at(n)
	}
}

func (p *parser) mapping(n *yaml.Node, path string, depth int) map[string]any {
	m := make(map[string]any, len(n.Content)/2)
	first := map[string]int{}
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Tag == "!!merge" {
			merged = append(merged, value)
			continue
		}
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if key.Kind != yaml.ScalarNode {
			p.add(key, "a key must be a word", "")
			continue
		}
		at := join(path, key.Value)
		if line, ok := first[key.Value]; ok {
			if !p.scanned[key] { // an alias shows it again
				p.scanned[key] = true
				p.add(key, fmt.Sprintf("duplicate key %q", key.Value), fmt.Sprintf("first on line %d", line))
			}
			continue
		}
		first[key.Value] = key.Line
		p.place(at, key)
		m[key.Value] = p.value(value, at, depth+1)
	}
	for _, value := range merged {
		p.merge(m, value, path, depth+1)
	}
	return m
}

// merge adds what the key << names; keys that are written win, and of several the first.
func (p *parser) merge(m map[string]any, n *yaml.Node, path string, depth int) {
	if n.Kind == yaml.SequenceNode {
		for _, e := range n.Content {
			p.merge(m, e, path, depth+1)
		}
		return
	}
	other, ok := p.value(n, path, depth).(map[string]any)
	if !ok {
		if !p.full {
			p.add(n, "<< needs a mapping", "")
		}
		return
	}
	for k, v := range other {
		if _, ok := m[k]; !ok {
			m[k] = v
		}
	}
}

func (p *parser) scalar(n *yaml.Node, path string) any {
	var v any
	if err := n.Decode(&v); err != nil {
		p.add(n, "cannot read this value: "+strings.TrimPrefix(err.Error(), "yaml: "), "")
		return nil
	}
	if s, ok := v.(string); ok && strings.Contains(s, "${") {
		p.doc.expanded = append(p.doc.expanded, reference{
			path: path, text: s, position: p.doc.at(n),
		})
	}
	return v
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + separator + key
}

// describe says what kind of value v is.
func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "nothing"
	case map[string]any:
		return "a mapping"
	case []any:
		return "a list"
	case string:
		return "text"
	case bool:
		return fmt.Sprint(v)
	}
	return "a number"
}

// documents are all sources, in the order in which they are merged.
type documents []*document

// where returns the place of path: the last source that has it, which is the one that counts. For what is not
// written, the nearest thing around it.
func (ds documents) where(path string) Position {
	for path != "" {
		for i := len(ds) - 1; i >= 0; i-- {
			if pos, ok := ds[i].places[path]; ok {
				return pos
			}
		}
		cut := strings.LastIndex(path, separator)
		if cut < 0 {
			break
		}
		path = path[:cut]
	}
	if len(ds) > 0 {
		return ds[0].position(0, 0)
	}
	return Position{}
}

// defined returns the place where path is written first.
func (ds documents) defined(path string) Position {
	for _, d := range ds {
		if pos, ok := d.places[path]; ok {
			return pos
		}
	}
	return ds.where(path)
}

// written reports whether a source has path.
func (ds documents) written(path string) bool {
	for _, d := range ds {
		if _, ok := d.places[path]; ok {
			return true
		}
	}
	return false
}
