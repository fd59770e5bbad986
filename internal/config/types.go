// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"slices"
)

// types finds a Type by kind and by any of its spellings.
type types map[Kind]map[string]*Type

func newTypes(r *Registry) types {
	ts := types{}
	for _, k := range Kinds {
		ts[k] = map[string]*Type{}
	}
	if r == nil {
		return ts
	}
	for i := range r.Types {
		t := &r.Types[i]
		ts[t.Kind][t.Name] = t
		for _, a := range t.Aliases {
			ts[t.Kind][a] = t
		}
	}
	return ts
}

// unknown says what is wrong with a type name that is not there.
func (ts types) unknown(k Kind, name string) (text, hintText string) {
	text = fmt.Sprintf("unknown type %q", name)
	if near := Nearest(name, keys(ts[k])); near != "" {
		return text, fmt.Sprintf("did you mean %q?", near)
	}
	for _, other := range Kinds {
		if other != k && ts[other][name] != nil {
			return text, fmt.Sprintf("%s is one of the %s", name, other)
		}
	}
	if slices.Contains(foreignTypes[k], name) {
		return fmt.Sprintf("type %q is one of the Collector's %s that this build does not have", name, k),
			"native: " + list(keys(ts[k]))
	}
	return text, hint(name, keys(ts[k]), "types")
}

// nearestType hints at a type where nothing is defined that a reference could have meant.
func (ts types) nearestType(k Kind, id string) string {
	typ, _ := typeAndName(id)
	if near := Nearest(typ, keys(ts[k])); near != "" && near != typ {
		return fmt.Sprintf("there are none; did you mean %q?", near)
	}
	return "there are none"
}
