// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package reload

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// How often watched sources are read, and how long they have to say the same before anybody is told (section 3).
const (
	lookEvery = time.Second
	lookQuiet = 500 * time.Millisecond
)

// lookout asks for a reload when a watched source says something else than what was read last. It reads the text itself:
// times, sizes and inodes lie where files are copied with their times, and a name may lead elsewhere through links of
// any of its directories, as a mounted ConfigMap does (..data). What was rejected is not tried again before it changes.
type lookout struct {
	on    atomic.Bool // the configuration that governs wants it
	known struct {
		sync.Mutex
		texts []Text // what was read last for a configuration, by whoever asked
	}
}

// note keeps what a configuration was made of.
func (l *lookout) note(texts []Text) {
	l.known.Lock()
	defer l.known.Unlock()
	l.known.texts = texts
}

// news reports whether texts are not what a configuration was last made of. Sources it does not know are none.
func (l *lookout) news(texts []Text) bool {
	l.known.Lock()
	defer l.known.Unlock()
	return l.known.texts != nil && slices.ContainsFunc(texts, func(t Text) bool { return !slices.Contains(l.known.texts, t) })
}

// watch runs until ctx ends. It tells of each text once, however long it takes until it is read.
func (l *lookout) watch(ctx context.Context, read func(context.Context) ([]Text, error), notify func()) {
	var seen, told []Text
	for wait := lookEvery; pause(ctx, wait) == nil; {
		wait = lookEvery
		if !l.on.Load() {
			seen, told = nil, nil
			continue
		}
		texts, err := read(ctx)
		switch {
		case err != nil: // it is being replaced, or it is gone: what runs goes on
			seen, told = nil, nil
		case !slices.Equal(texts, seen):
			if seen, told = texts, nil; l.news(texts) {
				wait = lookQuiet
			}
		case l.news(texts) && !slices.Equal(texts, told):
			told = texts
			notify()
		}
	}
}
