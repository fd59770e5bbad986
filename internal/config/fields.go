// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"maps"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/collector/confmap"
)

// unknownKey is a key that no field of a type takes.
type unknownKey struct {
	path []string
	near string // what was meant, if that is clear
	hint string
}

var (
	unmarshaler = reflect.TypeFor[confmap.Unmarshaler]()
	duration    = reflect.TypeFor[time.Duration]()
)

// survey walks a tree along a type.
type survey struct {
	unknown []unknownKey // keys that the type does not know, in order
	bare    [][]string   // durations that are numbers without a unit
}

// look goes on with v at path, which t takes. Kinds that do not fit are left to decoding, which says more.
func (s *survey) look(t reflect.Type, v any, path []string) {
	t = deref(t)
	m, isMap := v.(map[string]any)
	if inner, ok := optional(t); ok {
		if isMap {
			m = maps.Clone(m)
			delete(m, "enabled")
			s.look(inner, m, path)
		}
		return
	}
	if t == duration {
		if n, ok := v.(int); ok && n != 0 {
			s.bare = append(s.bare, path)
		}
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		if isMap {
			s.fields(t, m, path)
		}
	case reflect.Map:
		for _, k := range sortedKeys(m) {
			s.look(t.Elem(), m[k], extend(path, k))
		}
	case reflect.Slice:
		list, _ := v.([]any)
		for i, e := range list {
			s.look(t.Elem(), e, extend(path, strconv.Itoa(i)))
		}
	}
}

func (s *survey) fields(t reflect.Type, m map[string]any, path []string) {
	known, open := fieldsOf(t)
	takesAll := open || len(known) == 0 && reflect.PointerTo(t).Implements(unmarshaler)
	for _, k := range sortedKeys(m) {
		if ft, ok := known[k]; ok {
			s.look(ft, m[k], extend(path, k))
		} else if !takesAll {
			names := keys(known)
			s.unknown = append(s.unknown, unknownKey{
				path: extend(path, k), near: Nearest(k, names), hint: hint(k, names, "keys"),
			})
		}
	}
}

// fieldsOf returns the keys of a struct type; open says that it takes any others too.
func fieldsOf(t reflect.Type) (known map[string]reflect.Type, open bool) {
	known = map[string]reflect.Type{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, rest, _ := strings.Cut(f.Tag.Get(confmap.MapstructureTag), ",")
		squash, remain := strings.Contains(rest, "squash"), strings.Contains(rest, "remain")
		switch {
		case !f.IsExported() || name == "-":
		case remain:
			open = true
		case squash:
			inner := deref(f.Type)
			if in, ok := optional(inner); ok {
				inner = deref(in)
			}
			if inner.Kind() != reflect.Struct {
				continue
			}
			more, o := fieldsOf(inner)
			open = open || o
			for k, ft := range more {
				known[k] = ft
			}
		default:
			if name == "" {
				name = f.Name
			}
			known[name] = f.Type
		}
	}
	return known, open
}

func deref(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// optional returns the T of a configoptional.Optional[T].
func optional(t reflect.Type) (reflect.Type, bool) {
	if t.Kind() != reflect.Struct || !strings.HasPrefix(t.Name(), "Optional[") {
		return nil, false
	}
	get, ok := reflect.PointerTo(t).MethodByName("Get")
	if !ok || get.Type.NumOut() != 1 {
		return nil, false
	}
	return deref(get.Type.Out(0)), true
}

func extend(path []string, key string) []string { return append(path[:len(path):len(path)], key) }

func sortedKeys[V any](m map[string]V) []string {
	ks := keys(m)
	sort.Strings(ks)
	return ks
}

// misfit is a value that could not be decoded.
type misfit struct {
	path string
	text string
}

// misfits takes a decoding error apart. The library nests it: names in steps, lists of causes.
func misfits(err error, path string) []misfit {
	type namer interface{ Name() string }
	if n, ok := err.(namer); ok { //nolint:errorlint // every step is looked at by itself
		path = join(path, plainPath(n.Name()))
		path = strings.TrimSuffix(path, separator)
	}
	switch u := err.(type) { //nolint:errorlint // every step is looked at by itself
	case interface{ Unwrap() []error }:
		var all []misfit
		for _, e := range u.Unwrap() {
			all = append(all, misfits(e, path)...)
		}
		return all
	case interface{ Unwrap() error }:
		if inner := u.Unwrap(); inner != nil && strings.Contains(fmt.Sprintf("%T", err), "mapstructure") ||
			inner != nil && strings.HasPrefix(err.Error(), "decoding failed") {
			return misfits(inner, path)
		}
	}
	return []misfit{{path, plainMisfit(err.Error())}}
}

// plainPath turns a.b[0][c] into a::b::0::c.
func plainPath(name string) string {
	name = strings.NewReplacer("[", separator, "]", "", ".", separator).Replace(name)
	return strings.Trim(name, ":")
}

// plainMisfit says in words what the library says in Go types.
func plainMisfit(text string) string {
	text = strings.TrimSpace(text)
	var want, got string
	switch {
	case strings.HasPrefix(text, "expected type '"):
		want, got, _ = strings.Cut(strings.TrimPrefix(text, "expected type '"), "', got unconvertible type '")
	case strings.HasPrefix(text, `expected a map or struct, got "`):
		want, got = "map", strings.TrimPrefix(text, `expected a map or struct, got "`)
	case strings.HasPrefix(text, "source data must be an array or slice, got "):
		want, got = "[]", strings.TrimPrefix(text, "source data must be an array or slice, got ")
	case strings.HasPrefix(text, "expected a map, got '"):
		want, got = "map", strings.TrimPrefix(text, "expected a map, got '")
	case strings.HasPrefix(text, "time: invalid duration"), strings.HasPrefix(text, "time: missing unit"),
		strings.HasPrefix(text, "time: unknown unit"):
		return "expected a duration such as 500ms, 30s or 5m"
	default:
		return text
	}
	return fmt.Sprintf("expected %s, got %s", goWord(want), goWord(strings.Trim(got, `'"`)))
}

func goWord(t string) string {
	switch {
	case strings.HasPrefix(t, "map"):
		return "a mapping"
	case strings.HasPrefix(t, "[]"), t == "slice":
		return "a list"
	case strings.HasPrefix(t, "int"), strings.HasPrefix(t, "uint"):
		return "a whole number"
	case strings.HasPrefix(t, "float"):
		return "a number"
	case t == "bool":
		return "true or false"
	case t == "time.Duration":
		return "a duration such as 500ms, 30s or 5m"
	}
	return "text"
}
