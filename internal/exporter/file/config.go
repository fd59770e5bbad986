// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/collector/config/configcompression"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/exporter/file/vault"
)

// Config is a file block. Keys and formats are those of the Collector's file exporter.
type Config struct {
	Path   string `mapstructure:"path"`
	Format string `mapstructure:"format"` // json, proto
	// Compression is empty, none or zstd; with zstd records of both formats are length-prefixed.
	Compression       string                              `mapstructure:"compression"`
	CompressionParams configcompression.CompressionParams `mapstructure:"compression_params"`
	// Append continues an existing file. Without it the file is renamed aside at start; nothing is ever truncated.
	Append bool `mapstructure:"append"`
	// Rotation is on when the key is there.
	Rotation configoptional.Optional[Rotation] `mapstructure:"rotation"`
	// FlushInterval is how long a record may wait for its sync at most, where an answer waits for that. The writer
	// syncs as soon as it can, one sync for all that wait, and holds nothing back.
	FlushInterval        time.Duration `mapstructure:"flush_interval"`
	CreateDirectory      bool          `mapstructure:"create_directory"`
	DirectoryPermissions string        `mapstructure:"directory_permissions"` // octal

	// Synced makes Send answer only after fdatasync. It is not a key: whoever builds the pipeline sets it for an
	// exporter behind a journal.
	Synced bool `mapstructure:"-"`
}

// Emergency returns the settings of a vault for the file; false if the path cannot be one. most bounds its bytes, 0 = by
// rotation.
func (c *Config) Emergency(most int64, log *zap.Logger) (vault.Settings, bool) {
	if !newNames(c.Path, false).isFile() {
		return vault.Settings{}, false
	}
	r := c.rotation()
	s := vault.Settings{
		Path: c.Path, Framed: c.framed(), Append: c.Append, MaxFile: int64(r.MaxMegabytes) * megabyte,
		Pad: c.padding(), MaxBackups: r.MaxBackups, MaxAge: time.Duration(r.MaxDays) * 24 * time.Hour, LocalTime: r.LocalTime, Cap: most,
		Log: log,
	}
	if s.Cap == 0 && s.MaxFile > 0 && s.MaxBackups > 0 {
		s.Cap = s.MaxFile * int64(s.MaxBackups+1)
	}
	if mode, err := c.directoryMode(); err == nil && c.CreateDirectory {
		s.DirMode = mode
	}
	return s, true
}

// Rotation bounds one file and what is kept of it.
type Rotation struct {
	MaxMegabytes int  `mapstructure:"max_megabytes"` // of 10^6 bytes
	MaxDays      int  `mapstructure:"max_days"`      // 0 = no end
	MaxBackups   int  `mapstructure:"max_backups"`   // 0 = all
	LocalTime    bool `mapstructure:"localtime"`
}

// The words of the keys.
const (
	formatJSON  = "json"
	formatProto = "proto"
	zstdWord    = "zstd"
)

// Default returns the settings of an empty block.
func Default() *Config {
	return &Config{
		Format:               formatJSON,
		Append:               true,
		Rotation:             configoptional.Default(Rotation{MaxMegabytes: 100, MaxBackups: 100}),
		FlushInterval:        time.Second,
		CreateDirectory:      true,
		DirectoryPermissions: "0755",
	}
}

// Validate implements confmap.Validator.
func (c *Config) Validate() error {
	var errs []error
	if c.Path == "" {
		errs = append(errs, errors.New("`path` is required"))
	}
	if strings.HasSuffix(c.Path, "/") {
		errs = append(errs, fmt.Errorf("`path` %q is a directory; a file is needed", c.Path))
	}
	if c.Format != formatJSON && c.Format != formatProto {
		errs = append(errs, fmt.Errorf("`format` %q is none of json, proto", c.Format))
	}
	switch c.Compression {
	case "", "none", zstdWord:
	default:
		errs = append(errs, fmt.Errorf("`compression` %q is none of zstd, none", c.Compression))
	}
	if c.FlushInterval <= 0 {
		errs = append(errs, errors.New("`flush_interval` must be positive"))
	}
	if _, err := c.directoryMode(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Validate implements confmap.Validator.
func (r *Rotation) Validate() error {
	if r.MaxMegabytes < 0 || r.MaxDays < 0 || r.MaxBackups < 0 {
		return errors.New("`max_megabytes`, `max_days` and `max_backups` must not be negative")
	}
	return nil
}

// Writes are the files that Start opens, by key.
func (c *Config) Writes() map[string]string { return map[string]string{"path": c.Path} }

func (c *Config) directoryMode() (fs.FileMode, error) {
	mode, err := strconv.ParseUint(c.DirectoryPermissions, 8, 32)
	if err != nil || mode == 0 || mode&^0o777 != 0 {
		return 0, fmt.Errorf("`directory_permissions` %q is not an octal mode like 0755", c.DirectoryPermissions)
	}
	if mode&0o300 != 0o300 {
		return 0, fmt.Errorf("`directory_permissions` %q keeps the owner out", c.DirectoryPermissions)
	}
	return fs.FileMode(mode), nil
}

// framed reports whether records are length-prefixed.
func (c *Config) framed() bool { return c.Format == formatProto || c.compressed() }

func (c *Config) compressed() bool { return c.Compression == zstdWord }
