// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ownDir is the state directory within a storage's.
const ownDir = ".holdfast"

// The places that need nobody to name them: the package's, and those of the storages that people use, where a process
// may have put its state because nothing else was mounted.
const defaultDir = "/var/lib/holdfast"

var knownStorages = []string{"/var/lib/otel/queue", "/var/lib/otelcol/file_storage", "/var/lib/otelcol"}

// Places are the directories in which state may be, best first (reload, section 9): the flag, $HOLDFAST_STATE_DIR, the
// first of $STATE_DIRECTORY, which a service manager sets, and the package's own. A storage's directory is where a pod
// has nothing else. named counts those that somebody asked for.
func Places(flag string, getenv func(string) string, storages []string) (dirs []string, named int) {
	add := func(dir string) {
		if dir != "" {
			dirs = append(dirs, dir)
		}
	}
	add(flag)
	add(getenv("HOLDFAST_STATE_DIR"))
	first, _, _ := strings.Cut(getenv("STATE_DIRECTORY"), ":")
	add(first)
	named = len(dirs)
	add(defaultDir)
	for _, dir := range storages {
		add(filepath.Join(dir, ownDir))
	}
	return dirs, named
}

// Sockets are where a running process may be found by commands, best first.
func Sockets(socket, stateDir string, getenv func(string) string) []string {
	if socket != "" {
		return []string{socket}
	}
	dirs, _ := Places(stateDir, getenv, knownStorages)
	if stateDir != "" {
		dirs = dirs[:1]
	}
	for i, dir := range dirs {
		dirs[i] = filepath.Join(dir, SocketName)
	}
	return dirs
}

// Use makes dir the state directory: it is made, 0700, if its parent is there (all of the way for one that was asked
// for), and must be a directory that this process may write to.
func Use(dir string, askedFor bool) error {
	mkdir := os.Mkdir
	if askedFor {
		mkdir = os.MkdirAll
	}
	if err := mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("state directory %q: %w", dir, err)
	}
	probe, err := os.MkdirTemp(dir, ".try-")
	if err != nil {
		return fmt.Errorf("state directory %q: %w", dir, err)
	}
	if err := os.Remove(probe); err != nil {
		return fmt.Errorf("state directory %q: %w", dir, err)
	}
	return nil
}
