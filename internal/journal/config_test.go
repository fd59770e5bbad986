// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal"
)

func TestDefaultsAreValidAndSafe(t *testing.T) {
	c := journal.Default().(*journal.Config)
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	dir, limit, synced := c.Caps()
	if dir != "/var/lib/otelcol/file_storage" || limit != 0 || !synced {
		t.Errorf("directory %q, cap %d, synced %v", dir, limit, synced)
	}
	if mode, err := c.Mode(); err != nil || mode != 0o750 {
		t.Errorf("mode %o, %v", mode, err)
	}
	if !c.CreateDirectory || c.Timeout != 10*time.Second || c.Overflow != "refuse" || c.ParkedHold != 72*time.Hour {
		t.Errorf("defaults %+v", c)
	}
}

func TestWrongValuesAreRefusedByName(t *testing.T) {
	refused := func(want string, change func(*journal.Config)) {
		t.Helper()
		c := journal.Default().(*journal.Config)
		change(c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to name %s", err, want)
		}
	}
	refused("`directory`", func(c *journal.Config) { c.Directory = "" })
	refused("not an octal mode", func(c *journal.Config) { c.DirectoryPermissions = "rwx" })
	refused("not an octal mode", func(c *journal.Config) { c.DirectoryPermissions = "1777" })
	refused("keeps the owner out", func(c *journal.Config) { c.DirectoryPermissions = "0550" })
	refused("`overflow`", func(c *journal.Config) { c.Overflow = "drop" })
	refused("`timeout`", func(c *journal.Config) { c.Timeout = -1 })
	refused("`max_file_size_mib`", func(c *journal.Config) { c.MaxFileSizeMiB = -1 })
}
