// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package layout is where things are in a store's directory: the names of section 4 of the journal's specification.
//
//	<directory>/
//	  LOCK  RESERVE
//	  pipelines/traces~2finput/     one journal
//	    seg/0000000042.seg          segments
//	    cur/failover~2ftraces.cur   cursors
//	    dead/seg/…                  dead letters
//	    bad/                        quarantine
//
// It stands beside the journal's rooms, which all ask here. It only makes and reads names; it touches no disk.
package layout

import (
	"crypto/sha256"
	"encoding/hex"
	"path"
	"strconv"
	"strings"
)

// Names in a store's directory.
const (
	LockFile    = "LOCK"
	ReserveFile = "RESERVE"
	Pipelines   = "pipelines"
	Segments    = "seg"
	Cursors     = "cur"
	Dead        = "dead"
	Bad         = "bad"

	SegmentSuffix = ".seg"
	CursorSuffix  = ".cur"
	TempSuffix    = ".tmp"

	idDigits  = 10
	maxName   = 100 // bytes of an escaped name
	keptName  = 60  // of one that is longer
	hashBytes = 8   // of SHA-256, behind it
)

// Escape is a component ID as the name of a file or directory: bytes outside [A-Za-z0-9._-] become ~ and two hex
// digits, and above 100 bytes it is the first 60, ~~ and 16 hex digits of the ID's SHA-256. A name that would be hidden
// or mean another directory has its first dot written so too. A name that was shortened stays as it is: it is all that
// is known of its ID, and no ID has ~ in it.
func Escape(id string) string {
	if shortened(id) {
		return id
	}
	var b strings.Builder
	for i := range len(id) {
		c := id[i]
		plain := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-' ||
			c == '.' && i > 0
		if plain {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('~')
		b.WriteString(hex.EncodeToString([]byte{c}))
	}
	if b.Len() <= maxName {
		return b.String()
	}
	sum := sha256.Sum256([]byte(id))
	return b.String()[:keptName] + "~~" + hex.EncodeToString(sum[:hashBytes])
}

func shortened(name string) bool {
	if len(name) != keptName+2+2*hashBytes || name[keptName:keptName+2] != "~~" {
		return false
	}
	_, err := hex.DecodeString(name[keptName+2:])
	return err == nil
}

// Unescape is the ID that Escape made name from; false if name is none of its, or was shortened.
func Unescape(name string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		if name[i] != '~' {
			b.WriteByte(name[i])
			continue
		}
		if i+2 >= len(name) {
			return "", false
		}
		c, err := hex.DecodeString(name[i+1 : i+3])
		if err != nil {
			return "", false
		}
		b.WriteByte(c[0])
		i += 2
	}
	id := b.String()
	return id, id != "" && Escape(id) == name
}

// Pipeline is the directory of one journal.
func Pipeline(directory, id string) string { return path.Join(directory, Pipelines, Escape(id)) }

// Segment is the file of a segment in a seg directory.
func Segment(dir string, id uint64) string {
	digits := strconv.FormatUint(id, 10)
	return path.Join(dir, strings.Repeat("0", max(0, idDigits-len(digits)))+digits+SegmentSuffix)
}

// SegmentID reads a segment's file name.
func SegmentID(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, SegmentSuffix)
	if !ok || len(digits) < idDigits || len(digits) > idDigits && digits[0] == '0' {
		return 0, false
	}
	for i := range len(digits) {
		if digits[i] < '0' || digits[i] > '9' {
			return 0, false
		}
	}
	id, err := strconv.ParseUint(digits, 10, 64)
	return id, err == nil && id > 0
}

// Cursor is the file of a destination's cursor in a journal's directory.
func Cursor(journal, destination string) string {
	return path.Join(journal, Cursors, Escape(destination)+CursorSuffix)
}
