// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const diskConfig = `exporters:
  otlp: {endpoint: "$BACKEND", tls: {insecure: true}, ` + retries + `, sending_queue: {storage: file_storage, queue_size: 100000}}
extensions: {file_storage: {directory: "$DIR/queue", max_file_size_mib: 24, min_free_mib: 1, tail_cache_mib: 1}}
service:
  extensions: [file_storage]
  pipelines: {traces: {receivers: [otlp], exporters: [otlp]}}
`

func capped(c *collector) error { return start(c, diskConfig, "backend") }

// roomy has so large a cap that one more segment of 4 MiB is no trend.
var roomy = strings.Replace(diskConfig, "max_file_size_mib: 24", "max_file_size_mib: 512", 1)

func ample(c *collector) error { return start(c, roomy, "backend") }

// playDamage: a byte of what waits on disk turns over while nobody looks.
func playDamage(c *collector) error {
	return inOrder(
		func() error { return c.fault(40, "backend "+refuses, "refuse") },
		func() error { return c.at(50, "stopped") },
		func() error { return c.end(syscall.SIGTERM) },
		func() error { return c.at(52, "damaged and started") },
		func() error { return turnByte(filepath.Join(c.dir, "queue")) },
		func() error { return c.begin("") },
		func() error { return c.fault(60, "backend "+answers) },
	)
}

// turnByte turns over a byte of the largest segment.
func turnByte(dir string) error {
	var largest string
	var size int64
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".seg" {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Size() > size {
			largest, size = path, info.Size()
		}
		return err
	})
	if err != nil || largest == "" {
		return fmt.Errorf("no segment below %s: %w", dir, err)
	}
	text, err := os.ReadFile(largest)
	if err != nil {
		return err
	}
	// Segments are as long as they may grow; what is written ends with the last byte that is not 0.
	end := len(text)
	for end > 0 && text[end-1] == 0 {
		end--
	}
	text[end-end/8] ^= 0xff // late enough to be waiting, early enough to be no tear
	return os.WriteFile(largest, text, 0o600)
}

// playDetached: the directory is moved away under the process, and put back.
func playDetached(c *collector) error {
	queue := filepath.Join(c.dir, "queue")
	return inOrder(
		func() error { return c.at(40, "directory moved") },
		func() error { return os.Rename(queue, queue+".moved") },
		func() error { return c.at(80, "directory back, restarted") },
		func() error { return os.Rename(queue+".moved", queue) },
		func() error { return c.end(syscall.SIGTERM) },
		func() error { return c.begin("") },
	)
}

func onOwnDisk(c *collector) error {
	if err := c.ownDisk(); err != nil {
		return err
	}
	return ample(c)
}

// playSlow: every sync takes three seconds.
func playSlow(c *collector) error {
	return inOrder(
		func() error { return c.at(40, "disk slow") },
		func() error { c.disk.SetDelay(3 * time.Second); return nil },
		func() error { return c.at(90, "disk fast") },
		func() error { c.disk.SetDelay(0); return nil },
	)
}

// playOneSync: the disk fails one sync of a segment.
func playOneSync(c *collector) error {
	return inOrder(
		func() error { return c.at(40, "one sync fails") },
		func() error { c.disk.FailSyncs(1, ".seg"); return nil },
	)
}

// playBroken: the disk fails every sync.
func playBroken(c *collector) error {
	return inOrder(
		func() error { return c.at(40, "disk fails") },
		func() error { c.disk.FailSyncs(-1, ""); return nil },
		func() error { return c.at(80, "disk mended") },
		func() error { c.disk.FailSyncs(0, ""); return nil },
	)
}
