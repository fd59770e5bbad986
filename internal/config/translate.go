// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"go.opentelemetry.io/collector/confmap"
)

// translate rewrites spellings of other days on the merged tree (compat, section 4.6), each with a note that stands
// where the words stand in the source. Translations that depend on the whole graph are the plan's.
func (l *loader) translate() {
	for _, step := range []func(){
		l.dropBallast, l.renameLogging, l.moveFlatKeepalives, l.readAddress, l.noteStorages, l.warnLivenessProbe,
	} {
		step()
		l.refresh()
	}
}

// move takes a key out of the tree and puts it elsewhere, unless something is there already. Values that came from
// the environment keep what their type makes of them, not how they were written.
func (l *loader) move(from, to string) {
	v := l.conf.Get(from)
	l.remove(from)
	if !l.conf.IsSet(to) {
		l.set(to, v)
	}
}

// remove takes path out of the tree; refresh shows it.
func (l *loader) remove(path string) {
	l.conf.Delete(path)
	l.stale = true
}

// set merges v into the tree at path; refresh shows it.
func (l *loader) set(path string, v any) {
	l.stale = true
	parts := strings.Split(path, separator)
	for i := len(parts) - 1; i >= 0; i-- {
		v = map[string]any{parts[i]: v}
	}
	// Merging plain maps fails only for values of other types, and there are none.
	_ = l.conf.Merge(confmap.NewFromStringMap(v.(map[string]any)))
}

// each calls f for every component of a kind whose type is one of names, with its path and its keys.
func (l *loader) each(kind Kind, f func(id, path string, keys map[string]any), names ...string) {
	section := l.section(kind)
	for _, id := range sortedKeys(section) {
		if typ, _ := typeAndName(id); slices.Contains(names, typ) {
			m, _ := section[id].(map[string]any)
			f(id, string(kind)+separator+id, m)
		}
	}
}

// dropBallast takes out the memory ballast: GOMEMLIMIT does what it was for.
func (l *loader) dropBallast() {
	l.each(Extensions, func(id, path string, _ map[string]any) {
		l.add(Note, path, id+" has no effect since GOMEMLIMIT exists", "")
		l.remove(path)
		listed := texts(l.serviceKey("extensions"))
		if i := slices.Index(listed, id); i >= 0 {
			l.remove("service::extensions")
			l.set("service::extensions", anys(slices.Delete(listed, i, i+1)))
		}
		l.refresh()
	}, "memory_ballast")
	l.each(Processors, func(_, path string, m map[string]any) {
		const key = "ballast_size_mib"
		if _, ok := m[key]; ok {
			l.add(Note, path+separator+key, key+" has no effect since GOMEMLIMIT exists", "")
			l.remove(path + separator + key)
		}
	}, "memory_limiter")
}

// renameLogging turns the logging exporter's loglevel into debug's verbosity. The type's name is an alias.
func (l *loader) renameLogging() {
	l.each(Exporters, func(_, path string, m map[string]any) {
		l.add(Note, path, "logging is called debug", "")
		level, ok := m["loglevel"]
		if !ok {
			return
		}
		l.remove(path + separator + "loglevel")
		if _, ok := m["verbosity"]; ok {
			return
		}
		verbosity := "normal"
		if level == "debug" {
			verbosity = "detailed"
		}
		l.set(path+separator+"verbosity", verbosity)
	}, "logging")
}

// moveFlatKeepalives writes the flat keys of HTTP clients and servers as keepalive::….
func (l *loader) moveFlatKeepalives() {
	move := func(path string, m map[string]any, names ...string) {
		for _, key := range names {
			if _, ok := m[key]; ok {
				l.add(Note, path+separator+key, key+" is written keepalive::"+key, "")
				l.move(path+separator+key, path+separator+"keepalive"+separator+key)
			}
		}
	}
	l.each(Exporters, func(_, path string, m map[string]any) {
		move(path, m, "idle_conn_timeout", "max_idle_conns", "max_idle_conns_per_host")
	}, "otlp_http", "otlphttp")
	l.each(Receivers, func(_, path string, m map[string]any) {
		protocols, _ := m["protocols"].(map[string]any)
		http, _ := protocols["http"].(map[string]any)
		move(path+"::protocols::http", http, "idle_timeout")
	}, "otlp")
	l.each(Extensions, func(_, path string, m map[string]any) {
		move(path, m, "idle_timeout")
	}, "health_check", "zpages", "status")
}

