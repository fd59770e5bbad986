// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"reflect"
	"slices"
	"strings"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
)

// decodeComponents turns the five sections into typed values.
func (l *loader) decodeComponents() {
	for _, kind := range Kinds {
		l.cfg.Components[kind] = map[string]*Component{}
		section := l.section(kind)
		for _, id := range sortedKeys(section) {
			l.decodeComponent(kind, id, section[id])
		}
	}
	l.checkAliases()
}

func (l *loader) decodeComponent(kind Kind, id string, value any) {
	path := string(kind) + separator + id
	var parsed component.ID
	if err := parsed.UnmarshalText([]byte(id)); err != nil {
		l.fail(path, "type, or type/name", "not a component ID: %v", err)
		return
	}
	typ, name := typeAndName(id)
	t := l.types[kind][typ]
	if t == nil {
		text, hintText := l.types.unknown(kind, typ)
		l.add(Error, path, text, hintText)
		return
	}
	if _, ok := value.(map[string]any); !ok && value != nil {
		l.fail(path, "", "expected a mapping, got %s", describe(value))
		return
	}
	c := &Component{Kind: kind, ID: id, Type: t.Name, Name: name, Config: t.Default(), Position: l.docs.defined(path)}
	if at, ok := l.supplied[path]; ok {
		c.Supplied, c.Position = true, at
	}
	l.decode(path, value, c.Config)
	l.cfg.Components[kind][id] = c
}

// assume stands in for a component that a fragment refers to, if its type is known.
func (l *loader) assume(kinds []Kind, id string, at string) {
	typ, name := typeAndName(id)
	for _, kind := range kinds {
		if t := l.types[kind][typ]; t != nil && l.cfg.Components[kind][id] == nil {
			l.cfg.Components[kind][id] = &Component{
				Kind: kind, ID: id, Type: t.Name, Name: name, Config: t.Default(), Position: l.docs.where(at), Assumed: true,
			}
			return
		}
	}
}

// decode fills into, a pointer, from the tree at path, and reports what does not fit.
func (l *loader) decode(path string, value, into any) {
	sub, err := l.conf.Sub(path)
	if err != nil {
		l.fail(path, "", "%v", err)
		return
	}
	var s survey
	s.look(reflect.TypeOf(into), value, nil)
	for _, at := range s.bare {
		key := strings.Join(at, separator)
		l.add(Warning, path+separator+key, prefix(key, "a number without a unit counts nanoseconds"), "write 5s, not 5")
	}
	var meant []string
	for _, u := range s.unknown {
		key := strings.Join(u.path, separator)
		l.unknownKey(path, key, &u)
		sub.Delete(key)
		if u.near != "" {
			meant = append(meant, "`"+u.near+"`")
		}
	}
	if value == nil {
		sub = confmap.New() // the Collector's: a key without a value takes the defaults
	}
	if err := sub.Unmarshal(into); err != nil {
		for _, m := range misfits(err, "") {
			if len(s.unknown) > 0 && strings.HasPrefix(m.text, "has invalid keys") {
				continue // in a list, where keys cannot be taken out; reported above
			}
			if at := l.outside(path, m.path); at != "" {
				l.fail(join(path, m.path), "", "%s%s", at, m.text)
				continue
			}
			l.fail(join(path, m.path), "", "%s", prefix(m.path, m.text))
		}
		return
	}
	l.respell(reflect.TypeOf(into), value, path)
	l.validate(path, into, meant)
}

func (l *loader) unknownKey(path, key string, u *unknownKey) {
	last := u.path[len(u.path)-1]
	if kind, id, ok := strings.Cut(path, separator); ok {
		typ, _ := typeAndName(id)
		if t := l.types[Kind(kind)][typ]; t != nil && len(u.path) == 1 && foreignKey(Kind(kind), t.Name, last) {
			l.fail(path+separator+key, "leave it out", "unknown key %q: the Collector's %s has it, the native one does not",
				last, t.Name)
			return
		}
	}
	l.fail(path+separator+key, u.hint, "%sunknown key %q", l.outside(path, strings.Join(u.path[:len(u.path)-1], separator)), last)
}

// outside names the place in the service section, where no component does.
func (l *loader) outside(path, key string) string {
	if component, _ := split(path); component != "" {
		return ""
	}
	if key != "" {
		path = join(path, key)
	}
	return path + ": "
}

// validate reports what the values' own checks say, except about keys that were only misspelt.
func (l *loader) validate(path string, cfg any, meant []string) {
	for _, text := range reasons(confmap.Validate(cfg)) {
		if slices.ContainsFunc(meant, func(key string) bool { return strings.Contains(text, key) }) {
			continue
		}
		key, plain := l.locate(path, text)
		if l.unexpanded[join(path, key)] {
			continue // its value could not be read, and that is said
		}
		if component, _ := split(path); component == "" {
			plain = path + separator + plain
		}
		l.add(Error, join(path, key), plain, "")
	}
}

// reasons parts joined errors into lines.
func reasons(err error) []string {
	if err == nil {
		return nil
	}
	var all []string
	switch e := err.(type) { //nolint:errorlint // every step is looked at by itself
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			all = append(all, reasons(one)...)
		}
	case interface{ Unwrap() error }:
		// What a wrapper puts in front, the path of keys, belongs to each of the errors inside.
		inner := e.Unwrap()
		front, ok := "", inner != nil
		if ok {
			front, ok = strings.CutSuffix(err.Error(), inner.Error())
		}
		if !ok {
			return []string{err.Error()}
		}
		for _, text := range reasons(inner) {
			all = append(all, front+text)
		}
	default:
		for line := range strings.Lines(err.Error()) {
			all = append(all, strings.TrimRight(line, "\n"))
		}
	}
	return all
}

// locate finds the key an error is about: confmap puts the path in front, `sending_queue::batch: …`, and validators
// put keys in backticks.
func (l *loader) locate(path, text string) (key, plain string) {
	if at, rest, ok := strings.Cut(text, ": "); ok && !strings.ContainsAny(at, " `") {
		key = strings.Trim(strings.ReplaceAll(at, separator+separator, separator), ":")
		plain = key + ": " + rest
	} else {
		plain = text
	}
	if _, quoted, ok := strings.Cut(plain, "`"); ok {
		if k, _, ok := strings.Cut(quoted, "`"); ok {
			if full := join(key, k); l.docs.written(join(path, full)) {
				return full, plain
			}
		}
	}
	return key, plain
}

func prefix(key, text string) string {
	if key == "" {
		return text
	}
	return "`" + key + "`: " + text
}

// checkAliases refuses two IDs that are one component: otlp/x and otlp_grpc/x.
func (l *loader) checkAliases() {
	for _, kind := range Kinds {
		seen := map[string]string{}
		for _, id := range sortedKeys(l.section(kind)) {
			c := l.cfg.Components[kind][id]
			if c == nil {
				continue
			}
			if other, ok := seen[c.Canonical()]; ok {
				l.fail(string(kind)+separator+id, "two spellings of one type; rename one",
					"%s and %s are the same component", other, id)
				continue
			}
			seen[c.Canonical()] = id
		}
	}
}
