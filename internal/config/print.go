// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"encoding/json"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"go.opentelemetry.io/collector/config/configopaque"
	"go.yaml.in/yaml/v3"
)

// Redacted stands for a secret.
const Redacted = "[REDACTED]"

// Redact returns a copy of tree, which is Effective or Original, with every secret masked: fields their types call
// opaque, headers of telemetry exporters, and passwords in URLs.
func (c *Config) Redact(tree map[string]any) map[string]any {
	out := make(map[string]any, len(tree))
	for section, v := range tree {
		entries, ok := v.(map[string]any)
		if !ok || !slices.Contains(Kinds[:], Kind(section)) {
			out[section] = redact(reflect.TypeFor[serviceBlock](), v, false)
			continue
		}
		masked := make(map[string]any, len(entries))
		for id, e := range entries {
			if comp := c.Components[Kind(section)][id]; comp != nil && comp.Config != nil {
				masked[id] = redact(reflect.TypeOf(comp.Config), e, false)
			} else {
				masked[id] = redact(nil, e, false)
			}
		}
		out[section] = masked
	}
	return out
}

var opaque = reflect.TypeFor[configopaque.String]()

// redact walks v along the type t, or without one, when secrets are known by the names of keys.
func redact(t reflect.Type, v any, secret bool) any {
	if t != nil {
		t = deref(t)
		if inner, ok := optional(t); ok {
			t = deref(inner)
		}
	}
	if t != nil && (t.Kind() == reflect.Interface || t.Kind() == reflect.Map && t.Elem().Kind() == reflect.Interface) {
		t = nil
	}
	secret = secret || t == opaque
	switch v := v.(type) {
	case map[string]any:
		return redactMap(t, v, secret)
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = redact(elem(t), e, secret)
		}
		return out
	case string:
		if secret && v != "" {
			return Redacted
		}
		return redactURL(v)
	case nil:
		return nil
	}
	if secret {
		return Redacted
	}
	return v
}

func redactMap(t reflect.Type, m map[string]any, secret bool) map[string]any {
	out := make(map[string]any, len(m))
	var fields map[string]reflect.Type
	if t != nil && t.Kind() == reflect.Struct {
		fields, _ = fieldsOf(t)
	}
	// A MapList is written as a mapping of names to secrets, or as a list of name and value.
	list := t != nil && t.Kind() == reflect.Slice
	for k, e := range m {
		switch {
		case fields != nil && fields[k] != nil:
			out[k] = redact(fields[k], e, secret)
		case list:
			out[k] = redact(nil, e, secret || mapList(t))
		case t != nil && t.Kind() == reflect.Map:
			out[k] = redact(t.Elem(), e, secret)
		default:
			out[k] = redact(nil, e, secret || secretName(k))
		}
	}
	return out
}

func elem(t reflect.Type) reflect.Type {
	if t != nil && (t.Kind() == reflect.Slice || t.Kind() == reflect.Array) {
		return t.Elem()
	}
	return nil
}

// mapList reports whether t is a list of pairs with an opaque value.
func mapList(t reflect.Type) bool {
	e := deref(t.Elem())
	if e.Kind() != reflect.Struct {
		return false
	}
	f, ok := e.FieldByName("Value")
	return ok && f.Type == opaque
}

// secretName reports whether a key without a type is likely to hold a secret.
func secretName(key string) bool {
	key = strings.ToLower(key)
	for _, word := range []string{"header", "password", "secret", "token", "api_key", "apikey", "authorization", "key_pem"} {
		if strings.Contains(key, word) {
			return true
		}
	}
	return false
}

// redactURL masks the password of a URL.
func redactURL(s string) string {
	if !strings.Contains(s, "@") || !strings.Contains(s, "://") {
		return s
	}
	u, err := url.Parse(s)
	if err != nil || u.User == nil {
		return s
	}
	if _, ok := u.User.Password(); !ok {
		return s
	}
	return strings.Replace(s, u.User.String()+"@", u.User.Username()+":"+Redacted+"@", 1)
}

// MarshalYAML prints a document, sections in the order of the documentation, keys in alphabetical order.
func MarshalYAML(tree map[string]any) ([]byte, error) {
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	var root yaml.Node
	if err := root.Encode(tree); err != nil {
		return nil, err
	}
	sortSections(&root)
	if err := enc.Encode(&root); err != nil {
		return nil, err
	}
	return out.Bytes(), enc.Close()
}

func sortSections(root *yaml.Node) {
	rank := func(n *yaml.Node) int {
		if i := slices.Index(Kinds[:], Kind(n.Value)); i >= 0 {
			return i
		}
		return len(Kinds)
	}
	type pair struct{ key, value *yaml.Node }
	var pairs []pair
	for i := 0; i+1 < len(root.Content); i += 2 {
		pairs = append(pairs, pair{root.Content[i], root.Content[i+1]})
	}
	slices.SortStableFunc(pairs, func(a, b pair) int { return rank(a.key) - rank(b.key) })
	root.Content = root.Content[:0]
	for _, p := range pairs {
		root.Content = append(root.Content, p.key, p.value)
	}
}

// MarshalJSON prints a document as JSON.
func MarshalJSON(tree map[string]any) ([]byte, error) {
	text, err := json.MarshalIndent(tree, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(text, '\n'), nil
}
