// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"reflect"
	"strconv"
	"strings"

	"go.opentelemetry.io/collector/confmap"
)

// Walk calls visit for every struct in a component's configuration, outer before inner, with its path of keys.
// Optional blocks that are not there are left out. It is how what clients and servers have in common is found
// without knowing the component.
func Walk(cfg any, visit func(path string, v any)) { walk(reflect.ValueOf(cfg), "", visit) }

func walk(v reflect.Value, path string, visit func(path string, v any)) {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		if v.IsNil() {
			return
		}
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.Struct:
		if _, ok := optional(v.Type()); ok {
			walkOptional(v, path, visit)
			return
		}
		if v.CanInterface() {
			visit(path, v.Interface())
		}
		walkFields(v, path, visit)
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			walk(v.Index(i), join(path, strconv.Itoa(i)), visit)
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			if k.Kind() == reflect.String {
				walk(v.MapIndex(k), join(path, k.String()), visit)
			}
		}
	}
}

func walkOptional(v reflect.Value, path string, visit func(path string, v any)) {
	holder := v
	if !v.CanAddr() { // its Get has a pointer receiver
		holder = reflect.New(v.Type()).Elem()
		holder.Set(v)
	}
	got := holder.Addr().MethodByName("Get").Call(nil)[0]
	if !got.IsNil() {
		walk(got, path, visit)
	}
}

func walkFields(v reflect.Value, path string, visit func(path string, v any)) {
	t := v.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		name, rest, _ := strings.Cut(f.Tag.Get(confmap.MapstructureTag), ",")
		if !f.IsExported() || name == "-" {
			continue
		}
		at := path
		if !strings.Contains(rest, "squash") {
			if name == "" {
				name = f.Name
			}
			at = join(path, name)
		}
		walk(v.Field(i), at, visit)
	}
}
