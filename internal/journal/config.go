// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"time"
)

// Config is a file_storage block (journal, section 10). Sizes that are 0 are taken from the volume at start.
type Config struct {
	Directory            string `mapstructure:"directory"`
	CreateDirectory      bool   `mapstructure:"create_directory"`      // at start, with its parents
	DirectoryPermissions string `mapstructure:"directory_permissions"` // octal
	// FSync answers only after the group commit's sync; without it after the write, synced within 200 ms.
	FSync bool `mapstructure:"fsync"`
	// Timeout bounds the wait for the directory's lock, nothing else.
	Timeout time.Duration `mapstructure:"timeout"`
	// MaxFileSizeMiB caps the allocated bytes of everything under Directory; 0 = 80 % of the volume.
	MaxFileSizeMiB int64 `mapstructure:"max_file_size_mib"`
	// MaxSize caps one journal, in bytes; 0 = none.
	MaxSize int64 `mapstructure:"max_size"`
	// MinFreeMiB is never used up on the volume; 0 = 5 % of it, within 16 and 1,024 MiB.
	MinFreeMiB int64 `mapstructure:"min_free_mib"`
	// Overflow is refuse or drop_oldest, at a byte limit.
	Overflow string `mapstructure:"overflow"`
	// ParkedHold is how long data of a destination that left the configuration is never given up.
	ParkedHold time.Duration `mapstructure:"parked_hold"`
	// TailCacheMiB bounds what is kept in memory of what was just written.
	TailCacheMiB int64 `mapstructure:"tail_cache_mib"`

	// Recreate and Compaction are the Collector's; the journal needs neither, and they have no effect.
	Recreate   bool       `mapstructure:"recreate"`
	Compaction Compaction `mapstructure:"compaction"`
}

// Compaction is accepted without effect.
type Compaction struct {
	OnStart                    bool          `mapstructure:"on_start"`
	OnRebound                  bool          `mapstructure:"on_rebound"`
	Directory                  string        `mapstructure:"directory"`
	ReboundNeededThresholdMiB  int64         `mapstructure:"rebound_needed_threshold_mib"`
	ReboundTriggerThresholdMiB int64         `mapstructure:"rebound_trigger_threshold_mib"`
	MaxTransactionSize         int64         `mapstructure:"max_transaction_size"`
	CheckInterval              time.Duration `mapstructure:"check_interval"`
	CleanupOnStart             bool          `mapstructure:"cleanup_on_start"`
}

// DefaultDirectory is the Collector's.
const DefaultDirectory = "/var/lib/otelcol/file_storage"

const (
	maxMiB     = 1 << 40  // so that bytes fit in 63 bits, with room for sums
	minMaxSize = 16 << 20 // what a journal needs of a directory, too
)

// What happens at a byte limit.
const (
	overflowRefuse     = "refuse"
	overflowDropOldest = "drop_oldest"
)

// Default returns the defaults. fsync is on, unlike the Collector's: an acknowledgement should outlive a power cut.
func Default() any {
	return &Config{
		Directory:            DefaultDirectory,
		CreateDirectory:      true,
		DirectoryPermissions: "0750",
		FSync:                true,
		Timeout:              10 * time.Second,
		Overflow:             overflowRefuse,
		ParkedHold:           72 * time.Hour,
		TailCacheMiB:         32,
	}
}

// Validate implements confmap.Validator. Whether the cap is enough for the journals there are is checked where the
// plan is made.
func (c *Config) Validate() error {
	var errs []error
	if c.Directory == "" {
		errs = append(errs, errors.New("`directory` must not be empty"))
	}
	if _, err := c.Mode(); err != nil {
		errs = append(errs, err)
	}
	if c.Timeout < 0 || c.ParkedHold < 0 {
		errs = append(errs, errors.New("`timeout` and `parked_hold` must not be negative"))
	}
	if c.MaxFileSizeMiB < 0 || c.MaxSize < 0 || c.MinFreeMiB < 0 || c.TailCacheMiB < 0 {
		errs = append(errs, errors.New(
			"`max_file_size_mib`, `max_size`, `min_free_mib` and `tail_cache_mib` must not be negative"))
	}
	for _, size := range []struct {
		key string
		mib int64
	}{{"max_file_size_mib", c.MaxFileSizeMiB}, {"min_free_mib", c.MinFreeMiB}, {"tail_cache_mib", c.TailCacheMiB}} {
		if size.mib > maxMiB {
			errs = append(errs, fmt.Errorf("`%s` %d is more than any disk has; it counts MiB", size.key, size.mib))
		}
	}
	if c.MaxSize > 0 && c.MaxSize < minMaxSize {
		errs = append(errs, fmt.Errorf("`max_size` %d is less than one journal needs, %d; it counts bytes", c.MaxSize, minMaxSize))
	}
	if c.Overflow != overflowRefuse && c.Overflow != overflowDropOldest {
		errs = append(errs, fmt.Errorf("`overflow` %q is none of refuse, drop_oldest", c.Overflow))
	}
	return errors.Join(errs...)
}

// Mode is DirectoryPermissions as a file mode.
func (c *Config) Mode() (fs.FileMode, error) {
	mode, err := strconv.ParseUint(c.DirectoryPermissions, 8, 32)
	if err != nil || mode == 0 || mode&^0o777 != 0 {
		return 0, fmt.Errorf("`directory_permissions` %q is not an octal mode like 0750", c.DirectoryPermissions)
	}
	if mode&0o700 != 0o700 {
		return 0, fmt.Errorf("`directory_permissions` %q keeps the owner out", c.DirectoryPermissions)
	}
	return fs.FileMode(mode), nil
}

// Caps tells whoever plans and explains what bounds the disk: the directory, the cap on it in bytes (0 = by the
// volume) and whether an answer waits for the disk.
func (c *Config) Caps() (directory string, maxBytes int64, synced bool) {
	return filepath.Clean(c.Directory), c.MaxFileSizeMiB << 20, c.FSync
}