// readAddress reads service::telemetry::metrics::address as the reader it used to mean, with the bare names it had.
func (l *loader) readAddress() {
	const path = "service::telemetry::metrics::address"
	metrics, _ := mapAt(l.tree, "service", "telemetry", "metrics")
	address, ok := metrics["address"].(string)
	if !ok {
		return // absent, or of a kind that decoding refuses
	}
	if _, ok := metrics["readers"]; ok {
		l.add(Note, path, "address is ignored: readers is set", "")
		l.remove(path)
		return
	}
	host, portText, err := net.SplitHostPort(address)
	port, perr := strconv.ParseUint(portText, 10, 16)
	if err != nil || perr != nil {
		l.fail(path, "", "`metrics::address`: expected host:port, got %q", address)
		l.remove(path)
		return
	}
	if host == "" {
		host = "0.0.0.0"
	}
	l.add(Note, path, fmt.Sprintf("address is read as readers: [{pull: {exporter: {prometheus: {host: %s, port: %d}}}}]",
		host, port), "")
	l.remove(path)
	l.set("service::telemetry::metrics::readers", []any{map[string]any{"pull": map[string]any{
		"exporter": map[string]any{"prometheus": map[string]any{
			"host": host, "port": int(port),
			"without_scope_info": true, "without_type_suffix": true, "without_units": true,
		}},
	}}})
}

// defaultStorageDirectory is where a storage keeps its files unless it says otherwise.
const defaultStorageDirectory = "/var/lib/otelcol/file_storage"

// noteStorages says what the Collector's keys of file_storage mean for a journal.
func (l *loader) noteStorages() {
	l.each(Extensions, func(_, path string, m map[string]any) {
		dir, ok := m["directory"].(string)
		if !ok {
			dir = defaultStorageDirectory
		}
		if limit, ok := m["max_file_size_mib"]; ok {
			l.add(Note, path+"::max_file_size_mib",
				fmt.Sprintf("max_file_size_mib caps everything under %s at %v MiB", dir, limit), "")
		}
		if _, ok := m["timeout"]; ok {
			l.add(Note, path+"::timeout",
				"timeout bounds the wait for the lock; a stalled disk refuses new data after 5s", "")
		}
		for _, key := range []string{"compaction", "recreate"} {
			if _, ok := m[key]; ok {
				l.add(Note, path+separator+key, key+" has no effect: the journal needs none", "")
			}
		}
	}, storageType)
}

// warnLivenessProbe warns of a health path that tells of backends where probes look.
func (l *loader) warnLivenessProbe() {
	l.each(Extensions, func(_, path string, m map[string]any) {
		check, _ := m["check_collector_pipeline"].(map[string]any)
		at, ok := m["path"].(string)
		if check["enabled"] == true && (!ok || at == "/") {
			l.add(Warning, path+"::check_collector_pipeline",
				"a liveness probe on / would restart this process when a backend is down; set path: /health", "")
		}
	}, "health_check")
}

func (l *loader) serviceKey(key string) any {
	service, _ := l.tree[servicePath].(map[string]any)
	return service[key]
}

func mapAt(m map[string]any, keys ...string) (map[string]any, bool) {
	for _, k := range keys {
		next, ok := m[k].(map[string]any)
		if !ok {
			return nil, false
		}
		m = next
	}
	return m, true
}

// texts reads a list of words; like decoding, it takes a text with commas for one.
func texts(v any) []string {
	switch v := v.(type) {
	case string:
		return strings.Split(v, ",")
	case []any:
		var out []string
		for _, e := range v {
			if s, ok := e.(string); ok {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}

func anys(words []string) []any {
	out := make([]any, len(words))
	for i, w := range words {
		out[i] = w
	}
	return out
}
