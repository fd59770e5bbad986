// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package reload

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// The limits of what is read (section 3). Depth and nodes are counted by whoever parses.
const (
	maxTextBytes  = 8 << 20
	maxTotalBytes = 32 << 20
	readAgain     = 200 * time.Millisecond
	readLimit     = 10 * time.Second
	// stillFor is how long sources must have been left alone to be believed at the first reading: ten times what lies
	// between two, and more than the coarsest clock of a file system.
	stillFor = 2 * time.Second
)

// HashOf is the hash of a configuration: of one source what sha256sum prints, of several that of the lines
// "uri NUL sha256 LF" in their order.
func HashOf(texts []Text) string {
	sum := func(text string) string {
		s := sha256.Sum256([]byte(text))
		return hex.EncodeToString(s[:])
	}
	if len(texts) == 1 {
		return sum(texts[0].Text)
	}
	var lines strings.Builder
	for _, t := range texts {
		fmt.Fprintf(&lines, "%s\x00%s\n", t.URI, sum(t.Text))
	}
	return sum(lines.String())
}

// take reads until two readings in a row agree: YAML that is cut at the end of a line can be valid, and times of files
// can be those of where they were copied from. A failure that repeats itself is an answer too. One reading is enough where
// still, unless nil, can tell afterwards that nobody has written for so long.
func take(ctx context.Context, r Reader, still func(time.Duration) bool) ([]Text, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, readLimit, errUnstable)
	defer cancel()
	var before []Text
	var failed error
	first := true
	for {
		texts, err := r.Read(ctx)
		if ctx.Err() != nil {
			return nil, unread(ctx, failed)
		}
		if !first && agree(texts, err, before, failed) {
			if err != nil {
				return nil, refuse(ReasonUnread, "read configuration: %w", err)
			}
			return texts, check(texts)
		}
		if first && err == nil && still != nil && still(stillFor) {
			return texts, check(texts)
		}
		first, before, failed = false, texts, err
		if err := pause(ctx, readAgain); err != nil {
			return nil, unread(ctx, failed)
		}
	}
}

var errUnstable = &Refusal{Reason: ReasonUnstable,
	Err: fmt.Errorf("read configuration: it changed with every reading for %s", readLimit)}

// unread says why reading ended without two that agree: the time, or who asked went away.
func unread(ctx context.Context, last error) error {
	cause := context.Cause(ctx)
	if last != nil && errors.Is(cause, errUnstable) {
		return refuse(ReasonUnread, "read configuration: %w", last)
	}
	return cause
}

func agree(texts []Text, err error, before []Text, failed error) bool {
	if err != nil || failed != nil {
		return err != nil && failed != nil && err.Error() == failed.Error()
	}
	return slices.Equal(texts, before)
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// check is what can be said of a text before it is parsed.
func check(texts []Text) error {
	total := 0
	for _, t := range texts {
		total += len(t.Text)
		switch {
		case len(t.Text) > maxTextBytes:
			return refuse(ReasonTooLarge, "read configuration: %s has %d bytes, %d are allowed", t.URI, len(t.Text),
				maxTextBytes)
		case strings.TrimSpace(t.Text) == "":
			return refuse(ReasonEmpty, "read configuration: %s is empty", t.URI)
		case !utf8.ValidString(t.Text):
			return refuse(ReasonInvalid, "read configuration: %s is not UTF-8", t.URI)
		}
	}
	switch {
	case len(texts) == 0:
		return refuse(ReasonEmpty, "read configuration: there is no source")
	case total > maxTotalBytes:
		return refuse(ReasonTooLarge, "read configuration: %d bytes in all, %d are allowed", total, maxTotalBytes)
	}
	return nil
}
