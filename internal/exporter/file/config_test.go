// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package file_test

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/file"
)

func TestAnEmptyBlockHasTheDocumentedDefaults(t *testing.T) {
	f := file.Factory()
	c := f.Default().(*file.Config)
	if c.Format != "json" || !c.Append || !c.CreateDirectory || c.DirectoryPermissions != "0755" ||
		c.FlushInterval != time.Second || c.Rotation.HasValue() || c.Synced {
		t.Errorf("defaults %+v", c)
	}
	if f.Queue != exporter.QueueImplied {
		t.Error("no queue is implied")
	}
	mustUnmarshal(t, c, map[string]any{"path": "/x", "rotation": nil})
	if !c.Rotation.HasValue() {
		t.Error("the key without a value does not turn rotation on")
	}
	mustUnmarshal(t, c, map[string]any{"rotation": map[string]any{"max_days": 7}})
	r := c.Rotation.Get()
	if r == nil || r.MaxMegabytes != 100 || r.MaxBackups != 100 || r.MaxDays != 7 || r.LocalTime {
		t.Errorf("rotation %+v", r)
	}
}

func TestWrongSettingsAreNamed(t *testing.T) {
	for want, change := range map[string]func(*file.Config){
		"`path`":                  func(c *file.Config) { c.Path = "" },
		"`format` \"xml\"":        func(c *file.Config) { c.Format = "xml" },
		"`compression` \"gzip\"":  func(c *file.Config) { c.Compression = "gzip" },
		"`flush_interval`":        func(c *file.Config) { c.FlushInterval = 0 },
		"`directory_permissions`": func(c *file.Config) { c.DirectoryPermissions = "rwx" },
		"keeps the owner out":     func(c *file.Config) { c.DirectoryPermissions = "0055" },
		"not an octal mode":       func(c *file.Config) { c.DirectoryPermissions = "01777" },
	} {
		err := config("/x", change).Validate()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if err := (&file.Rotation{MaxDays: -1}).Validate(); err == nil {
		t.Error("negative days")
	}
	if err := config("/x", nil).Validate(); err != nil {
		t.Error(err)
	}
}
