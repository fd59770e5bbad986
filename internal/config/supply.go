// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// storageType is the type that `storage` keys name. It is supplied under any name, other types under their bare one.
const storageType = "file_storage"

// supply fills in what is referred to and not defined, where the type works with its defaults and nothing of the type
// is defined (compat, section 4.2). Whatever is left undefined is reported with the references.
func (l *loader) supply() {
	if l.opts.Fragment {
		return // there, everything is assumed instead
	}
	l.supplyStorages()
	l.refresh()
	for _, id := range l.pipelinesByPlace() {
		p, _ := l.pipelineTrees()[id].(map[string]any)
		for _, part := range []struct {
			key  string
			kind Kind
		}{{"receivers", Receivers}, {"processors", Processors}, {"exporters", Exporters}} {
			for i, ref := range texts(p[part.key]) {
				l.supplyBare(part.kind, ref, fmt.Sprintf("%s::%s::%d", pipelinePath(id), part.key, i))
			}
		}
	}
	for i, ref := range texts(l.serviceKey("extensions")) {
		l.supplyBare(Extensions, ref, fmt.Sprintf("service::extensions::%d", i))
	}
}

func (l *loader) pipelineTrees() map[string]any {
	m, _ := mapAt(l.tree, servicePath, "pipelines")
	return m
}

// pipelinesByPlace lists the pipelines in the order in which they are written.
func (l *loader) pipelinesByPlace() []string {
	ids := sortedKeys(l.pipelineTrees())
	slices.SortStableFunc(ids, func(a, b string) int {
		at, bt := l.docs.where(pipelinePath(a)), l.docs.where(pipelinePath(b))
		return cmp.Or(cmp.Compare(at.File, bt.File), cmp.Compare(at.Line, bt.Line))
	})
	return ids
}

// supplyBare defines a component that is referred to by its type alone.
func (l *loader) supplyBare(kind Kind, id, at string) {
	t := l.types[kind][id]
	if t == nil || !t.Supplied || l.definedAs(id, kind, Connectors) || len(l.ofType(kind, t)) > 0 {
		return
	}
	l.define(kind, id, at, fmt.Sprintf("%s %s is not defined: supplied with its defaults", singular(kind), id))
}

// define adds an empty block, remembers where it was asked for, and says so.
func (l *loader) define(kind Kind, id, at, text string) {
	l.set(string(kind)+separator+id, map[string]any{})
	l.supplied[string(kind)+separator+id] = l.docs.where(at)
	l.addSupplied(at, text)
	l.refresh()
}

// addSupplied notes a supplied part; strictly taken it is an error.
func (l *loader) addSupplied(at, text string) {
	severity := Note
	if l.opts.Strict {
		severity = Error
	}
	l.add(severity, at, text, "")
}

// ofType returns the IDs the user defined of a type, in any spelling.
func (l *loader) ofType(kind Kind, t *Type) []string {
	var ids []string
	for _, id := range sortedKeys(l.section(kind)) {
		typ, _ := typeAndName(id)
		if _, ours := l.supplied[string(kind)+separator+id]; l.types[kind][typ] == t && !ours {
			ids = append(ids, id)
		}
	}
	return ids
}

// supplyStorages defines and enables the storages that queues name.
func (l *loader) supplyStorages() {
	t := l.types[Extensions][storageType]
	if t == nil {
		return
	}
	for _, ref := range l.storageReferences() {
		if !l.definedAs(ref.id, Extensions) {
			typ, _ := typeAndName(ref.id)
			if typ != storageType || len(l.ofType(Extensions, t)) > 0 {
				continue
			}
			l.define(Extensions, ref.id, ref.path, fmt.Sprintf(
				"%s is not defined: supplied with its defaults, in %s", ref.id, defaultStorageDirectory))
			l.enable(ref.id)
			continue
		}
		if l.enable(ref.id) {
			l.addSupplied("extensions::"+ref.id, ref.id+" is not in service::extensions: enabled, a queue names it")
		}
	}
}

// enable lists an extension in service::extensions, and reports whether it was not.
func (l *loader) enable(id string) bool {
	listed := texts(l.serviceKey("extensions"))
	if slices.Contains(listed, id) {
		return false
	}
	l.remove("service::extensions")
	l.set("service::extensions", anys(append(listed, id)))
	l.refresh()
	return true
}

// storageReference is a queue that names a storage.
type storageReference struct{ id, path string }

// storageReferences lists them in the order of their components. Queues that are switched off need none.
func (l *loader) storageReferences() []storageReference {
	var refs []storageReference
	for _, kind := range []Kind{Exporters, Connectors} {
		for _, id := range sortedKeys(l.section(kind)) {
			m, _ := l.section(kind)[id].(map[string]any)
			q, _ := m["sending_queue"].(map[string]any)
			name, ok := q["storage"].(string)
			if ok && name != "" && q["enabled"] != false {
				refs = append(refs, storageReference{name, strings.Join(
					[]string{string(kind), id, "sending_queue", "storage"}, separator)})
			}
		}
	}
	return refs
}

func singular(kind Kind) string { return strings.TrimSuffix(string(kind), "s") }
