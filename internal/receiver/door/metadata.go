// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package door

import (
	"slices"
	"strings"

	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

// What is kept with a payload at most (faults, part C).
const (
	maxMetadataEntries = 32
	maxMetadataBytes   = 8 << 10
)

// credentials are never kept, even when they are asked for (faults, part D, 4).
var credentials = []string{"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"}

// metadataKeys is what may be kept of the keys asked for: lower case, sorted, without credentials.
func metadataKeys(asked []string) []string {
	var keys []string
	for _, k := range asked {
		if k = strings.ToLower(k); k != "" && !slices.Contains(credentials, k) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// metadataChoice is what a sink asked for and what is kept of it.
type metadataChoice struct{ asked, kept []string }

// metadata is what is kept at the moment: a sink may lead elsewhere by now, and ask for something else.
func (l *Lane) metadata() []string {
	asked := l.sink.MetadataKeys()
	if len(asked) == 0 {
		return nil
	}
	if c := l.keys.Load(); c != nil && len(c.asked) == len(asked) && &c.asked[0] == &asked[0] {
		return c.kept
	}
	kept := metadataKeys(asked)
	l.keys.Store(&metadataChoice{asked, kept})
	return kept
}

// WantsMetadata reports whether Metadata would look at anything.
func (l *Lane) WantsMetadata() bool { return len(l.metadata()) > 0 }

// Metadata is what is kept of a request's headers. values returns those of a key in lower case.
func (l *Lane) Metadata(values func(key string) []string) otlp.Metadata {
	var md otlp.Metadata
	entries, size, dropped := 0, 0, 0
	for _, key := range l.metadata() {
		var kept []string
		for _, v := range values(key) {
			if entries == maxMetadataEntries || size+len(key)+len(v) > maxMetadataBytes || strings.ContainsAny(v, "\r\n\x00") {
				dropped++
				continue
			}
			entries++
			size += len(key) + len(v)
			kept = append(kept, strings.Clone(v)) // a header may share its memory with all others
		}
		if len(kept) > 0 {
			md = append(md, otlp.MetadataEntry{Key: key, Values: kept})
		}
	}
	if dropped > 0 {
		l.door.metadataDropped.Add(int64(dropped))
	}
	return md
}
