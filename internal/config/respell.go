// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"reflect"

	"go.opentelemetry.io/collector/confmap"
)

// respell returns the tree with text where the type t takes text. A value from the environment is a number or a text
// as its key wants it: FOO=123 is 123 as a count and "123" as a name. The plain tree holds the number, and printed
// like that it could not be loaded again.
func (l *loader) respell(t reflect.Type, v any, path string) any {
	t = deref(t)
	if inner, ok := optional(t); ok {
		t = inner
	}
	m, ok := v.(map[string]any)
	if !ok || t.Kind() != reflect.Struct {
		return v
	}
	known, _ := fieldsOf(t)
	for k, e := range m {
		ft, ok := known[k]
		if !ok {
			continue
		}
		if plain := plainTexts(ft); plain != nil && holdsOther(e) {
			if text, ok := l.asWritten(path, k, plain); ok {
				m[k] = text
			}
			continue
		}
		m[k] = l.respell(ft, e, join(path, k))
	}
	return m
}

var (
	oneText   = reflect.TypeFor[string]()
	textList  = reflect.TypeFor[[]string]()
	textsByID = reflect.TypeFor[map[string]string]()
)

// plainTexts is the plain type of a text, a list of texts or a mapping to texts.
func plainTexts(t reflect.Type) reflect.Type {
	t = deref(t)
	switch {
	case t.Kind() == reflect.String:
		return oneText
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.String:
		return textList
	case t.Kind() == reflect.Map && t.Elem().Kind() == reflect.String:
		return textsByID
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct && mapList(t):
		return textsByID
	}
	return nil
}

// holdsOther reports whether v holds scalars that are no text.
func holdsOther(v any) bool {
	switch v := v.(type) {
	case nil, string:
		return false
	case []any:
		for _, e := range v {
			if holdsOther(e) {
				return true
			}
		}
		return false
	case map[string]any:
		for _, e := range v {
			if holdsOther(e) {
				return true
			}
		}
		return false
	}
	return true
}

// asWritten decodes one key of the block at path as t, which knows how values were written.
func (l *loader) asWritten(path, key string, t reflect.Type) (any, bool) {
	sub, err := l.conf.Sub(path)
	if err != nil {
		return nil, false
	}
	block := reflect.New(reflect.StructOf([]reflect.StructField{{
		Name: "Value", Type: t, Tag: reflect.StructTag(confmap.MapstructureTag + `:"` + key + `"`),
	}}))
	if err := sub.Unmarshal(block.Interface(), confmap.WithIgnoreUnused()); err != nil {
		return nil, false
	}
	switch got := block.Elem().Field(0).Interface().(type) {
	case []string:
		return anys(got), true
	case map[string]string:
		out := make(map[string]any, len(got))
		for k, v := range got {
			out[k] = v
		}
		return out, true
	default:
		return got, true
	}
}
